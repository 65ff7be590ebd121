"""A learner's progress: kept whole, by whoever writes at once, never lost in silence, exported, reset."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import tritonlab.course
from tritonlab import check, hint, progress, solution
from tritonlab.cli import app
from tritonlab.course import learner
from tritonlab.errors import CourseError

SCHEMA = json.loads(Path(tritonlab.course.__file__).with_name("progress.schema.json").read_text())


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a learner of the test's own."""
    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path))
    monkeypatch.setenv("TRITONLAB_LEARNER", "ada")
    monkeypatch.delenv("TRITONLAB_PROGRESS", raising=False)
    monkeypatch.setattr(learner, "_here", {})
    return tmp_path / "progress" / "ada.json"


def valid(export: object) -> dict[str, dict[str, object]]:
    jsonschema.validate(export, SCHEMA, format_checker=jsonschema.FormatChecker())
    assert isinstance(export, dict)
    found: dict[str, dict[str, object]] = export["exercises"]
    return found


def test_tries_hints_and_the_first_right_answer_are_counted() -> None:
    check("00.2", None)
    assert valid(progress().to_dict()) == {}
    check("00.2", "stop")
    hint("00.2")
    solution("00.2")
    check("00.2", "length")
    found = valid(progress().to_dict())
    assert found["00.2"] | {"solved": None} == {"tries": 2, "hints": 1, "solution": True, "solved": None}
    assert found["00.2"]["solved"]
    check("00.2", "stop")
    assert valid(progress().to_dict()) == found


def test_table_says_how_far_it_is() -> None:
    check("00.2", "length")
    check("07.5", 1)
    shown = repr(progress())
    assert shown.splitlines()[1].split() == ["00-start-here", "1", "of", "4", "1", "0"]
    assert "ada: 1 of " in shown
    assert "<caption>ada: 1 of " in progress()._repr_html_()
    assert "<b>" not in learner.Progress("<b>")._repr_html_()


def test_learners_are_kept_apart_and_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("../../up", "Ådá / Łęarner", ".", "..", "a\nb", "x" * 500, 'q"uote'):
        monkeypatch.setenv("TRITONLAB_LEARNER", name)
        check("00.2", "length")
        assert progress().learner == name.strip()
        assert valid(progress().to_dict())["00.2"]["tries"] == 1
    assert {path.parent.name for path in tmp_path.rglob("*.json")} == {"progress"}
    assert progress("nobody yet").records == {}


def test_login_name_without_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITONLAB_LEARNER")
    monkeypatch.setenv("LOGNAME", "grace")
    assert progress().learner == "grace"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"exercises": []}', b'{"exercises": {"00.1": {"tries": -1}}}',
     b'{"exercises": {"00.1": {"tries": "2"}}}', b'{"exercises": {"00.1": 3}}', b"[" * 100_000],
    ids=range(10),
)  # fmt: skip
def test_broken_file_is_put_aside_and_told(kept: Path, content: bytes) -> None:
    kept.parent.mkdir()
    kept.write_bytes(content)
    reply = check("00.2", "length")
    assert reply.right
    aside = kept.with_name("ada.broken-1")
    assert str(aside) in repr(reply)
    assert aside.read_bytes() == content
    assert valid(progress().to_dict())["00.2"]["solved"]
    assert progress().note == ""
    kept.write_bytes(content)
    assert "ada.broken-2" in progress().note
    assert aside.read_bytes() == content


def test_interrupted_write_leaves_the_earlier_file(kept: Path) -> None:
    check("00.2", "stop")
    before = kept.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a full disk does, it stops in the middle
    try:
        reply = check("00.2", "length")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert reply.right
    assert f"Your progress is not kept: {kept.parents[1]}: File too large." in repr(reply)
    assert kept.read_bytes() == before
    assert [path.name for path in kept.parent.iterdir() if path.suffix != ".lock"] == ["ada.json"]


def test_folder_that_cannot_be_used_is_told_and_hints_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path / "file"))
    assert "not kept" in hint("00.2").note
    assert hint("00.2").head == "Hint 2 of 2."
    assert "not kept" in progress().note
    with pytest.raises(CourseError, match="TRITONLAB_HOME"):
        progress().reset()


def test_processes_that_answer_at_once_lose_nothing(kept: Path) -> None:
    code = "import sys; from tritonlab import check; [check(n, 'wrong') for n in sys.argv[1:] * 10]"
    both = [
        subprocess.Popen([sys.executable, "-c", code, *numbers], env={**os.environ})
        for numbers in (("00.1", "00.2"), ("00.2", "00.3"))
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    found = valid(progress().to_dict())
    assert {number: record["tries"] for number, record in found.items()} == {"00.1": 10, "00.2": 20, "00.3": 10}


def test_off_keeps_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONLAB_PROGRESS", "off")
    check("00.2", "stop")
    assert "Solution" in solution("00.2").head
    assert hint("00.2").head == "Hint 1 of 2."
    assert not kept.parent.exists()
    assert "TRITONLAB_PROGRESS is off" in repr(progress())
    assert "ada" not in repr(progress())


def test_reset_forgets_one_learner_alone(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check("00.2", "length")
    monkeypatch.setenv("TRITONLAB_LEARNER", "grace")
    check("00.2", "length")
    progress("ada").reset()
    assert progress("ada").records == {}
    assert progress("grace").records["00.2"].solved


def test_export_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="cannot be written"):
        progress().export(tmp_path)


def test_command(tmp_path: Path) -> None:
    check("00.2", "length")
    runner = CliRunner()
    told = runner.invoke(app, ["progress"])
    assert (told.exit_code, "00-start-here" in told.stdout) == (0, True)
    assert valid(json.loads(runner.invoke(app, ["progress", "--json"]).stdout))["00.2"]["tries"] == 1
    file = tmp_path / "out" / "ada.json"
    told = runner.invoke(app, ["progress", "--export", str(file), "--reset"])
    assert str(file) in told.stdout
    written = json.loads(file.read_text())
    assert written["learner"] == "ada"
    assert valid(written)["00.2"]["solved"]
    assert json.loads(runner.invoke(app, ["progress", "--json"]).stdout)["exercises"] == {}
    assert json.loads(runner.invoke(app, ["progress", "--json", "--learner", "grace"]).stdout)["learner"] == "grace"


def test_package_carries_the_schema_and_the_exercises() -> None:
    folder = Path(tritonlab.course.__file__).parent
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for file in sorted((folder / "exercises").glob("*.toml")):
        assert all(number.startswith(file.stem) for number in tomllib.loads(file.read_text()))
