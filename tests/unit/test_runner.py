"""Runs of small notebooks: parameters, records, verdicts, exit codes, and how a run ends. No server is started."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from typer.testing import CliRunner, Result

from tritonlab import course
from tritonlab.cli import app
from tritonlab.course import parameters, records, runner, steps
from tritonlab.course.runbook import Runbook
from tritonlab.errors import CourseError, ServerFailed
from tritonlab.logs import read_log

SCHEMA = json.loads((Path(runner.__file__).with_name("record.schema.json")).read_text())
PARAMETERS = """\
target: str = "auto"  # auto, local or, as a runbook, URL: where it runs
count: int = 1  # COUNT: how many
share: float = 0.5  # NUMBER: how much
loud: bool = False  # true or false: whether to tell
log: str = ""  # as a runbook, FILE: what to read
workspace_folder: str = "workspace/00"  # PATH: a folder of its own"""
BOOK = """\
read = count, loud, log, target, workspace_folder
from tritonlab.course import Runbook
from tritonlab.errors import TritonlabError
book = Runbook("try")
def do():
    if count == 4:
        raise TritonlabError("Four is too many.", "Take three.")
    return f"did {count}"
book.step("it counts", do)
if count == 5:
    book.verdict = "undecided"
book"""
LESSON = "import os; print('a lesson', os.environ['TRITONLAB_PROGRESS'])"
SLEEP = "import time; print('asleep', flush=True); time.sleep(100 if count > 1 else 0)"


def notebook(folder: Path, name: str, *cells: tuple[str, str]) -> Path:
    """A notebook with these cells: (tag or "", source); "#" begins a text."""
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = [
        {
            "cell_type": "markdown" if source.startswith("#") else "code",
            "id": f"cell-{number}",
            "metadata": {"tags": [tag]} if tag else {},
            "source": source,
            **({} if source.startswith("#") else {"execution_count": None, "outputs": []}),
        }
        for number, (tag, source) in enumerate(cells)
    ]
    path.write_text(json.dumps({"cells": content, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A course of two notebooks: one with a runbook, one that sleeps if told to."""
    notebook(
        tmp_path,
        "00-start-here",
        ("", "# Start here\n\nIt begins."),
        ("parameters", PARAMETERS),
        ("", LESSON),
        ("", "## As a runbook: count\n\nIt counts\nfor you.\n\nMore."),
        ("runbook", BOOK),
    )
    notebook(tmp_path, "01-sleep", ("", "# Sleep\n\nIt sleeps."), ("parameters", PARAMETERS), ("", SLEEP))
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tritonlab", *arguments]


def tritonlab(folder: Path, *arguments: str) -> Result:
    """The command, in this process: its imports take longer than most of what it does here."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(app, arguments)


def results(folder: Path) -> list[dict[str, Any]]:
    """What the records say, in the order of their beginning; each is as the schema wants it."""
    found = [json.loads(file.read_text()) for file in (folder / "runs").glob("*/result.json")]
    for result in found:
        jsonschema.validate(result, SCHEMA)
    return sorted(found, key=lambda result: str(result["started"]))


def left(run_id: str) -> list[Any]:
    return [process for process, _ in runner._processes(run_id)]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("target", "local", "local"),
        ("target", "http://localhost:8000", "http://localhost:8000"),
        ("count", "3", 3),
        ("share", "1e-2", 0.01),
        ("loud", "True", True),
        ("log", "", ""),
        ("workspace_folder", "here", str(Path("here").absolute())),
    ],
)
def test_value_is_read_by_its_type(folder: Path, name: str, text: str, value: object) -> None:
    assert parameters.of(folder / "notebooks" / "00-start-here.ipynb")[name].read(text) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("target", "loca"), "Did you mean 'local'?"),
        (("target", "http://:8000"), "names no host"),
        (("target", "http://host:8000/v2"), "ends with its port"),
        (("target", "http://u:p@host:8000"), "looks like a secret"),
        (("count", "many"), "'count' is a whole number"),
        (("count", "0"), "1 or more"),
        (("share", "nan", "--whole"), "'share' is a number"),
        (("loud", "loud"), "true or false"),
        (("log", "nowhere.log"), "no such file"),
        (("log", "."), "That is a folder"),
        (("conut", "3"), "Did you mean 'count'?"),
        (("hf_token", "x"), "looks like a secret"),
        (("log", "hf_abcdefghijklmnopqrst"), "looks like a secret"),
        (("count=3", "00"), "Write -p KEY VALUE, in two words"),
        (("HF_TOKEN=hf_abcdefghijklmnopqrst",), "Write -p KEY VALUE, in two words"),
        (("hf_abcdefghijklmnopqrst", "3"), "looks like a secret"),
        (("target", "http://abcdefghij@host:8000"), "looks like a secret"),
        (("target", "http://abcdefghij:p/w@host:8000"), "looks like a secret"),
        (("address", "abcdefghij@host:8001"), "looks like a secret"),
        (("log", "~nosuchuser/x"), "Nothing can be looked for"),
        (("log", "x" * 5000), "Nothing can be looked for"),
        (("log", "a\0b"), "no such file"),
        (("workspace_folder", "~nosuchuser/x"), "Nothing can be looked for"),
        (("count",), "takes two words"),
    ],
)
def test_what_will_not_do_is_refused_before_anything_starts(folder: Path, given: tuple[str, ...], words: str) -> None:
    done = tritonlab(folder, "run", "00", "-p", *given)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.exit_code == 2, done
    assert words in said
    assert "abcdefghij" not in said
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["max_tokens", "prompt_tokens", "tokenizer"])
def test_names_of_token_counts_are_no_secrets(name: str) -> None:
    parameters.refuse_secrets({name: "16"})


