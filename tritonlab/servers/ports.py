"""Ports on loopback: chosen free, or refused early when taken.

Triton reports a taken HTTP or metrics port only after the models are loaded, so we look first.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping

from tritonlab.errors import TritonlabError

SERVICES = ("http", "grpc", "metrics")
HOST = "127.0.0.1"
# Below Linux's ephemeral range (32768 up), so that no outgoing connection takes one in between.
CHOICE = range(20_000, 30_000)


def check(wanted: Mapping[str, int], *, is_here: bool = True) -> dict[str, int]:
    """The wanted ports, if they can be had; whether they are free can be told of this machine's alone.

    Raises:
        TritonlabError: a service is unknown, or a wanted port is invalid or taken.
    """
    if unknown := set(wanted) - set(SERVICES):
        raise TritonlabError(
            f"Triton has no service named {', '.join(sorted(unknown))}.",
            f"The services are {', '.join(SERVICES)}.",
        )
    if len(set(wanted.values())) < len(wanted):
        raise TritonlabError(f"Two services cannot share a port: {dict(wanted)}.", "Give each its own.")
    for service, port in wanted.items():
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:
            raise TritonlabError(f"{port!r} is no port for {service}.", "Ports are numbers from 1 to 65535.")
        if is_here and not is_free(port):
            raise TritonlabError(
                f"Port {port}, wanted for {service}, is taken on {HOST}.",
                f"See who holds it with `ss -ltnp sport = :{port}`, or leave the port out to get a free one.",
            )
    return dict(wanted)


def choose(wanted: Mapping[str, int]) -> dict[str, int]:
    """A port for each service: the wanted ones if they are free, free ones for the rest.

    Raises:
        TritonlabError: a service is unknown, or a wanted port is invalid or taken.
    """
    chosen = check(wanted)
    for service in SERVICES:
        while service not in chosen:
            port = random.choice(CHOICE)
            if port not in chosen.values() and is_free(port):
                chosen[service] = port
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        # As a server does: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
