"""Hand-outs, the progress of a class, kits, timetables, and what lies in workshop/ and .devcontainer/."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tritonlab import course
from tritonlab.course.exercises import exercises
from tritonlab.engine import LOCK, pip
from tritonlab.errors import CourseError, EngineError
from tritonlab.workshop import handout, kit
from tritonlab.workshop.collect import collect, for_spreadsheet
from tritonlab.workshop.timetable import timetable

ROOT = Path(__file__).parents[2]


def tritonlab(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tritonlab")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def texts(value: Any) -> Iterator[str]:
    """Every text in an entry of the exercises, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("ask", "kind"):
                yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


class TestHandout:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("class") / "handout"
        done = tritonlab("workshop", "handout", str(folder))
        assert done.returncode == 0, done.stderr
        return folder

    def test_is_clean(self, folder: Path) -> None:
        notebooks = sorted((folder / "notebooks").glob("*.ipynb"))
        assert [path.name for path in notebooks] == [path.name for path in course.notebooks()]
        for path in notebooks:
            notebook = json.loads(path.read_text())
            assert notebook["metadata"] == handout.METADATA
            tags = [tag for cell in notebook["cells"] for tag in cell["metadata"].get("tags", [])]
            assert tags.count("parameters") == 1
            assert set(tags) <= set(handout.KEPT_TAGS)
            for cell in notebook["cells"]:
                assert set(cell["metadata"]) <= {"tags"}
                assert cell["cell_type"] != "code" or (cell["outputs"], cell["execution_count"]) == ([], None)

    def test_source_is_that_of_the_course(self, folder: Path) -> None:
        for original in course.notebooks():
            given = json.loads((folder / "notebooks" / original.name).read_text())["cells"]
            for mine, theirs in zip(given, json.loads(original.read_text())["cells"], strict=True):
                assert mine["cell_type"] == "markdown" or mine["source"] == theirs["source"]

    def test_holds_no_solution(self, folder: Path) -> None:
        told = {text for entry in exercises().values() for text in texts(entry) if len(text.split()) >= 8}
        assert len(told) > 50
        for path in (folder / "notebooks").glob("*.ipynb"):
            source = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
            assert [text for text in told if text in source] == []

    def test_every_link_leads_somewhere(self, folder: Path) -> None:
        pages = [folder / "README.md", *(folder / "notebooks").glob("*.ipynb")]
        count = 0
        for page in pages:
            text = page.read_text()
            if page.suffix == ".ipynb":
                cells = json.loads(text)["cells"]
                text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            for target in re.findall(r"\]\(([^)#\s]+)", text):
                if "://" not in target:
                    count += 1
                    assert (page.parent / target).exists(), f"{page}: {target}"
        assert count > 20

    def test_index_names_minutes(self, folder: Path) -> None:
        index = (folder / "README.md").read_text()
        for path in course.notebooks():
            assert re.search(rf"^\| \[{path.stem}\]\(.*\) \| .+ \| {handout.minutes(path)} \|$", index, re.MULTILINE)

    def test_is_a_course_of_its_own(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder / "notebooks")
        assert course.root() == folder
        assert course.data("logs/triton-vllm-ready.log").is_relative_to(folder)
        recorded = ROOT / "data" / "logs"
        logs = {path.relative_to(recorded) for path in recorded.rglob("*.log")}
        assert {path.relative_to(folder / "data" / "logs") for path in folder.rglob("*.log")} == logs

    def test_a_few_notebooks_have_no_dead_links(self, tmp_path: Path) -> None:
        handout.make(tmp_path / "few", ["2"])
        assert [path.name[:2] for path in sorted((tmp_path / "few" / "notebooks").glob("*.ipynb"))] == ["00", "02"]
        text = (tmp_path / "few" / "notebooks" / "02-launch-vllm.ipynb").read_text()
        assert "](03-talk-to-the-server.ipynb)" not in text
        assert (tmp_path / "few" / "notebooks" / "figures" / "ready-live.svg").exists()

    def test_answers_of_the_teacher_are_not_handed_out(self) -> None:
        answered = ('x = 3\ncheck("01.2", 2)', 'check(\n    "02.1",\n    ("b",  # é\n    ),\n)')
        source = "\n".join([*answered, 'check("01.4", len(problems))', 'quiz("00.1", "c")\n'])
        cell = {
            "cell_type": "code",
            "id": "a",
            "metadata": {},
            "source": [source],
            "outputs": [1],
            "execution_count": 3,
        }
        [blank] = handout.clean({"cells": [cell]})["cells"]
        said = "".join(blank["source"])
        assert 'check("01.2", None)' in said
        assert "b" not in said.partition("02.1")[2].partition("check(")[0]
        assert 'check("01.4", len(problems))' in said
        assert 'quiz("00.1", None)' in said
        compile(said, "cell", "exec")

    @pytest.mark.parametrize(("arguments", "words"), [(("--notebook", "77"), "no notebook '77'"), ((), "is not empty")])
    def test_refusals_are_sentences(self, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
        (tmp_path / "mine").write_text("keep")
        done = tritonlab("workshop", "handout", str(tmp_path), *arguments)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]
        assert "cannot be used" in tritonlab("workshop", "handout", str(tmp_path / "mine")).stderr