def test_a_parameter_of_the_lessons_alone_is_refused_for_the_runbook(folder: Path) -> None:
    done = tritonlab(folder, "run", "00", "-p", "share", "0.1")
    assert (done.exit_code, "add --whole" in done.stderr) == (2, True), done.stderr
    assert tritonlab(folder, "run", "00", "-p", "share", "0.1", "--whole").exit_code == 0


def test_a_runbooks_own_parameter_is_refused_for_the_whole(folder: Path) -> None:
    for given in (("log", "runs.log"), ("target", "http://host:8000")):
        (folder / "runs.log").write_text("x")
        done = tritonlab(folder, "run", "00", "--whole", "-p", *given)
        assert (done.exit_code, (folder / "runs").exists()) == (2, False), done.stderr


@pytest.mark.parametrize("name", ["0", "00", "start-here", "00-start-here", "notebooks/00-start-here.ipynb"])
def test_notebook_is_named_in_many_ways(name: str) -> None:
    assert [path.stem for path in course.notebooks([name, "00"])] == ["00-start-here"]


def test_unknown_notebook_and_help(folder: Path) -> None:
    unknown = tritonlab(folder, "run", "start-heer")
    assert (unknown.exit_code, "Did you mean '00-start-here'?" in unknown.stderr) == (2, True)
    told = tritonlab(folder, "run", "00", "--help").stdout
    for words in ("count", "It counts for you.", "count (int, default 1): COUNT", "how many", "124 --timeout"):
        assert words in told
    assert "KEY VALUE" in tritonlab(folder, "run", "--help").stdout
    assert tritonlab(folder, "run", "77", "--help").exit_code == 2


def test_every_parameter_of_the_course_is_typed_and_told() -> None:
    words = {"auto", "local", "docker", "all", "http"}
    for path in course.notebooks():
        for parameter in parameters.of(path).values():
            assert {*parameter.values, *parameter.runbook_values} <= words | parameters.KINDS.keys()
            assert len(parameter.meaning) > 10
            if parameter.values:
                assert parameter.read(str(parameter.default)) is not None


@pytest.mark.parametrize(("count", "code", "verdict"), [("3", 0, "ok"), ("4", 1, "failed"), ("5", 3, "undecided")])
def test_runbook_runs_its_cells_alone_and_its_verdict_is_the_exit_code(
    folder: Path, count: str, code: int, verdict: str
) -> None:
    done = tritonlab(folder, "run", "start-here", "-p", "count", count)
    assert done.exit_code == code, done.stderr
    [result] = results(folder)
    [entry] = result["notebooks"]
    assert (result["verdict"], entry["verdict"], result["exit_code"], result["status"]) == (
        verdict,
        verdict,
        code,
        "done",
    )
    assert entry["parameters"]["count"] == int(count)
    assert entry["parameters"]["loud"] is False
    assert [step["what"] for step in entry["steps"]] == ["it counts"]
    assert [found["fix"] for found in entry["findings"]] == (["Take three."] if count == "4" else [])
    record = folder / "runs" / result["id"]
    page = (record / entry["html"]).read_text()
    assert verdict in page
    assert "Runbook(" not in page, "the code is left out"
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "Runbook(" in (record / entry["executed"]).read_text()
    assert "a lesson" not in (record / entry["executed"]).read_text()
    assert not (record / "workspace").exists()
    assert not list(record.glob("*.kernel.log")), "it said nothing"


