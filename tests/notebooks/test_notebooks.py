"""Every notebook runs: under nbval against its stored outputs, and under papermill as a runbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tritonlab import course
from tritonlab.course import records, runner
from tritonlab.servers.kept import servers_path

NOTEBOOKS = course.notebooks()
SANITIZERS = Path(__file__).with_name("sanitize.cfg")
STOOD_STILL_S = 200


def test_there_are_notebooks_and_they_hold_outputs() -> None:
    """nbval compares nothing in a cell that was stored without its count, so all of them must have one."""
    assert [path.name[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09"]
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells), path
        assert sum(bool(cell["outputs"]) for cell in cells) >= len(cells) / 2, path


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_stored(notebook: Path) -> None:
    started = time.time()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--nbval", str(notebook), f"--nbval-sanitize-with={SANITIZERS}"),
            *("--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-q", "--no-header", "--tb=short", "-W", "ignore"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITONLAB_PROGRESS": "off"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:] + stood_still(since=started)


def stood_still(*, since: float) -> str:
    """The ends of the logs of all servers that ran for minutes, loaded no model, and ended since then."""
    found = []
    for ended in servers_path().glob("*/exit.json"):
        with suppress(OSError):  # another test's server takes the folder of an old one away
            log = (ended.parent / "server.log").read_text(encoding="utf-8", errors="replace")
            end, start = ended.stat().st_mtime, (ended.parent / "server.json").stat().st_mtime
            if end > since and end - start > STOOD_STILL_S and "successfully loaded" not in log:
                found.append(log[-6000:])
    return "\n".join(found)


# What people run against their own servers; `make course`, the step before this one in CI, runs all with papermill.
@pytest.mark.parametrize("notebook", course.notebooks(["00", "03"]), ids=lambda path: path.stem)
def test_runs_whole_somewhere_else(notebook: Path, tmp_path: Path) -> None:
    jobs = runner.prepared([notebook], {"workspace_folder": str(tmp_path / "workspace")}, whole=True)
    record = records.new(tmp_path / "runs", [job.entry for job in jobs], {}, whole=True)
    [entry] = runner.run(jobs, record, cell_timeout=300)
    assert entry.fault == ""
    assert (record.folder / entry.html).stat().st_size > 10_000
    cells = json.loads((record.folder / entry.executed).read_text())["cells"]
    assert "injected-parameters" in str(cells)
