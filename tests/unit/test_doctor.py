"""The preflight: one screen, an exit code, JSON, and an end within ten seconds whatever hangs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from tritonlab import checkup, docker_checks, doctor
from tritonlab.checkup import Finding, Report
from tritonlab.engine import machine
from tritonlab.errors import TritonlabError

LOOKING = sys.modules["tritonlab.doctor"]  # the function hides its module
TEXT = {"type": "string"}
SCHEMA = {
    "type": "object",
    "required": ["healthy", "findings"],
    "additionalProperties": False,
    "properties": {
        "healthy": {"type": "boolean"},
        "findings": {
            "type": "array",
            "minItems": 4,
            "items": {
                "type": "object",
                "required": ["status", "what", "found", "fix"],
                "additionalProperties": False,
                "properties": {
                    "status": {"enum": ["ok", "warning", "FAIL"]},
                    "what": {"type": "string", "minLength": 1},
                    "found": {"type": "string", "minLength": 1},
                    "fix": {"type": "string"},
                },
                "if": {"properties": {"status": {"const": "ok"}}},
                "else": {"properties": {"fix": {"minLength": 10}}},
            },
        },
    },
}


def tritonlab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tritonlab")), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=60, check=False
    )


def told(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = tritonlab("doctor", "--json", *arguments, **environment)
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert report["healthy"] is (done.returncode == 0)
    return done.returncode, {finding["what"]: finding for finding in report["findings"]}


@contextmanager
def silent(listening: socket.socket, first: bytes = b"") -> Iterator[None]:
    """Somebody who takes every call, answers the first ones with `first`, and is silent for ever after."""
    calls: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                call, _ = listening.accept()
            except OSError:
                return
            calls.append(call)
            if first and len(calls) < 3:
                threading.Thread(target=answer, args=(call,), daemon=True).start()

    def answer(call: socket.socket) -> None:
        asked = call.recv(65_536)
        if asked and b"/info" not in asked:
            call.sendall(first)

    listening.listen()
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)
        for call in calls:
            call.close()


def test_what_is_asked_for_decides(tmp_path: Path) -> None:
    code, found = told(TRITONLAB_TARGET="local")
    assert code == 0, found
    assert {"Python", "machine", "local engine", "memory", "ports", "course folder", "data folder", "clock"} <= set(
        found
    )
    assert {finding["status"] for finding in found.values()} <= {"ok", "warning"}
    code, found = told("--target", "docker", DOCKER_HOST=f"unix://{tmp_path / 'docker.sock'}")
    assert (code, found["Docker engine"]["status"], "local engine" in found) == (1, "FAIL", False)
    code, found = told("--target", "http://127.0.0.1:9", "--target", "local")
    assert (code, found["server"]["status"], found["local engine"]["status"]) == (1, "FAIL", "ok")
    assert "Nothing answers at" in found["server"]["found"]


def test_what_the_target_in_use_does_without_is_no_failure(tmp_path: Path) -> None:
    """The schema wants a name, and a mend for what is not ok."""
    elsewhere = {"TRITONLAB_HOME": str(tmp_path), "TRITONLAB_ENGINE": ""}
    _, found = told(TRITONLAB_TARGET="http://127.0.0.1:9", **elsewhere)
    engine = found["local engine"]
    assert engine["status"] == "ok"
    assert engine["found"].startswith("the target in use does without: The local engine is not installed in ")
    _, found = told(TRITONLAB_TARGET="local", **elsewhere)
    assert found["local engine"]["status"] == "FAIL"


def test_look_that_fails_is_told_where_it_is_not_needed() -> None:
    def fails() -> Iterator[Finding]:
        raise ZeroDivisionError("by nothing")
        yield

    [finding] = LOOKING._unneeded("engine", fails)
    assert (finding.status, finding.what, bool(finding.fix)) == ("warning", "engine", True)


def test_unknown_target_is_a_sentence() -> None:
    for targets in ("moon", ["local", "moon"]):
        with pytest.raises(TritonlabError, match="no target named 'moon'"):
            doctor(targets)
    done = tritonlab("doctor", "--target", "moon")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_docker_that_hangs_is_told_and_not_waited_for(tmp_path: Path) -> None:
    """It says its version, as an engine does whose disk hangs, and then nothing more for a minute."""
    version = b'{"ApiVersion": "1.41", "Version": "20.10"}'
    first = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(version),
        version,
    )
    address = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        with silent(listening, first):
            code, found = told("--target", "all", DOCKER_HOST=f"unix://{address}")
    assert code == 1
    assert found["Docker engine"]["found"] == f"no answer within {LOOKING.LIMIT_S:g} s"
    assert found["local engine"]["status"] == "ok", "the others are told all the same"


def test_server_that_hangs_is_told_and_not_waited_for() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with silent(listening):
            code, found = told("--target", url)
    assert (code, found[url]["status"]) == (1, "FAIL")
    assert "no answer within" in found[url]["found"]


def test_one_limit_holds_for_all_looks_together() -> None:
    assert LOOKING.LIMIT_S < 9, "the rest of the ten seconds is for Python to start"
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding("ok", "its first step", "done")
        never.wait()

    def fails() -> Iterator[Finding]:
        raise ZeroDivisionError("by nothing")
        yield

    started = time.monotonic()
    looks = [*((f"look {number}", hangs, number < 15) for number in range(20)), ("broken", fails, True)]
    found = LOOKING._together(looks, 0.2)
    assert time.monotonic() - started < 2
    never.set()
    assert [f.what for f in found].count("its first step") == 20
    late = [f.status for f in found if f.found == "no answer within 0.2 s"]
    assert late == ["FAIL"] * 15 + ["warning"] * 5
    assert (found[-1].status, "ZeroDivisionError: by nothing" in found[-1].found) == ("warning", True)


def test_jupyterlab_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    [finding] = LOOKING._python()
    assert (finding.status, "make setup" in finding.fix) == ("FAIL", True)


def test_folders_that_cannot_be_written_to() -> None:
    """Not even by root: nobody makes a file in /proc."""
    _, found = told("--target", "local", TRITONLAB_HOME="/proc/tritonlab")
    assert found["data folder"]["status"] == "FAIL"
    assert "TRITONLAB_HOME" in found["data folder"]["fix"]


def test_room_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "DISK_GB", 1e9)
    assert next(LOOKING._data(wants_engine=True)).status == "FAIL"
    assert next(LOOKING._data(wants_engine=False)).status == "ok"
    monkeypatch.setattr(LOOKING, "RUNS_GB", 1e9)
    assert next(LOOKING._data(wants_engine=False)).status == "warning"


def test_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOOKING._clock(tmp_path).status == "ok"
    monkeypatch.setattr(LOOKING, "MOST_DRIFT_S", -1.0)
    assert "off this machine's clock" in LOOKING._clock(tmp_path).found
    monkeypatch.setattr(LOOKING, "OLDEST_CLOCK", datetime(2999, 1, 1, tzinfo=UTC))
    assert LOOKING._clock(tmp_path).status == "FAIL"


def test_loopback_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_checks.ports, "HOST", "192.0.2.1")  # an address that no machine has
    [finding] = docker_checks.free_ports()
    assert (finding.status, "192.0.2.1" in finding.found) == ("FAIL", True)


LONG = "the engine said a long sentence about what it could not do, and why, and where, " * 5
COMMAND = "`TRITONLAB_ENGINE=/srv/a/folder tritonlab engine install`"
OK = [Finding("ok", f"thing {number}", "well") for number in range(14)]


@pytest.mark.parametrize(
    "findings",
    [
        [],
        OK,
        [*OK, *(Finding("warning", f"bad {n}", LONG, f"Run {COMMAND}.") for n in range(3))],
        [*OK, *(Finding("FAIL", f"bad {n}", f"{LONG}\n{LONG}", LONG) for n in range(30))],
    ],
    ids=["nothing", "well", "three", "thirty"],
)
@pytest.mark.parametrize("columns", [40, 80, 100, 300, None])
def test_report_fits_one_screen(findings: list[Finding], columns: int | None) -> None:
    lines, narrow, wide = checkup.SCREEN
    shown = Report(findings).screen(columns).splitlines()
    assert len(shown) <= lines == 24
    assert max(map(len, shown)) <= max(narrow, min(columns or wide, wide)) <= 120
    assert shown[-1].endswith(f"{sum(f.status == 'FAIL' for f in findings)} FAIL")


def test_what_is_wrong_comes_first_and_its_mend_can_be_copied() -> None:
    findings = [*OK, Finding("warning", "odd", LONG, f"Ask. {COMMAND} does it."), Finding("FAIL", "bad", "gone", "Do.")]
    shown = Report(findings).screen(80)
    assert shown.startswith("FAIL     bad: gone\n         -> Do.\nwarning  odd: ")
    assert COMMAND in shown
    assert "thing 13" in shown