def test_whole_runs_every_cell_and_the_runbook_in_it_is_an_example(folder: Path) -> None:
    done = tritonlab(folder, "run", "-p", "count", "4", "--timeout", "100", "--whole", "00")
    assert done.exit_code == 0, done.stdout + done.stderr
    [result] = results(folder)
    assert "a lesson off" in (folder / "runs" / result["id"] / "00-start-here.ipynb").read_text()
    assert result["notebooks"][0]["findings"][0]["title"] == "Four is too many."


def test_cell_that_breaks_off_is_a_failure_with_its_error(folder: Path) -> None:
    notebook(folder, "02-broken", ("parameters", PARAMETERS), ("runbook", "raise ValueError('on purpose')"))
    done = tritonlab(folder, "run", "02", "00")
    assert done.exit_code == 1
    [result] = results(folder)
    broken, other = result["notebooks"]
    assert broken["fault"].endswith("ValueError: on purpose")
    assert (broken["findings"][0]["id"], other["verdict"]) == ("ValueError", "ok")
    assert "on purpose" in (folder / "runs" / result["id"] / broken["html"]).read_text()


@pytest.mark.parametrize("fault", ["", "ValueError"])
def test_last_words_of_a_kernel_are_kept_and_not_printed(folder: Path, fault: str) -> None:
    end = f"import atexit, os; atexit.register(os.write, 2, b'Traceback of its own'); {fault and f'raise {fault}'}"
    notebook(folder, "02-end", ("parameters", PARAMETERS), ("", end))
    done = subprocess.run(command("run", "02"), cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == bool(fault)
    assert "Traceback of its own" not in done.stdout + done.stderr
    [result] = results(folder)
    log = folder / "runs" / result["id"] / "02-end.kernel.log"
    assert log.read_text() == "Traceback of its own"
    told = result["notebooks"][0]["fault"]
    assert (fault in told, log.name in told) == (True, bool(fault))


def test_time_over_leaves_a_record_and_nothing_running_and_resume_goes_on(folder: Path) -> None:
    done = tritonlab(folder, "run", "--timeout", "12", "-p", "count", "2")
    assert done.exit_code == 124, done.stderr
    [result] = results(folder)
    first, second = result["notebooks"]
    assert (result["status"], first["verdict"], second["status"]) == ("timeout", "ok", "timeout")
    assert "12 s" in second["fault"]
    assert "asleep" in (folder / "runs" / result["id"] / second["executed"]).read_text()
    assert left(result["id"]) == []
    again = tritonlab(folder, "run", "--resume", "last", "--timeout", "5")
    assert again.exit_code == 124, again.stderr
    resumed = results(folder)[1]
    assert resumed["resumes"] == result["id"]
    assert resumed["given"] == {"count": "2"}
    assert [entry["taken_from"] for entry in resumed["notebooks"]] == [result["id"], ""]
    refused = tritonlab(folder, "run", "00", "--resume", "last")
    assert (refused.exit_code, "Leave out all but --resume" in refused.stderr) == (2, True)
    compared = tritonlab(folder, "runs", result["id"], "last").stdout
    assert "seconds" in compared
    listed = json.loads(tritonlab(folder, "runs", "--json").stdout)
    assert [one["id"] for one in listed] == [resumed["id"], result["id"]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_that_is_ended_leaves_its_record_and_nothing_running(
    folder: Path, number: signal.Signals, code: int
) -> None:
    # What a shell runs in its background ignores SIGINT, and so would this.
    with subprocess.Popen(
        command("run", "01", "-p", "count", "2"),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run:
        executed = _wait(lambda: next(iter((folder / "runs").glob("*/01-sleep.ipynb")), None))
        _wait(lambda: left(executed.parent.name))
        time.sleep(1)
        run.send_signal(number)
        run.wait(60)
    assert run.returncode == code
    [result] = results(folder)
    _wait(lambda: not left(result["id"]))
    status = "running" if number == signal.SIGKILL else "interrupted"
    assert (result["status"], result["notebooks"][0]["status"]) == (status, status)
    [kept] = records.listed(folder / "runs")
    assert kept.status == ("died" if number == signal.SIGKILL else "interrupted")
    assert kept.status in tritonlab(folder, "runs").stdout


def _wait(until: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_runs_at_once_do_not_clash(folder: Path) -> None:
    running = [
        subprocess.Popen(command("run", "00", "-p", "count", str(n)), cwd=folder, stdout=subprocess.DEVNULL)
        for n in (1, 2, 3)
    ]
    assert [run.wait(120) for run in running] == [0, 0, 0]
    found = results(folder)
    assert len({result["id"] for result in found}) == 3
    assert sorted(result["notebooks"][0]["steps"][0]["said"] for result in found) == ["did 1", "did 2", "did 3"]
    assert len({result["notebooks"][0]["parameters"]["workspace_folder"] for result in found}) == 3


def test_comparison_tells_what_is_new_and_gone(tmp_path: Path) -> None:
    def record(count: int, *found: str) -> records.Record:
        findings = [{"id": one, "severity": "error", "title": one, "cause": "", "fix": ""} for one in found]
        entry = records.Entry("00-start-here", False, {"count": count}, status="done", verdict="ok", findings=findings)
        made = records.new(tmp_path, [entry], {}, whole=False)
        made.end("done")
        return records.find(tmp_path, made.id)

    told = records.compared(record(1, "a", "b"), record(2, "b", "c"))["notebooks"]["00-start-here"]
    assert (told["new_findings"], told["gone_findings"], told["parameters"]) == (["c"], ["a"], {"count": [1, 2]})
    with pytest.raises(CourseError, match="no run 'nowhere'"):
        records.find(tmp_path, "nowhere")
    with pytest.raises(CourseError, match="2 runs have"):
        records.find(tmp_path, "00-start-here")


def test_a_run_that_still_runs_is_not_taken_up(folder: Path) -> None:
    made = records.new(folder / "runs", [records.Entry("00-start-here", False, {})], {}, whole=False)
    done = tritonlab(folder, "run", "--resume", "last")
    assert (done.exit_code, f"{made.id} still runs" in done.stderr) == (2, True), done.stderr
    assert [record.id for record in records.listed(folder / "runs")] == [made.id]


def test_record_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    made = records.new(tmp_path, [records.Entry("00-start-here", False, {})], {}, whole=False)
    kept = (made.folder / "result.json").read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as a full disk does, it stops in the middle
    try:
        with pytest.raises(CourseError, match=r"cannot be written to .*\n.*Make room"):
            made.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(file.name, file.read_text()) for file in made.folder.iterdir()] == [("result.json", kept)]


def test_record_of_another_process_number_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    made = records.new(tmp_path, [records.Entry("00-start-here", False, {})], {}, whole=False)
    assert records.find(tmp_path, "last").status == "running"
    made.pid_started = psutil.Process(os.getpid()).create_time() - 1000
    made.write()
    assert records.find(tmp_path, "last").status == "died"


def test_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    (folder / "file").write_text("")
    done = tritonlab(folder, "run", "00", "--runs", "file")
    assert (done.exit_code, "cannot be written" in done.stderr) == (2, True), done.stderr


def test_runbooks_see_that_auto_is_a_url_and_make_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONLAB_TARGET", "http://127.0.0.1:9")
    given = ["-p", "workspace_folder", str(tmp_path / "mine"), "-p", "grpc_address", "127.0.0.1:7"]
    given += ["-p", "log", str(course.data("logs/triton-vllm-ready.log"))]
    done = CliRunner().invoke(app, ["run", "03", "07", *given, "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1, done.output
    [result] = results(tmp_path)
    for entry in result["notebooks"]:
        assert entry["fault"] == ""
        assert next(step["status"] for step in entry["steps"] if step["what"] == "it is live") == "failed"
    assert "Where did it stop?" in [step["what"] for step in result["notebooks"][1]["steps"]]
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    asked = steps.running("auto", "127.0.0.1:7", "127.0.0.1:8")
    assert asked is not None
    assert (asked.grpc_url, asked.metrics_url) == ("127.0.0.1:7", "http://127.0.0.1:8/metrics")
    assert steps.running("local") is None


def test_log_that_is_explained_when_none_is_given_became_ready(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "06", "--runs", str(tmp_path / "runs")])
    assert (done.exit_code, results(tmp_path)[0]["verdict"]) == (0, "ok"), done.output


def test_runbook_takes_an_error_for_the_cause_that_is_known() -> None:
    book = Runbook("try")

    def fail() -> str:
        raise ServerFailed(
            "tritonserver ended.\nThe log ends:\n  ValueError: No available memory for the cache blocks."
        )

    assert book.step("it starts", fail) is None
    assert book.step("it answers", lambda: "yes") is None
    assert book.step("it is told", lambda: "yes", anyway=True) == "yes"
    assert [step.status for step in book.steps] == ["failed", "not tried", "ok"]
    assert (book.verdict, book.findings[0]["id"]) == ("failed", "no-memory-for-kv-cache")
    assert "What to do: Raise gpu_memory_utilization" in repr(book)


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        ("triton-vllm-ready", "ok"),
        ("trtllm-build", "ok"),
        ("h200-triton-vllm-no-kv-cache-memory", "failed"),
        ("local-triton-vllm-ready-and-stopped", "undecided"),
    ],
)
def test_runbook_takes_the_verdict_of_a_log(log: str, verdict: str) -> None:
    book = Runbook("try")
    book.read(read_log(course.data(f"logs/{log}.log")))
    assert book.verdict == verdict