def progress(
    learner: Any, exported: str = "2026-11-20T10:00:00+00:00", **exercises: tuple[int, int, bool, str | None]
) -> str:
    names = ("tries", "hints", "solution", "solved")
    entries = {
        number[1:].replace("_", "."): dict(zip(names, entry, strict=True)) for number, entry in exercises.items()
    }
    return json.dumps({"learner": learner, "exported": exported, "exercises": entries})


SOLVED = "2026-11-20T09:30:00Z"


class TestCollect:
    def test_one_table(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        (tmp_path / "a.json").write_text(progress("Ann", e00_1=(1, 0, False, SOLVED), e00_2=(3, 1, True, SOLVED)))
        (tmp_path / "deep" / "b.json").write_text(progress("Bob", e00_1=(7, 2, False, None), e01_1=(2, 0, False, None)))
        found = collect([tmp_path])
        table = found.table()
        bob, ann = table.iloc[0], table.iloc[1]
        assert (bob["learner"], bob["stuck on"], bob["tries"], bob["hints"]) == ("Bob", "00.1 (7 tries)", 9, 2)
        first = sum(number.startswith("00") for number in exercises())
        assert (ann["learner"], ann["00"], ann["done"]) == ("Ann", f"2/{first}", f"2/{len(exercises())}")
        assert (ann["stuck on"], ann["solutions"], found.remarks) == ("", 1, ())

    def test_newest_counts_and_broken_ones_do_not_stop_the_rest(self, tmp_path: Path) -> None:
        files = {
            "new": progress("Ann", "2026-11-20T12:00:00+02:00", e00_1=(1, 0, False, SOLVED)),
            "old": progress("Ann", "2026-11-20T09:59:59"),
            "none": "",
            "cut": progress("Cid")[:-9],
            "list": "[1]",
            "deep": "[" * 100_000,
            "nameless": progress(""),
            "negative": progress("Dan", e00_1=(-1, 0, False, None)),
            "text": progress("Eve", e00_1=("3", 0, False, None)),
            "when": progress("Fay", "yesterday"),
            "before": progress("Ida", "0001-01-01T00:00:00+14:00"),
            "missing": '{"learner": "Gus"}',
            "unknown": progress("Hal", **{"e99_9": (1, 0, False, None), "e\x1b[2J\ud800": (1, 0, False, None)}),
            "large": " " * 1_000_001,
        }
        for name, text in files.items():
            (tmp_path / f"{name}.json").write_text(text)
        (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\0")
        found = collect([tmp_path, tmp_path / "nowhere.json"])
        assert sorted(found.learners) == ["Ann", "Hal"]
        assert found.learners["Ann"].exercises["00.1"]["tries"] == 1
        said = "\n".join(found.remarks)
        for name in {*files, "bytes", "nowhere"} - {"new", "old"}:
            assert f"{name}.json" in said, name
        assert "Ann has several files" in said
        assert "99.9" in said
        assert all(remark.isprintable() for remark in found.remarks)

    def test_command_and_csv(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(progress("=HYPERLINK(1)\x1b[2J", e00_1=(2, 0, False, None)))
        (tmp_path / "b.json").write_text("no JSON")
        done = tritonlab("workshop", "collect", str(tmp_path), "--csv", str(tmp_path / "class.csv"))
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert "00.1 (2 tries)" in done.stdout
        assert "b.json is no JSON" in done.stderr
        [row] = csv.DictReader((tmp_path / "class.csv").read_text().splitlines())
        assert row["learner"].startswith("'=HYPERLINK")
        assert for_spreadsheet(collect([tmp_path]).table())["learner"][0] == row["learner"]
        refused = tritonlab("workshop", "collect", str(tmp_path / "a.json"), "--csv", "/proc/x.csv")
        assert (refused.returncode, "cannot be written" in refused.stderr) == (1, True)

    def test_nothing_to_read_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(CourseError, match=r"no \.json file"):
            collect([tmp_path])
        assert tritonlab("workshop", "collect", str(tmp_path / "nowhere")).returncode == 1


class TestKit:
    """What needs no download; tests/integration/test_kit.py makes one."""

    def test_wheels_asked_for_are_those_of_both_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = tmp_path / "calls"
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nmkdir -p "{tmp_path}/kit/wheels"\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        kit.make(tmp_path / "kit")
        asked = calls.read_text().splitlines()
        assert len(asked) == 3
        assert all(line.startswith("-m pip download") and "--only-binary :all:" in line for line in asked)
        assert [str(ROOT / "requirements.lock") in asked[0], str(LOCK) in asked[1], pip.TORCH in asked[2]] == [True] * 3
        made = {str(path.relative_to(tmp_path / "kit")) for path in (tmp_path / "kit").rglob("*")}
        assert {"setup.sh", "README.md", "course/Makefile", "course/tritonlab/engine/engine.lock", "wheels"} <= made
        assert not [name for name in made if "__pycache__" in name or name.startswith("course/.git/")]
        for name in ("setup.sh", "README.md"):
            assert "@" not in (tmp_path / "kit" / name).read_text().replace("$@", "")

    @pytest.mark.parametrize("engine", [True, False])
    def test_lab_installs_the_engine_only_from_a_kit_that_has_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, engine: bool
    ) -> None:
        """make tells what it would do (-n), in setup.sh and in the line that setup.sh ends with."""
        made, course = tmp_path / "kit", tmp_path / "ann's $HOME"
        with monkeypatch.context() as patch:
            python = tmp_path / "python"
            python.write_text(f'#!/bin/sh\nmkdir -p "{made}/wheels"\n')
            python.chmod(0o755)
            patch.setattr(sys, "executable", str(python))
            kit.make(made, engine=engine)
        environment = os.environ | {"MAKEFLAGS": "n", "PYTHON": sys.executable}
        done = subprocess.run(
            ["sh", made / "setup.sh", course], capture_output=True, text=True, env=environment, check=True
        )
        line = done.stdout.splitlines()[-1]
        does = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, check=True).stdout
        assert "tritonlab lab" in does
        assert ["tritonlab engine install" in text for text in (done.stdout, does)] == [engine] * 2
        assert (made / "README.md").read_text().splitlines()[8].partition("&& ")[2] == line.partition("&& ")[2]

    def test_half_of_the_packages_is_half_of_the_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wheels = tmp_path / "wheels"
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nfor n in 1 2 3 4; do echo Collecting p$n; echo '  Downloading p (3 MB)'; done\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        (tmp_path / "lock").write_text("".join(f"p{number}==1\n" for number in range(1, 9)))
        told: list[float] = []
        kit._download(tmp_path / "lock", wheels, lambda sentence, fraction: told.append(fraction), "it", (0.0, 0.8))
        assert told == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4])

    def test_pip_that_fails_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        python = tmp_path / "python"
        python.write_text('#!/bin/sh\necho "ERROR: No space left on device"; exit 1\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(EngineError, match="wheels of the course: ERROR: No space left"):
            kit.make(tmp_path / "kit")

    def test_full_folder_and_lost_checkout_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine").touch()
        with pytest.raises(CourseError, match="not empty"):
            kit.make(tmp_path)
        monkeypatch.setattr(kit, "ROOT", tmp_path)
        with pytest.raises(CourseError, match="git checkout"):
            kit.make(tmp_path / "kit")

    def test_setup_refuses_another_machine(self, tmp_path: Path) -> None:
        text = (kit.HERE / "setup.sh").read_text().replace("@SYSTEM@", "Plan9 mips")
        (tmp_path / "setup.sh").write_text(text)
        done = subprocess.run(["sh", "setup.sh", "x"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, "This kit was made for Plan9 mips" in done.stderr) == (1, True)
        system = " ".join(os.uname()[i] for i in (0, 4))
        text = (kit.HERE / "setup.sh").read_text().replace("@SYSTEM@", system).replace("@PYTHON@", "2.7")
        (tmp_path / "setup.sh").write_text(text)
        done = subprocess.run(["sh", "setup.sh", "x"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, "made for Python 2.7" in done.stderr) == (1, True)


class TestTimetables:
    def test_notebook_computes_and_fits(self) -> None:
        cells = json.loads((ROOT / "workshop" / "timetables.ipynb").read_text())["cells"]
        names: dict[str, Any] = {}
        for cell in cells:
            if cell["cell_type"] == "code" and not "".join(cell["source"]).startswith("show("):
                exec("".join(cell["source"]), names)
        assert set(names["PLANS"]) == {"2 hours", "Half a day", "A day"}
        for name, (limit, items) in names["PLANS"].items():
            table = names["tables"][name]
            assert table["minutes"][:-1].sum() == table["minutes"].iloc[-1] <= limit
            assert len(table) == len(items) + 1
            text = table.to_string(index=False, na_rep="")
            stored = ["".join(output["data"]["text/plain"]) for cell in cells for output in cell.get("outputs", [])]
            assert text in stored, "execute workshop/timetables.ipynb anew"

    def test_what_does_not_fit_is_refused(self) -> None:
        whole = handout.minutes(course.notebooks(["01"])[0])
        for items, words in (
            ([("01", (), None)], "there are 10"),
            ([("01", ("The moon",), 5)], "no section 'The moon'"),
            ([("03", ("Health",), 5)], "'Start' defines, and the plan leaves that out"),
            ([("04", ("Two paths", "Will it fit"), 5)], "'Convert' defines"),
            (
                [("06", ("Without a tool",), 5), ("06", ("A whole log in one call",), 5)],
                "'A whole log in one call' defines",
            ),
            ([("01", ("The folders",), whole), ("01", ("model.json",), 1)], "all of it takes"),
            ([("77", (), 5)], "no notebook '77'"),
            ([("Break", (), None)], "no minutes"),
        ):
            with pytest.raises(CourseError, match=words):
                timetable(items, "09:00", 10 if words == "there are 10" else 500)
        shown = timetable([("03", ("Start", "gRPC"), 5), ("03", ("Errors",), 5)], "09:00", 10)["what"]
        assert list(shown[:2]) == ["03-talk-to-the-server: Start · gRPC", "03-talk-to-the-server: Errors"]
        for notebook in course.notebooks():
            timetable([(notebook.name[:2], (), None)], "09:00", 500)
        with pytest.raises(CourseError, match="no time of day"):
            timetable([], "nine", 10)


def test_devcontainer_names_what_is_there() -> None:
    """By the published reference of devcontainer.json; it is not built here."""
    found = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    known = {"name", "image", "hostRequirements", "postCreateCommand", "forwardPorts", "portsAttributes", "runArgs",
             "customizations"}  # fmt: skip
    assert set(found) == known
    assert re.fullmatch(r"[\w./-]+:3\.1[123](-\w+)?", found["image"])
    assert "docker" not in json.dumps(found)
    assert found["forwardPorts"] == [int(port) for port in found["portsAttributes"]]
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    program, target = found["postCreateCommand"].split()
    assert (program, target in targets[1].split()) == ("make", True)
    assert re.fullmatch(r"\d+gb", found["hostRequirements"]["memory"])


@pytest.mark.parametrize("page", ["teacher-notes.md", "jupyterhub/README.md", "README.md"])
def test_pages_lead_somewhere(page: str) -> None:
    path = ROOT / "workshop" / page
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" in target or (path.parent / target).exists(), target
    numbers = set(re.findall(r"\b0\d\.\d\b", text))
    assert numbers <= set(exercises())
    for command in re.findall(r"tritonlab (workshop \w+|doctor|engine \w+|ps|stop)", text):
        assert tritonlab(*command.split(), "--help").returncode == 0, command


def test_hub_configuration_keeps_off_tritons_ports() -> None:
    class Recorder(dict[str, Any]):
        def __getattr__(self, name: str) -> Any:
            return self.setdefault(name, Recorder())

        def __setattr__(self, name: str, value: Any) -> None:
            self[name] = value

    config = Recorder()
    path = ROOT / "workshop" / "jupyterhub" / "jupyterhub_config.py"
    exec(compile(path.read_text(), path, "exec"), {"get_config": lambda: config})
    assert config.Spawner.environment["TRITONLAB_ENGINE"]
    addresses = [config.JupyterHub.bind_url, config.ConfigurableHTTPProxy.api_url]
    ports = {*(int(address.rpartition(":")[2]) for address in addresses), config.JupyterHub.hub_port}
    assert len(ports) == 3
    assert not ports & {8000, 8001, 8002, *range(20_000, 30_000)}
    assert all(address.startswith("http://127.0.0.1:") for address in addresses)
