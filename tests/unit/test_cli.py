"""The command line: exit codes, sentences on stderr, no traceback whatever is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tritonlab import cli, data
from tritonlab.servers import leftovers


def tritonlab(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("tritonlab")), *arguments],
        input=stdin,
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )


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
        (("run", "77"), 1, "There is no notebook '77'"),
        (("run", "00", "-p", "modle=x"), 1, "Did you mean 'model'?"),
        (("run", "00", "-p", "model"), 1, "NAME=VALUE"),
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("[1, 2]", [1, 2]),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("null", "null"),
        ("", ""),
        ("{a: b", "{a: b"),
        ('"quoted"', '"quoted"'),
    ],
)
def test_values_of_parameters(text: str, value: object) -> None:
    assert cli._parameters([f"name={text}"]) == {"name": value}


def test_engine_status_and_remove(tmp_path: Path) -> None:
    assert tritonlab("engine", "status").returncode == 0
    assert tritonlab("engine", "status", TRITONLAB_HOME=str(tmp_path)).returncode == 1
    assert b"no engine to remove" in tritonlab("engine", "remove", TRITONLAB_HOME=str(tmp_path)).stdout


def test_run_executes_with_parameters_and_reports(tmp_path: Path) -> None:
    """A notebook of one cell, run by the command in a course of its own."""
    cells = [
        {
            "cell_type": "code",
            "id": "parameters",
            "metadata": {"tags": ["parameters"]},
            "source": ["count: int = 1"],
            "execution_count": None,
            "outputs": [],
        },
        {
            "cell_type": "code",
            "id": "body",
            "metadata": {},
            "source": ["print(count + 1); assert count < 5"],
            "execution_count": None,
            "outputs": [],
        },
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "00-start-here.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(Path(sys.executable).with_name("tritonlab")), "run", *arguments]
        return subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)

    good = run("0", "-p", "count=3", "--runs", "good")
    assert good.returncode == 0, good.stderr
    assert b"1 of 1 notebooks ran" in good.stdout
    assert "4" in (tmp_path / "good" / "00-start-here.html").read_text()
    bad = run("-p", "count=9", "--runs", "bad")
    assert bad.returncode == 1
    assert b"AssertionError" in bad.stdout
    assert (tmp_path / "bad" / "00-start-here.html").exists()


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
