"""The command line: exit codes, sentences on stderr, no traceback whatever is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tritonlab import data
from tritonlab.course.exercises import exercises
from tritonlab.servers import leftovers


def tritonlab(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("tritonlab")), *arguments],
        input=stdin,
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )


def test_without_arguments_it_says_what_to_do_next(tmp_path: Path) -> None:
    ready = tritonlab(TRITONLAB_TARGET="local").stdout.decode()
    assert "The local engine is installed" in ready
    assert "tritonlab lab " in ready
    assert "00-start-here" in ready
    assert "engine install" not in ready
    new = tritonlab(TRITONLAB_HOME=str(tmp_path), TRITONLAB_TARGET="local").stdout.decode()
    assert "not installed" in new
    assert new.index("tritonlab engine install") < new.index("tritonlab lab ")
    for target in ("docker", "http://somewhere:8000"):
        done = tritonlab(TRITONLAB_HOME=str(tmp_path), TRITONLAB_TARGET=target)
        assert (done.returncode, b"engine install" in done.stdout) == (0, False)
        assert target in done.stdout.decode()


def test_without_arguments_it_knows_where_a_learner_is(tmp_path: Path) -> None:
    there = {"TRITONLAB_HOME": str(tmp_path), "TRITONLAB_LEARNER": "ada", "TRITONLAB_PROGRESS": "on"}
    assert "begin with 00-start-here" in tritonlab(**there).stdout.decode()
    for solved, told in (("00.1", "00-start-here, where 1 of"), ("00.", "go on with 01-model-repository, where 0 of")):
        records = {name: {"tries": 1, "solved": "2026-11-20"} for name in exercises() if name.startswith(solved)}
        (tmp_path / "progress" / "ada.json").write_text(json.dumps({"exercises": records}))
        assert told in tritonlab(**there).stdout.decode()


def test_doctor_is_content_here() -> None:
    done = tritonlab("doctor")
    assert done.returncode == 0, done.stdout
    assert b"local engine" in done.stdout


def test_doctor_without_an_engine(tmp_path: Path) -> None:
    done = tritonlab("doctor", TRITONLAB_HOME=str(tmp_path))
    assert done.returncode == 1
    assert b"tritonlab engine install" in done.stdout


@pytest.mark.parametrize(
    ("log", "code"),
    [("triton-vllm-ready.log", 0), ("trtllm-build.log", 0), ("triton-trtllm-ready.log", 0)],
)
def test_logs_of_the_course(log: str, code: int) -> None:
    assert tritonlab("logs", str(data(f"logs/{log}"))).returncode == code


@pytest.mark.parametrize("stdin", [b"", b"\0\xff" * 500, b"hello\n"])
def test_logs_from_standard_input(stdin: bytes) -> None:
    assert tritonlab("logs", "-", stdin=stdin).returncode == 3


def test_logs_as_json_and_explained() -> None:
    log = str(data("logs/h200-triton-vllm-no-kv-cache-memory.log"))
    told = json.loads(tritonlab("logs", log, "--json").stdout)
    assert told["findings"][0]["id"] == "no-memory-for-kv-cache"
    explained = tritonlab("logs", log, "--explain").stdout.decode()
    assert "What to do: Raise gpu_memory_utilization" in explained
    assert "Line 43: " in explained


def test_list_of_causes() -> None:
    done = tritonlab("logs", "--list-causes")
    assert done.returncode == 0
    assert b"no-memory-for-kv-cache" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("logs",), 1, "No log was named"),
        (("logs", "/nowhere.log"), 2, "nowhere.log"),
        (("logs", "/"), 2, ""),
        (("run", "77"), 2, "There is no notebook '77'"),
        (("run", "00", "-p", "modle", "x"), 2, "Did you mean 'model'?"),
        (("run", "00", "-p", "model=x"), 2, "Write -p KEY VALUE, in two words"),
        (("runs", "nowhere"), 1, "There is no run 'nowhere'"),
        (("serve", "/nowhere", "--target", "local"), 1, "no model repository at"),
        (("serve", "/nowhere", "--target", "moon"), 1, "no target named 'moon'"),
        (("ask", "hello", "--model", "m", "--url", "http://127.0.0.1:9"), 1, "Nothing answers at"),
        (("ask", "hello", "--model", "m", "--url", "x"), 1, "http://"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_faults_are_sentences(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = tritonlab(*arguments)
    said = done.stderr.decode()
    assert (done.returncode, "Traceback" in said) == (code, False), said
    assert words in " ".join(said.split())


def test_engine_status_and_remove(tmp_path: Path) -> None:
    assert tritonlab("engine", "status").returncode == 0
    assert tritonlab("engine", "status", TRITONLAB_HOME=str(tmp_path)).returncode == 1
    assert b"no engine to remove" in tritonlab("engine", "remove", TRITONLAB_HOME=str(tmp_path)).stdout


def test_ps_and_stop_where_nothing_runs(tmp_path: Path) -> None:
    places = {"TRITONLAB_HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path / 'docker.sock'}"}
    assert tritonlab("ps", **places).stdout == b"no server of tritonlab runs\n"
    assert tritonlab("stop", "--all", **places).returncode == 0
    for arguments, told in (((), b"No server was named"), (("0a1b2c3d",), b"There is no server '0a1b2c3d'")):
        done = tritonlab("stop", *arguments, **places)
        assert done.returncode == 1
        assert told in done.stderr


def test_record_that_outlived_its_keeper_names_no_process(tmp_path: Path) -> None:
    """The machine was started anew, and the keeper's number is by now that of another process: this very one."""
    places = {"TRITONLAB_HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path / 'docker.sock'}"}
    folder = tmp_path / "servers" / "0a1b2c3d"
    folder.mkdir(parents=True)
    (folder / "keeper.json").write_text(json.dumps({"pid": os.getpid(), "container": True}))
    assert tritonlab("ps", **places).stdout == b"no server of tritonlab runs\n"
    assert tritonlab("stop", "0a1b2c3d", **places).returncode == 1
    assert leftovers.sweep(tmp_path / "servers") == []
    assert (folder / "keeper.json").exists(), "it tells the next look at the engine that a container may be left"
