"""The process between a notebook and its container: it outlives neither, and takes the container away at the end.

    python -m tritonlab.servers.container_keeper FOLDER PARENT_PID

The first line on standard input is JSON: "words", a `docker run` command, and "environment", what its variables stand
for. Then the input is a line to the parent, as the other keeper's is. FOLDER receives `server.log`, `keeper.json` while
the keeper lives, `container.json` with the container's id and ports, and `exit.json`: the exit code, whether memory was
the reason, and what Docker said if it refused.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tritonlab.errors import TritonlabError
from tritonlab.servers import engines, leftovers
from tritonlab.servers.command import DockerRun
from tritonlab.servers.keeper import STOP_WAIT_S, parent_is_gone

if TYPE_CHECKING:
    from docker.models.containers import Container

LABEL = "tritonlab.server"
"""Each container and volume of ours carries this label, with the server's id."""


def main(folder: Path, parent: int) -> int:
    told_to_stop: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told_to_stop.append(True))
    leftovers.write(folder / "keeper.json", {"pid": os.getpid()})
    ended: dict[str, object] = {"code": None}
    try:
        order = json.loads(sys.stdin.readline())
        engine = engines.connect()
        try:
            container = _create(engine, DockerRun.of(order["words"]), order["environment"])
            try:
                with engines.explained():
                    container.start()
                    container.reload()
                leftovers.write(folder / "container.json", {"id": container.id, "ports": container.ports})
                with (folder / "server.log").open("ab") as log:
                    copier = threading.Thread(target=_copy_log, args=(container, log), daemon=True)
                    copier.start()
                    while copier.is_alive() and not told_to_stop and not parent_is_gone(parent):
                        pass
                    with engines.explained():
                        container.stop(timeout=int(STOP_WAIT_S))
                    copier.join(STOP_WAIT_S)
            finally:
                ended |= _state(container)
        finally:
            remove(engine, folder.name)
    except TritonlabError as error:
        ended |= {"what": error.what, "fix": error.fix}
        with (folder / "server.log").open("ab") as log:
            log.write(f"{error.what}\n".encode())
    except ValueError:
        pass  # the parent was gone before it had said what it wants
    finally:
        leftovers.write(folder / "exit.json", ended)
        (folder / "keeper.json").unlink(missing_ok=True)
    return 0


def remove(engine: engines.DockerEngine, server_id: str) -> None:
    """Take away a server's container, whatever its state, and its volumes."""
    import docker.errors

    wanted: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={server_id}"}
    with engines.explained():
        for container in engine.client.containers.list(all=True, filters=wanted):
            with suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for volume in engine.client.volumes.list(filters=wanted):
            with suppress(docker.errors.NotFound):
                volume.remove(force=True)


def copy_in(container: Container, source: Path, target: str) -> None:
    """Copy what is in a folder of this machine into a folder of the container, which must be there."""
    import io
    import tarfile

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(source, arcname=".")
    with engines.explained():
        container.put_archive(target, archive.getvalue())


def _create(engine: engines.DockerEngine, run: DockerRun, environment: Mapping[str, str]) -> Container:
    arguments = run.sdk_arguments({**os.environ, **environment})
    server_id = arguments["labels"][LABEL]
    copied = _as_volumes(engine, arguments.get("mounts", []), server_id) if engine.is_remote else []
    with engines.explained():
        container = engine.client.containers.create(**arguments)
    for source, target in copied:
        copy_in(container, Path(source), target)
    return container


def _as_volumes(
    engine: engines.DockerEngine, mounts: Iterable[dict[str, Any]], server_id: str
) -> list[tuple[str, str]]:
    """Let volumes stand for bind mounts; what is to be copied: (folder here, folder in the container)."""
    copied = []
    for number, mount in enumerate(mounts):
        if mount["Type"] == "bind":
            copied.append((mount["Source"], mount["Target"]))
            name = f"tritonlab-{server_id}-{number}"
            with engines.explained():
                engine.client.volumes.create(name, labels={LABEL: server_id})
            # Written to through the container, so it cannot be mounted read-only.
            mount |= {"Type": "volume", "Source": name, "ReadOnly": False}
    return copied


def _copy_log(container: Container, log: BinaryIO) -> None:
    # An engine that goes away ends the log, and with it the keeper.
    with suppress(Exception):
        for chunk in container.logs(stream=True, follow=True):
            log.write(chunk)
            log.flush()


def _state(container: Container) -> dict[str, object]:
    with suppress(TritonlabError), engines.explained():
        container.reload()
        state = container.attrs["State"]
        return {"code": state["ExitCode"], "out_of_memory": state.get("OOMKilled", False)}
    return {}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
