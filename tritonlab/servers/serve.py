"""`serve`: one call for every target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tritonlab.errors import TritonlabError
from tritonlab.servers.base import Server

TARGETS = ("local", "docker", "auto")


def resolved(target: str) -> str:
    """The target that "auto" stands for: `$TRITONLAB_TARGET` if it is set, else "local"."""
    if target != "auto":
        return target
    wanted = os.environ.get("TRITONLAB_TARGET", "")
    return "local" if wanted in ("", "auto") else wanted


def serve(
    repository: str | os.PathLike[str],
    models: Iterable[str] | None = None,
    target: str = "auto",
    *,
    ports: Mapping[str, int] | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    log: str | os.PathLike[str] | None = None,
    image: str | None = None,
    trace: bool = False,
) -> Server:
    """Start a Triton server on a model repository, or get hold of one that runs.

    Args:
        repository: a `ModelRepository` or the path of one.
        models: names to load at the start; None loads every model, an empty list none.
        target: "local" for the engine on this machine, "docker" for a container, "http://host:port" for a server that
            already runs, "auto" for `$TRITONLAB_TARGET` if it is set and "local" if not.
        ports: any of "http", "grpc" and "metrics" -> port; free ones are chosen for the rest.
        arguments: further options for `tritonserver`, e.g. ["--exit-on-error=false"]; they replace ours.
        environment: further variables for the server's process.
        log: a file to append the server's log to; by default the log is kept in the user's tritonlab folder.
        image: on the docker target, the image to run; by default NVIDIA's newest if the engine has GPUs, else the CPU
            image, which is built if need be.
        trace: whether `server.trace()` shall be able to follow requests through the models.

    Raises:
        DockerError: no engine answers, or it refuses what the start needs.
        TritonlabError: the target is unknown, or a URL and more is asked for than to reach it; a port is taken, the
            repository is missing, the engine is not there, or an argument, a variable or the log's file cannot be used.
    """
    target = resolved(target)
    if target.startswith(("http://", "https://")):
        from tritonlab.servers.remote import RemoteServer

        if ports or arguments or environment or log or image or trace:
            raise TritonlabError(
                f"The server at {target} was started by somebody else. Its ports, arguments, environment, log, image "
                "and trace are not ours to choose.",
                'Leave them out, or take the target "local" or "docker".',
            )

        return RemoteServer(target, models)
    if target == "local":
        from tritonlab.servers.local import LocalServer

        return LocalServer(Path(repository), models, ports or {}, arguments, environment or {}, log, trace=trace)
    if target == "docker":
        from tritonlab.progress_bar import Progress
        from tritonlab.servers.docker import DockerServer

        with Progress() as progress:
            return DockerServer(
                Path(repository), models, ports or {}, arguments, environment or {}, log, image, progress, trace=trace
            )
    raise TritonlabError(
        f"There is no target named {target!r}.",
        f'Use one of {", ".join(TARGETS)}, or a URL such as "http://host:8000".',
    )
