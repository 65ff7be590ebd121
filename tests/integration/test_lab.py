"""A case of the fault lab: met, misjudged, named, mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonlab import FaultLab
from tritonlab.course.lab import CASES
from tritonlab.errors import CourseError
from tritonlab.faults import FAULTS


def test_case_is_named_and_mended(tmp_path: Path) -> None:
    lab = FaultLab(tmp_path, cases=["no-version"])
    case = lab.next()
    assert str(case.log) in repr(case)
    assert case.answer().right is None
    assert "version-folder-missing" in case.answer("version-folder").text
    wrong = case.answer("port-in-use")
    assert wrong.right is False
    assert "A port is taken" in wrong.text
    assert case.retry().text.startswith("Nothing in ")
    right = case.answer("version-folder-missing")
    assert right.right
    assert FAULTS["no-version"].story in right.text
    (case.model / "config.pbtxt").touch()
    (case.model / "two").mkdir()
    (case.model / "two" / "notes").write_text("no mending")
    again = case.retry()
    assert (again.right, str(case.log) in again.text) == (False, True)
    (case.model / "one").rename(case.model / "1")
    assert case.retry().right
    assert repr(lab) == "1 met, 1 named (0 at the first try), 1 mended"
    with pytest.raises(CourseError, match="another seed"):
        lab.next()


def test_lab_refuses_a_case_that_cannot_be_mended_in_the_repository(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="http-port"):
        FaultLab(tmp_path, cases=["http-port"])


def test_docker_case_is_named_from_what_was_recorded(tmp_path: Path) -> None:
    lab = FaultLab(tmp_path, cases=["no-gpu-runtime"], target="local")
    case = lab.next()
    assert "could not select device driver" in case.log.read_text()
    assert str(case.log) in repr(case)
    assert case.answer("port-in-use").right is False
    assert case.answer("nvidia-runtime-missing").right
    assert repr(lab) == "1 met, 1 named (0 at the first try), 0 mended"


def test_cases_lie_in_the_model_folder_alone() -> None:
    for name in CASES:
        fault = FAULTS[name]
        assert not fault.arguments
        assert not fault.environment
        assert fault.strike is None
