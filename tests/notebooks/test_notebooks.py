"""Every notebook runs: under nbval against its stored outputs, and under papermill as a runbook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tritonlab import course
from tritonlab.course import runner

NOTEBOOKS = course.notebooks()
SANITIZERS = Path(__file__).with_name("sanitize.cfg")


def test_there_are_notebooks_and_they_hold_outputs() -> None:
    """nbval compares nothing in a cell that was stored without its count, so all of them must have one."""
    assert [path.name[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06", "07"]
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells), path
        assert sum(bool(cell["outputs"]) for cell in cells) >= len(cells) / 2, path


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_stored(notebook: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--nbval", str(notebook), f"--nbval-sanitize-with={SANITIZERS}"),
            *("--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-q", "--no-header", "--tb=short", "-W", "ignore"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# The two that people run as runbooks; `make course`, the step before this one in CI, runs all of them with papermill.
@pytest.mark.parametrize("notebook", course.notebooks(["00", "03"]), ids=lambda path: path.stem)
def test_runs_as_a_runbook_somewhere_else(notebook: Path, tmp_path: Path) -> None:
    parameters = {"workspace_folder": str(tmp_path / "workspace")}
    [result] = runner.run([notebook], tmp_path / "runs", parameters, cell_timeout=300)
    assert result.fault == ""
    assert result.html.stat().st_size > 10_000
    cells = json.loads(result.executed.read_text())["cells"]
    assert "injected-parameters" in str(cells)


def test_a_failing_notebook_is_reported_with_its_cell(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOKS[0].read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[1]["source"] = ["raise ValueError('on purpose')"]
    broken = tmp_path / "00-broken.ipynb"
    broken.write_text(json.dumps(notebook))
    [result] = runner.run([broken], tmp_path / "runs", cell_timeout=60)
    assert "ValueError: on purpose" in result.fault
    assert result.executed.exists()
