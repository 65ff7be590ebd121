"""The process between a notebook and its tritonserver: it outlives neither and leaves nothing behind.

    python -m tritonlab.servers.keeper FOLDER PARENT_PID COMMAND...

Standard input is a line to the parent: it closes when the parent stops the server, ends, or is killed. The keeper then
ends the server, first politely, and cleans up after it. It also ends when the server ends by itself. FOLDER receives
`server.log`, `keeper.json` while it lives, and `exit.json` with the server's exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tritonlab.servers import leftovers

LOOK_EVERY_S = 0.25
STOP_WAIT_S = 20.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(folder: Path, parent: int, command: list[str]) -> int:
    server_id = folder.name
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    told_to_stop = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told_to_stop.append(True))

    record = folder / "keeper.json"
    record.write_text(json.dumps({"pid": os.getpid()}))
    leftovers.temporary_folder(server_id).mkdir(mode=0o700, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(leftovers.temporary_folder(server_id))},
            # A keeper that is killed outright takes its server along.
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    try:
        while server.poll() is None and not told_to_stop and not _parent_is_gone(parent):
            pass
        _end(server)
    finally:
        (folder / "exit.json").write_text(json.dumps({"code": server.poll()}))
        leftovers.clean(server_id)
        record.unlink(missing_ok=True)
    return 0


def _parent_is_gone(parent: int) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], LOOK_EVERY_S)
    # A child that the parent forked may hold the line open: the parent's number tells too.
    return bool(readable) or os.getppid() != parent


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_WAIT_S)
    if server.poll() is None:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
