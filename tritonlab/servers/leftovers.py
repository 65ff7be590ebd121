"""Find and end what a server left behind, whichever way it ended.

Every process of a server carries its id in the environment variable `TRITONLAB_SERVER`, wherever it has been
re-parented to; its shared-memory regions and its temporary folder carry the id in their names. All this is Linux's;
elsewhere only the keepers of containers are asked after. Standard library only: the keeper imports this and must start
fast.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tritonlab.files import write_whole

MARK = "TRITONLAB_SERVER"
KILL_WAIT_S = 5.0
DYING_S = 0.1
PROCESSES = Path("/proc")


def temporary_folder(server_id: str) -> Path:
    """Where the server's sockets and scratch files go: short, since a socket's path may have 107 bytes."""
    return Path(tempfile.gettempdir()) / f"tl-{server_id}"


def shm_prefix(server_id: str) -> str:
    """What the names of the server's shared-memory regions begin with."""
    return f"tritonlab_{server_id}_"


def processes(server_id: str) -> list[int]:
    """The living processes of a server (not zombies), this process left out."""
    wanted = f"{MARK}={server_id}".encode()
    found: list[int] = []
    if not PROCESSES.is_dir():
        return found  # not Linux: only the docker target runs there, and its processes are Docker's
    for entry in PROCESSES.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # A process may end, or belong to someone else, while we look.
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def clean(server_id: str) -> None:
    """Kill what is left of a server and delete its shared memory and temporary folder."""
    deadline = time.monotonic() + KILL_WAIT_S
    while (pids := processes(server_id)) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    _remove_files(server_id)
    # A region was seen to come after the first look once: a dying process loses its mark before its last thread ends.
    time.sleep(DYING_S)
    _remove_files(server_id)


def _remove_files(server_id: str) -> None:
    for region in Path("/dev/shm").glob(f"{shm_prefix(server_id)}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(temporary_folder(server_id), ignore_errors=True)


def sweep(folder: Path) -> list[str]:
    """Clean up after every local server under `folder` whose keeper is gone; returns their ids.

    The record of a container's keeper stays: it tells that the container has to be taken away.
    """
    swept = []
    for record in folder.glob("*/keeper.json"):
        server_id = record.parent.name
        if not keeper_of_container(record) and not keeper_lives(record.parent):
            clean(server_id)
            record.unlink(missing_ok=True)
            swept.append(server_id)
    return swept


def write(path: Path, content: Mapping[str, object]) -> None:
    """Write a file of JSON at once: another process that looks must not read half of it."""
    write_whole(path, json.dumps(content).encode())


def keeper_lives(folder: Path) -> bool:
    """Whether the keeper of the server with that folder runs, as far as its record tells."""
    server_id = folder.name
    try:
        pid = int(json.loads((folder / "keeper.json").read_text())["pid"])
    except FileNotFoundError:
        return True  # it ended this moment, and has cleaned up
    except (OSError, ValueError, KeyError):
        return bool(processes(server_id))
    if not PROCESSES.is_dir():
        return _is_a_process(pid)
    # The number may have gone to another process since.
    return pid == os.getpid() or pid in processes(server_id)


def keeper_of_container(record: Path) -> bool:
    """Whether the record is that of a container's keeper."""
    with suppress(OSError, ValueError):
        return bool(json.loads(record.read_text()).get("container"))
    return False


def _is_a_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
