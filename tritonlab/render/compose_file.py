"""compose.yaml: replicas of a server on one host behind HAProxy, each the `docker run` command as a service."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tritonlab.render import serving
from tritonlab.render.serving import EXIT_TIMEOUT_S, Serving, at_least
from tritonlab.rendered import Rendered, as_yaml
from tritonlab.servers import docker, load_balancer, ports

NAME = "compose.yaml"
BALANCER = "haproxy:3.0"
# Docker's own name server, on the network that compose makes.
RESOLVER = "127.0.0.11:53"
# Weights may have to be downloaded first.
START_S = 1_800


def compose(
    repository: str | os.PathLike[str],
    models: Iterable[str] | None = None,
    *,
    image: str | None = None,
    replicas: int = 2,
    gpus: int | None = None,
    port: int = 8000,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Rendered:
    """compose.yaml and haproxy.cfg for some replicas on one host, published on loopback.

    Args:
        repository, models, image, arguments, environment: as those of `serve`.
        replicas: servers; the first takes the first GPUs of the host, the second the next ones, and so on.
        gpus: GPUs of a replica; by default as many as the models ask for, with the CPU image none.
        port: where HAProxy is published.

    Raises:
        TritonlabError: the repository or a model is not there, a number is out of range, or a value is a secret.
    """
    import yaml

    at_least(1, replicas=replicas)
    ports.check({"http": port}, is_here=False)
    served = Serving.of(repository, models, image, gpus, 1, arguments, environment)
    names = [f"triton{number}" for number in range(1, replicas + 1)]
    content: dict[str, Any] = {"services": {}, "volumes": {}}
    for number, name in enumerate(names):
        one = yaml.safe_load(_replica(served, number).compose(name))
        one["services"][name] |= _supervision(served)
        content["services"] |= one["services"]
        content["volumes"] |= one.get("volumes", {})
    content["services"]["haproxy"] = _balancer(names, port)
    config = load_balancer.haproxy(
        {name: f"{name}:{docker.PORTS['http']}" for name in names},
        port=docker.PORTS["http"],
        model=served.models,
        address="*",
        resolver=RESOLVER,
    )
    return Rendered({NAME: as_yaml([content]), **config.files}, tuple(serving.notes(served)))


def _replica(served: Serving, number: int) -> Any:
    """The `docker run` command of a replica, with GPUs of its own."""
    first = number * served.gpus
    devices = ",".join(str(device) for device in range(first, first + served.gpus))
    options = [("--gpus", f"device={devices}")] if served.gpus else []
    mount = docker.bind(served.repository.resolve(), docker.MODELS)
    return served.docker([mount], [*options, ("--restart", "unless-stopped")])


def _supervision(served: Serving) -> dict[str, Any]:
    url = f"http://localhost:{docker.PORTS['http']}/v2/models/{served.models[0]}/ready"
    # Python is in every image that has a Python backend; curl need not be.
    test = ["CMD", "python3", "-c", f"import urllib.request as r; r.urlopen({url!r}, timeout=4)"]
    return {
        "healthcheck": {
            "test": test, "interval": "10s", "timeout": "5s", "retries": 3,
            "start_period": f"{START_S}s", "start_interval": "2s",
        },
        # Docker kills what has not ended by then; tritonserver waits for the requests in work.
        "stop_grace_period": f"{EXIT_TIMEOUT_S + 15}s",
    }  # fmt: skip


def _balancer(names: Sequence[str], port: int) -> dict[str, Any]:
    mount = {
        "type": "bind", "source": f"./{load_balancer.NAME}", "target": f"/usr/local/etc/haproxy/{load_balancer.NAME}",
        "read_only": True,
    }  # fmt: skip
    return {
        "image": BALANCER,
        "depends_on": {name: {"condition": "service_started"} for name in names},
        "ports": [f"{ports.HOST}:{port}:{docker.PORTS['http']}"],
        "volumes": [mount],
        "restart": "unless-stopped",
    }
