"""haproxy.cfg: several Triton servers behind one address, where a request that has got no answer yet goes to another.

HAProxy 2.6's configuration manual is what the keywords were taken from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tritonlab.errors import TritonlabError
from tritonlab.rendered import Rendered
from tritonlab.servers import ports
from tritonlab.vllm import check_name

NAME = "haproxy.cfg"
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]|\*")

HEAD = """\
global
    log stdout format raw local0
    maxconn {maxconn}
    # A request is sent anew only while a buffer holds all of it: this bounds the prompts for which that works.
    tune.bufsize {bufsize}

defaults
    mode http
    log global
    option httplog
    timeout connect 2s
    timeout http-request 30s
    # Silence, not length: a stream may last for hours, and the wait for a first token counts.
    timeout client {silence_s}s
    timeout server {silence_s}s
    timeout queue {silence_s}s
    retries {retries}
    # Each retry goes to another server; without the number only the last one would.
    option redispatch 1
    # A client that has gone frees its place.
    option abortonclose
"""
FRONT = """
frontend {name}
    bind {address}:{port}{protocol}
    default_backend {name}_replicas
"""
BACK = """
backend {name}_replicas
    # Requests last for seconds, and not equally many: turns would pile them up.
    balance leastconn
"""
RETRY = """\
    # The whole request first, so that it can be sent again.
    option http-buffer-request
    # Each of these says that no token has left: refused, closed without a byte, or "I am about to exit".
    # A generation changes nothing on the server, so a POST may be sent twice. What streams already is never retried.
    retry-on conn-failure empty-response 503
    # Loading and unloading would reach one replica only.
    http-request deny deny_status 403 if { path_reg ^/v2/repository(/[^/]+)?/models/[^/]+/(load|unload)$ }
"""
GRPC = """\
    # Loading and unloading would reach one replica only.
    http-request deny deny_status 403 if { path_end /RepositoryModelLoad /RepositoryModelUnload }
"""


def haproxy(
    servers: Mapping[str, str] | Sequence[str],
    *,
    port: int = 8080,
    model: str | Sequence[str] = (),
    address: str = ports.HOST,
    grpc: Mapping[str, str] | Sequence[str] = (),
    grpc_port: int = 8081,
    silence_s: int = 600,
    retries: int = 3,
    bufsize: int = 131_072,
    maxconn: int = 2_000,
    resolver: str = "",
) -> Rendered:
    """haproxy.cfg for some Triton servers.

    Args:
        servers: their HTTP addresses, "host:port", by name or in a row.
        port, address: where it listens; by default on loopback alone.
        model: the models that a server must have ready to get requests.
        grpc, grpc_port: the same for gRPC; as many and as named as `servers`. Streams are spread, calls not retried.
        silence_s: seconds without a byte after which a connection is given up.
        retries: how often a request that has got no answer is sent anew.
        bufsize: bytes of a request, headers included, that can be sent anew; two such buffers to a connection.
        maxconn: connections of clients at a time.
        resolver: a name server, "host:port", that is asked again when a server's name leads elsewhere.

    Raises:
        TritonlabError: no server, an address that is none, a name or port twice, or a number out of range.
    """
    backends, grpc_backends = _named(servers, "servers"), _named(grpc, "grpc")
    models = [check_name(name) for name in ([model] if isinstance(model, str) else model)]
    if not backends:
        raise TritonlabError("haproxy has no server to send requests to.", 'Name some: ["127.0.0.1:8000"].')
    ports.check({"http": port, **({"grpc": grpc_port} if grpc_backends else {})}, is_here=False)
    if grpc_backends and set(grpc_backends) != set(backends):
        raise TritonlabError(
            f"The gRPC addresses are of {', '.join(grpc_backends)} and the HTTP addresses of {', '.join(backends)}.",
            "Give both for each server: readiness is asked over HTTP.",
        )
    if not HOST.fullmatch(address):
        raise TritonlabError(f"{address!r} is no address to listen on.", "Write 127.0.0.1, say.")
    for name, value, least in (("silence_s", silence_s, 1), ("retries", retries, 0), ("bufsize", bufsize, 16_384),
                               ("maxconn", maxconn, 1)):  # fmt: skip
        if type(value) is not int or value < least:
            raise TritonlabError(f"{name} is {value!r}.", f"Give a whole number, {least} or more.")
    text = HEAD.format(silence_s=silence_s, retries=retries, bufsize=bufsize, maxconn=maxconn)
    if resolver:
        _address(resolver)
        text += f"\nresolvers names\n    nameserver first {resolver}\n    hold valid 5s\n"
    text += FRONT.format(name="http", address=address, port=port, protocol="")
    text += BACK.format(name="http") + RETRY + _checks(models) + _servers(backends, bool(resolver))
    if grpc_backends:
        text += FRONT.format(name="grpc", address=address, port=grpc_port, protocol=" proto h2")
        text += BACK.format(name="grpc") + GRPC + _checks(models)
        text += _grpc_servers(grpc_backends, backends, bool(resolver))
    return Rendered({NAME: text})


def _named(servers: Mapping[str, str] | Sequence[str], what: str) -> dict[str, str]:
    if isinstance(servers, str):
        raise TritonlabError(f"{what} is the text {servers!r}.", f'Give a list, e.g. ["{servers}"].')
    named = dict(servers) if isinstance(servers, Mapping) else {f"triton{i}": a for i, a in enumerate(servers, 1)}
    for name, address in named.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise TritonlabError(f"{name!r} cannot be a server's name.", "Use letters, digits, '_', '-' and '.'.")
        named[name] = _address(address)
    if len(set(named.values())) < len(named):
        raise TritonlabError(f"An address stands twice in {what}: {', '.join(named.values())}.", "Name each once.")
    return named


def _address(text: str) -> str:
    """host:port of an address, which may be a URL's."""
    host, _, port = str(text).removeprefix("http://").rstrip("/").rpartition(":")
    if not HOST.fullmatch(host) or host == "*" or not port.isdigit() or not 0 < int(port) < 65_536:
        raise TritonlabError(f"{text!r} is no address of a server.", 'Write "host:port", e.g. "127.0.0.1:8000".')
    return f"{host}:{int(port)}"


def _checks(models: Sequence[str]) -> str:
    """Ask each second whether the server, and then each model, is ready."""
    lines = ["    option httpchk"]
    for path in ("/v2/health/ready", *(f"/v2/models/{model}/ready" for model in models)):
        lines += [
            "    http-check connect",
            f"    http-check send meth GET uri {path}",
            "    http-check expect status 200",
        ]
    return "\n".join([*lines, "    default-server check inter 1s fastinter 250ms fall 2 rise 2\n"])


def _servers(backends: Mapping[str, str], is_asked_again: bool) -> str:
    lookup = " resolvers names init-addr last,libc,none" if is_asked_again else ""
    return "".join(f"    server {name} {address}{lookup}\n" for name, address in backends.items())


def _grpc_servers(grpc: Mapping[str, str], http: Mapping[str, str], is_asked_again: bool) -> str:
    lookup = " resolvers names init-addr last,libc,none" if is_asked_again else ""
    return "".join(
        f"    server {name} {address} proto h2 check-proto h1 port {http[name].rpartition(':')[2]}{lookup}\n"
        for name, address in grpc.items()
    )
