"""The Docker engine: found as the `docker` command finds it, and one step further; what it refuses is explained."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tritonlab import gpus
from tritonlab.errors import DockerError

if TYPE_CHECKING:
    import docker

TIMEOUT_S = 60
FIRST_ANSWER_S = 5


@dataclass(frozen=True)
class DockerEngine:
    """An engine that answers. A `with` block closes the connections to it.

    Attributes:
        client: the docker SDK's client for it.
        address: e.g. "unix:///var/run/docker.sock".
    """

    client: docker.DockerClient
    address: str

    def close(self) -> None:
        """Close the connections to it."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The address that published ports are reached at.

        Raises:
            DockerError: the engine's host has no address.
        """
        if not self.is_remote:
            return "127.0.0.1"
        name = urlsplit(self.address).hostname or ""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise DockerError(
                f"The engine's host {name!r} has no address: {error.strerror}.", "Name it by its number."
            ) from None
        address = str(found[4][0])
        return f"[{address}]" if found[0] == socket.AF_INET6 else address

    @property
    def is_remote(self) -> bool:
        """Whether it is reached over a network: a bind mount would then look for its folder on that host."""
        return not self.address.startswith(("unix:", "npipe:", "http+unix:"))

    @cached_property
    def info(self) -> dict[str, Any]:
        """What `docker info` tells."""
        with explained():
            found: dict[str, Any] = self.client.info()
        return found

    @property
    def version(self) -> str:
        return str(self.info.get("ServerVersion", "unknown"))

    @property
    def platform(self) -> str:
        """What --platform must say for Triton, which is made for x86-64 here; empty on an engine of that kind."""
        return "" if self.info.get("Architecture") in ("x86_64", "amd64") else "linux/amd64"

    @property
    def has_gpus(self) -> bool:
        """Whether it can show NVIDIA GPUs to a container: it has NVIDIA's runtime, or knows the devices through CDI.

        Docker Desktop lists the runtime on machines without a GPU too, and some versions do not where there is one: on
        this machine the driver decides as well.
        """
        devices = [str(device.get("ID", "")) for device in self.info.get("DiscoveredDevices") or ()]
        listed = "nvidia" in (self.info.get("Runtimes") or ()) or any("nvidia.com/gpu" in name for name in devices)
        if self.is_remote:
            return listed
        is_desktop = "Docker Desktop" in str(self.info.get("OperatingSystem"))
        return bool(gpus.driver()) and (listed or is_desktop)


def connect() -> DockerEngine:
    """The engine that $DOCKER_HOST, $DOCKER_CONTEXT or the current context names; else the first socket that answers.

    Raises:
        DockerError: none answers; says what was tried, and why it failed.
    """
    named = _named()
    if named:
        return _reach(*named)
    tried: list[DockerError] = []
    for address in _sockets():
        try:
            return _reach(address)
        except DockerError as error:
            tried.append(error)
    if tried:
        raise tried[0]
    raise DockerError(
        "No Docker engine was found: there is no socket at any of its usual places.",
        "Install Docker Engine, Docker Desktop or Podman and start it, or set DOCKER_HOST. Without one, the local "
        "target does.",
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Docker refuses inside the block into a DockerError with its cause and what to do."""
    import docker.errors
    import requests
    import urllib3

    try:
        yield
    except docker.errors.APIError as error:
        said = error.explanation or str(error)
        raise refusal(f"docker: Error response from daemon: {said}") from None
    except (
        docker.errors.DockerException, docker.errors.StreamParseError, requests.RequestException,
        urllib3.exceptions.HTTPError, OSError,
    ) as error:  # fmt: skip
        raise refusal(f"docker: {error}") from None


def fault_of(step: dict[str, Any]) -> str:
    """What went wrong in a step of a pull or a build, as the engine tells it; empty if nothing."""
    return str(step.get("error") or (step.get("errorDetail") or {}).get("message") or "")


def refusal(said: str) -> DockerError:
    """What Docker said, as an error with its cause and what to do, as far as the knowledge base knows them."""
    from tritonlab.logs import read_log

    findings = read_log([said]).findings
    if not findings:
        fix = "Docker's own log tells more: journalctl -u docker, or Docker Desktop's diagnostics."
        return DockerError(said, fix, said)
    fix = " ".join(filter(None, [findings[0].fix, findings[0].on.get("docker", "")]))
    return DockerError(f"{findings[0].title}. {said}", fix, said)


def _named() -> tuple[str, Any] | None:
    """The address that the user named, and its TLS settings."""
    import docker.errors
    from docker.context import ContextAPI
    from docker.context.config import get_current_context_name
    from docker.utils import kwargs_from_env

    if os.environ.get("DOCKER_HOST"):
        try:
            settings = kwargs_from_env()
        except (docker.errors.DockerException, OSError, ValueError) as error:
            raise DockerError(
                f"DOCKER_HOST and the variables beside it cannot be used: {error}",
                "Check DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.",
            ) from None
        return settings["base_url"], settings.get("tls", False)
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name in ("", "default"):
        return None
    try:
        context = ContextAPI.get_context(name)
    except Exception as error:  # the SDK raises a plain one for a file that it cannot read
        raise DockerError(f"The docker context {name!r} cannot be read: {error}.", "See docker context ls.") from None
    if context is None or not context.Host:
        raise DockerError(f"There is no docker context {name!r}.", "See docker context ls; docker context use default.")
    return context.Host, context.TLSConfig or False


def _sockets() -> Iterator[str]:
    """The sockets that are there, of those that engines have: Docker, rootless, Docker Desktop, Colima, Podman."""
    if sys.platform == "win32":
        yield "npipe:////./pipe/docker_engine"
        return
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    home = Path.home()
    for path in (
        Path("/var/run/docker.sock"),
        own / "docker.sock",
        home / ".docker" / "run" / "docker.sock",
        home / ".docker" / "desktop" / "docker.sock",
        home / ".colima" / "default" / "docker.sock",
        own / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    ):
        with suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                yield f"unix://{path}"


def _knock(address: str) -> None:
    """Raise OSError if nothing listens there; the SDK would raise too, and leave its socket open."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(FIRST_ANSWER_S)
            probe.connect(parts.path)
    elif parts.scheme == "tcp" and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or 2375), FIRST_ANSWER_S).close()


def _reach(address: str, tls: Any = False) -> DockerEngine:
    import docker
    import requests

    if address.startswith("ssh:"):
        raise DockerError(
            f"The engine at {address} is reached over ssh, and the ports of its containers would not come along.",
            "Run the course on that machine, or reach its engine by tcp:// with TLS.",
        )
    try:
        _knock(address)
        client = docker.DockerClient(base_url=address, tls=tls, timeout=FIRST_ANSWER_S)
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        failed = "Permission denied at" if "Permission denied" in str(error) else "Cannot connect to"
        raise refusal(f"docker: {failed} the Docker daemon at {address}: {error}") from None
    client.api.timeout = TIMEOUT_S
    return DockerEngine(client, address)
