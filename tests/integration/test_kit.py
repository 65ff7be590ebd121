"""A kit made for real, and the course set up from it with no network at all.

The engine's wheels are left out here: to get and install them takes five minutes. tests/unit/test_workshop.py sees that
they are asked for by the engine's lock, and CI's own `make setup` that this lock installs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tritonlab.workshop import kit

# A network namespace of its own, with nothing in it but loopback; the second line proves it.
CUT_OFF = """
set -eu
ip link set lo up 2>/dev/null || true
! "$1" -c 'import socket; socket.create_connection(("192.0.2.1", 80), 2)' 2>/dev/null
sh "$2/setup.sh" "$3"
cd "$3"
.venv/bin/tritonlab doctor --target docker || true
.venv/bin/tritonlab logs data/logs/triton-vllm-ready.log
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root cuts the network off; .ci/run is root")


def test_course_is_set_up_with_no_network(tmp_path: Path) -> None:
    made = tmp_path / "a stick" / "kit"  # pip splits its variables at blanks
    size = kit.make(made, engine=False)
    assert 1e8 < size < 1e9
    home, course = tmp_path / "home", tmp_path / "my course"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": f"{sys.base_prefix}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", CUT_OFF, "sh", sys.executable, str(made), str(course)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "LogReport: ready" in done.stdout
    assert "ok       Python: " in done.stdout
    assert (course / "notebooks" / "00-start-here.ipynb").exists()
    again = subprocess.run(
        ["unshare", "--net", "sh", str(made / "setup.sh"), str(course)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert again.returncode == 0, "a second call finds all there"
    shutil.rmtree(tmp_path)
