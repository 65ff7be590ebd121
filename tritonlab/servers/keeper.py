"""The process between a notebook and its tritonserver: it outlives neither and leaves nothing behind.

    python -m tritonlab.servers.keeper FOLDER PARENT_PID COMMAND...

Standard input is a line to the parent: it closes when the parent stops the server, ends, or is killed. The keeper then
ends the server, first politely, and cleans up after it. It also ends when the server ends by itself. FOLDER receives
`server.log`, `keeper.json` while it lives, and `exit.json` with the server's exit code.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tritonlab.servers import leftovers

LOOK_EVERY_S = 0.25
STOP_WAIT_S = 20.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(folder: Path, parent: int, command: list[str]) -> int:
    server_id = folder.name
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    told_to_stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told_to_stop.append(True))

    record = folder / "keeper.json"
    leftovers.write(record, {"pid": os.getpid()})
    code = None
    try:
        with (folder / "server.log").open("ab") as log:
            server = _start(command, server_id, log)
        if server is not None:
            while server.poll() is None and not told_to_stop and not parent_is_gone(parent):
                pass
            code = _end(server)
    finally:
        leftovers.write(folder / "exit.json", {"code": code})
        leftovers.clean(server_id)
        _wait_for_the_dying()
        record.unlink(missing_ok=True)
    return 0


def _start(command: list[str], server_id: str, log: BinaryIO) -> subprocess.Popen[bytes] | None:
    scratch = leftovers.temporary_folder(server_id)
    prctl = ctypes.CDLL(None).prctl
    try:
        scratch.mkdir(mode=0o700, exist_ok=True)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch)},
            # A keeper that is killed outright takes its server along.
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    except OSError as error:
        log.write(f"tritonlab could not start tritonserver: {error}\n".encode())
        return None


def parent_is_gone(parent: int) -> bool:
    """Whether the line to the parent is closed; looks for a quarter of a second."""
    readable, _, _ = select.select([sys.stdin], [], [], LOOK_EVERY_S)
    # A child that the parent forked may hold the line open: the parent's number tells too.
    return bool(readable) or os.getppid() != parent


def _end(server: subprocess.Popen[bytes]) -> int:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_WAIT_S)
    if server.poll() is None:
        server.kill()
    return server.wait()


def _wait_for_the_dying() -> None:
    """A process that frees gigabytes on its way out has lost its mark already, and still runs."""
    deadline = time.monotonic() + leftovers.KILL_WAIT_S
    with suppress(ChildProcessError):  # no descendant is left: as the subreaper, this process inherits them all
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
