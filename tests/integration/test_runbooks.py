"""Runbooks against the real server, from a shell, cron and CI: what they say, what they leave, what they must not."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import papermill
import psutil
import pytest
import yaml
from papermill.exceptions import PapermillExecutionError

from tests.integration.conftest import tutor_repository
from tritonlab import ModelRepository, data
from tritonlab.course import runner
from tritonlab.faults import FAULTS
from tritonlab.home import home
from tritonlab.servers import Server

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
SCHEMA = json.loads((Path(runner.__file__).with_name("record.schema.json")).read_text())
CANARY = "hf_" + "canary" * 6
# Where another checkout is installed than the one that is tested.
THIS_CHECKOUT = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def command(*arguments: str, runs: Path) -> list[str]:
    return [sys.executable, "-m", "tritonlab", "run", *arguments, "--runs", str(runs)]


def run(*arguments: str, runs: Path, **environment: str) -> tuple[int, dict[str, Any], str]:
    """The command's exit code, its result, and its page."""
    done = subprocess.run(
        command(*arguments, runs=runs),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    [file] = runs.glob("*/result.json")
    result = json.loads(file.read_text())
    jsonschema.validate(result, SCHEMA)
    [page] = runs.glob("*/*.html")
    return done.returncode, result, page.read_text()


def steps(result: dict[str, Any]) -> dict[str, str]:
    return {step["what"]: step["status"] for entry in result["notebooks"] for step in entry["steps"]}


def addresses(server: Server) -> list[str]:
    """The server's other ports were chosen free, and are not the next ones."""
    metrics = str(server.metrics_url).removeprefix("http://").removesuffix("/metrics")
    return ["-p", "grpc_address", str(server.grpc_url), "-p", "metrics_address", metrics]


def test_smoke_test_of_a_server_that_runs(server: Server, tmp_path: Path) -> None:
    code, result, page = run(
        "03", "-p", "target", server.url, "-p", "model", "gemma", *addresses(server), runs=tmp_path
    )
    assert (code, result["verdict"]) == (0, "ok"), result
    assert set(steps(result).values()) == {"ok"}
    assert {"generate_stream comes in pieces", "gRPC answers", "metrics are counted"} <= steps(result).keys()
    assert result["notebooks"][0]["versions"] == {"triton": "2.51.0"}
    assert server.url in page
    assert server.ready(), "a server that was there is left running"


def test_smoke_test_of_nothing_and_of_a_model_that_is_not_there(server: Server, tmp_path: Path) -> None:
    code, result, page = run("03", "-p", "target", "http://127.0.0.1:9", runs=tmp_path / "nothing")
    assert (code, result["verdict"]) == (1, "failed")
    assert steps(result).pop("it is live") == "failed"
    assert "Nothing that is live answers" in page
    given = ("-p", "target", server.url, "-p", "model", "nobody", "-p", "services", "http")
    code, result, _ = run("03", *given, runs=tmp_path / "nobody")
    assert "gRPC answers" not in steps(result)
    assert (code, steps(result)["generate answers"], steps(result)["an unknown model is refused"]) == (
        1,
        "failed",
        "ok",
    )


def test_troubleshooting_a_server_that_is_well_and_a_log_that_is_not(server: Server, tmp_path: Path) -> None:
    code, result, _ = run("07", "-p", "target", server.url, runs=tmp_path / "well")
    assert (code, steps(result)["tutor answers"], steps(result)["no model has failed"]) == (0, "ok", "ok"), result
    log = data("logs/h200-triton-vllm-weights-out-of-memory.log")
    code, result, page = run("07", "-p", "log", str(log), runs=tmp_path / "log")
    assert code == 1
    assert {"Where did it stop?", "What came first?", "Whose word is it?", "What changed?"} == steps(result).keys()
    assert "cuda-oom-load" in page


def test_repository_with_an_error_is_told_and_not_started(tmp_path: Path) -> None:
    folder = tmp_path / "model_repository" / "broken"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "vlm"\n')
    code, result, _ = run("05", "-p", "repository", str(folder.parent), runs=tmp_path / "runs")
    assert (code, steps(result)) == (1, {"the repository is in order": "failed", "a server is started": "not tried"})


def test_repository_is_validated_and_its_server_asked(
    repository: ModelRepository, server: Server, tmp_path: Path
) -> None:
    given = ("-p", "repository", str(repository.path), "-p", "target", server.url)
    code, result, _ = run("05", *given, runs=tmp_path)
    assert (code, steps(result)["gemma answers"], steps(result)["tutor answers"]) == (0, "ok", "ok"), result


def test_two_launches_at_once_leave_no_secret_and_nothing_running(tmp_path: Path) -> None:
    """The token is in the environment of the servers, and in nothing that anybody can read afterwards or in a list."""
    environment = {**os.environ, "HF_TOKEN": CANARY, "HUGGING_FACE_HUB_TOKEN": CANARY}
    before = set((home() / "servers").glob("*"))
    with _process_lists() as (lists, holders), ExitStack() as outputs:
        running = [
            subprocess.Popen(
                command(*names, runs=tmp_path / "runs"),
                env=environment,
                stdout=outputs.enter_context((tmp_path / f"output-{len(names)}").open("wb")),
                stderr=subprocess.STDOUT,
            )
            for names in (["02"], ["00", "02"])
        ]
        assert [one.wait(300) for one in running] == [0, 0], (tmp_path / "output-2").read_text()
    assert any("tritonserver" in name for name in holders), "the token did not reach the server: nothing was tested"
    assert not [line for line in lists if CANARY in line]
    results = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*/result.json")]
    assert len({result["notebooks"][-1]["parameters"]["workspace_folder"] for result in results}) == 2
    assert all(runner._processes(result["id"]) == [] for result in results)
    _no_file_has_the_token(tmp_path, before)


def test_launch_of_a_model_that_fails_at_its_load_is_told_without_the_secret(tmp_path: Path) -> None:
    """`validate` finds nothing wrong with the repository; a server that fails says more than one that is well."""
    repository = tutor_repository(tmp_path / "model_repository", "mine")
    FAULTS["weights-cut"].change(repository["mine"].path)
    before = set((home() / "servers").glob("*"))
    given = ("-p", "repository", str(repository.path), "-p", "model", "mine", "-p", "target", "local")
    with _process_lists() as (lists, holders):
        code, result, page = run("02", *given, runs=tmp_path / "runs", HF_TOKEN=CANARY)
    assert (code, result["verdict"]) == (1, "failed"), result
    told = steps(result)
    assert (told["the repository is in order"], told["it becomes ready"], told["mine answers"]) == (
        "ok",
        "failed",
        "not tried",
    )
    [finding] = result["notebooks"][0]["findings"]
    assert (finding["id"], bool(finding["fix"])) == (FAULTS["weights-cut"].cause, True), finding
    assert finding["title"] in page
    assert any("tritonserver" in name for name in holders), "the token did not reach the server: nothing was tested"
    assert not [line for line in lists if CANARY in line]
    _no_file_has_the_token(tmp_path, before)


def _no_file_has_the_token(folder: Path, before: set[Path]) -> None:
    made = [folder, *(set((home() / "servers").glob("*")) - before)]
    files = [file for place in made for file in place.rglob("*") if file.is_file()]
    assert {".ipynb", ".html", ".json", ".log"} <= {file.suffix for file in files}
    assert [file for file in files if CANARY.encode() in file.read_bytes()] == []


@contextmanager
def _process_lists() -> Iterator[tuple[set[str], set[str]]]:
    """What process lists show within the block, and the names of the processes whose environment holds the canary."""
    lists: set[str] = set()
    holders: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for process in psutil.process_iter():
                with suppress(psutil.Error, OSError):
                    lists.add(" ".join(process.cmdline()))
                    if CANARY in process.environ().values():
                        holders.add(process.name())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lists, holders
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_launch_that_is_ended_takes_its_server_along(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with subprocess.Popen(command("02", runs=tmp_path), stdout=subprocess.DEVNULL) as launch:
        record = _wait(lambda: next(tmp_path.glob("*/result.json"), None)).parent
        _wait(lambda: any(process.name() == "tritonserver" for process, _ in _left(record)))
        time.sleep(2)
        launch.send_signal(number)
        launch.wait(90)
    assert launch.returncode == code
    if number == signal.SIGKILL:
        # Nobody is there to wait for it.
        _wait(lambda: not _left(record))
    assert _left(record) == []
    result = json.loads((record / "result.json").read_text())
    jsonschema.validate(result, SCHEMA)
    assert result["status"] == ("interrupted" if number == signal.SIGTERM else "running")
    assert (record / "02-launch-vllm.ipynb").exists()


def _left(record: Path) -> list[tuple[Any, bool]]:
    return runner._processes(record.name)


def _wait(until: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < deadline
        with suppress(psutil.Error):
            time.sleep(0.1)
    return found


def test_line_for_cron(server: Server, tmp_path: Path) -> None:
    """The line of docs/runbooks.md, in the environment that cron gives."""
    [line] = re.findall(r"^\*/30 (?:\S+ ){4}(.*)$", DOCS, re.MULTILINE)
    assert "%" not in line, "cron would take it for the end of the line"
    line = line.replace("/srv/tritonlab ", f"{ROOT} ").replace("/var/tmp", str(tmp_path))
    environment = {"HOME": str(Path.home()), "LOGNAME": "me", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    places = {
        f"{server.url} {shlex.join(addresses(server))}": ("", 0),
        "http://127.0.0.1:9": (f"smoke test failed, see {tmp_path}/tritonlab-smoke.log\n", 1),
    }
    for place, (printed, code) in places.items():
        done = subprocess.run(
            ["/bin/sh", "-c", line.replace("http://127.0.0.1:8000", place)],
            cwd="/",
            env={**environment, **THIS_CHECKOUT},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == (printed, ""), (tmp_path / "tritonlab-smoke.log").read_text()
        newest = max((tmp_path / "tritonlab-runs").glob("*/result.json"), key=lambda file: file.stat().st_mtime)
        assert json.loads(newest.read_text())["exit_code"] == code


def test_job_for_ci(server: Server, tmp_path: Path) -> None:
    """The commands of the job in docs/runbooks.md, one after the other, as a runner of GitHub's does."""
    [text] = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    job = yaml.safe_load(text)
    [smoke] = job["jobs"].values()
    setup, *commands = [step["run"] for step in smoke["steps"] if "run" in step]
    assert setup.startswith("make setup"), "the venv that this test runs in"
    assert len(commands) == 1
    for link in (".venv", "notebooks", "data"):
        (tmp_path / link).symlink_to(ROOT / link)
    environment = {**os.environ, **job["env"], "CI": "true", "TRITON_URL": server.url}
    done = subprocess.run(
        ["bash", "-e", "-c", f"{commands[0]} {shlex.join(addresses(server))}"],
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0
    uploaded = next(step["with"]["path"] for step in smoke["steps"] if "upload-artifact" in step.get("uses", ""))
    assert list((tmp_path / uploaded).glob("*/*.html"))


def test_exported_runbook_raises_for_other_schedulers(tmp_path: Path) -> None:
    """What Airflow's operator does: papermill on the exported notebook."""
    exported = [sys.executable, "-m", "tritonlab", "run", "06", "--export", str(tmp_path)]
    subprocess.run(exported, check=True, capture_output=True)
    notebook, output = str(tmp_path / "06-read-the-logs.ipynb"), str(tmp_path / "out.ipynb")
    good = {"log": str(data("logs/triton-vllm-ready.log"))}
    papermill.execute_notebook(notebook, output, good, progress_bar=False, execution_timeout=60)
    bad = {"log": str(data("logs/h200-triton-vllm-weights-out-of-memory.log"))}
    with pytest.raises(PapermillExecutionError, match="explain this log: failed"):
        papermill.execute_notebook(notebook, output, bad, progress_bar=False, execution_timeout=60)
