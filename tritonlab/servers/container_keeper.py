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
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tritonlab.errors import DockerError, TritonlabError
from tritonlab.servers import engines, leftovers
from tritonlab.servers.command import DockerRun
from tritonlab.servers.keeper import LOOK_EVERY_S, STOP_WAIT_S, parent_is_gone

if TYPE_CHECKING:
    from docker.models.containers import Container

LABEL = "tritonlab.server"
"""Each container and volume of ours carries this label, with the server's id."""


def main(folder: Path, parent: int) -> int:
    told_to_stop: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told_to_stop.append(True))
    record = folder / "keeper.json"
    leftovers.write(record, {"pid": os.getpid(), "container": True})
    ended: dict[str, object] = {"code": None}
    is_removed = True
    try:
        order = json.loads(sys.stdin.readline() or "null")
        if order is not None:  # the parent was gone before it had said what it wants
            with engines.connect() as engine:
                is_removed = False
                try:
                    ended |= _hold(engine, order, folder, lambda: told_to_stop or parent_is_gone(parent))
                finally:
                    remove(engine, folder.name)
                    is_removed = True
    except TritonlabError as error:
        ended |= {"what": error.what, "fix": error.fix}
    except Exception as error:
        ended |= {"what": f"The keeper of the container failed: {type(error).__name__}: {error}", "fix": "Report this."}
    finally:
        if "what" in ended:
            with (folder / "server.log").open("ab") as log:
                log.write(f"{ended['what']}\n".encode())
        leftovers.write(folder / "exit.json", ended)
        if is_removed:  # else the record stays: it tells that a container is left
            record.unlink()
    return 0


def _hold(
    engine: engines.DockerEngine, order: Mapping[str, Any], folder: Path, is_told_to_stop: Callable[[], object]
) -> dict[str, object]:
    """Create and start the container, copy its log, and stop it when told to; how it ended."""
    container = _create(engine, DockerRun.of(order["words"]), order["environment"])
    with engines.explained():
        container.start()
        container.reload()
    leftovers.write(folder / "container.json", {"id": container.id, "ports": container.ports})
    with (folder / "server.log").open("ab") as log:
        copier = threading.Thread(target=_copy_log, args=(container, log), daemon=True)
        copier.start()
        while copier.is_alive() and not is_told_to_stop():
            pass
        with engines.explained():
            container.stop(timeout=int(STOP_WAIT_S))
        copier.join(STOP_WAIT_S)
    return _state(container)


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
    """Copy what is in a folder of this machine into a folder of the container; what is there besides stays.

    Raises:
        DockerError: a file cannot be read, or Docker refuses.
    """

    def readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mode |= 0o555 if member.isdir() else 0o444  # the container's user is another
        return member

    with tempfile.TemporaryFile() as archive:
        try:
            with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
                tar.add(source, arcname=".", filter=readable)
        except OSError as error:
            raise DockerError(f"{source} cannot be copied to the engine: {error}.", "Mend the rights there.") from None
        archive.seek(0)
        with engines.explained():
            container.put_archive(target, archive)


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
    """Write the container's log until it has ended; a stream that broke off is taken up again."""
    since = None
    while True:
        with suppress(TritonlabError), engines.explained():
            for chunk in container.logs(stream=True, follow=True, since=since):
                log.write(chunk)
                log.flush()
        since = int(time.time())
        try:
            with engines.explained():
                container.reload()
        except TritonlabError as error:
            log.write(f"The container is lost from sight. {error.what}\n".encode())
            return
        if container.status not in {"created", "running", "paused"}:
            return
        time.sleep(LOOK_EVERY_S)


def _state(container: Container) -> dict[str, object]:
    with suppress(TritonlabError), engines.explained():
        container.reload()
        state = container.attrs["State"]
        return {"code": state["ExitCode"], "out_of_memory": state.get("OOMKilled", False)}
    return {}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
