"""What README.md shows is done to the letter: its Python on a real server, its commands in a shell."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ANSWER = "Sunlight holds all colours"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader works; the Python of README.md has run there."""
    folder = tmp_path_factory.mktemp("reader")
    [block] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no problems" in done.stdout
    assert ANSWER in done.stdout
    return folder


def command(name: str) -> list[str]:
    """The line of README.md that begins so, as the words of a command."""
    [line] = re.findall(rf"^tritonlab ({name}\b.*?)(?:\s+#.*)?$", README, re.MULTILINE)
    return [str(Path(sys.executable).with_name("tritonlab")), *shlex.split(line)]


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[None]:
    """`tritonlab serve`, as README.md gives it, until Ctrl-C."""
    with subprocess.Popen(
        command("serve"), cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "TRITONLAB_TARGET": "local"}
    ) as server:
        assert server.stdout is not None
        try:
            assert any("Ctrl-C stops it" in line for line in server.stdout), "it ended before it was ready"
            yield
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)
    assert server.returncode == 0


def test_ask(served: None, folder: Path) -> None:
    assert ANSWER in subprocess.run(command("ask"), cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("name", "words"), [("doctor", "local engine"), ("logs", "LogReport: ready")])
def test_command(name: str, words: str) -> None:
    done = subprocess.run(command(name), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout


def eventually_answers(address: str) -> bool:
    """Jupyter prints its address a moment before it listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return requests.get(address, timeout=30).ok
        except requests.ConnectionError:
            time.sleep(0.2)
    return False


def test_lab_opens_on_the_first_notebook() -> None:
    """Where no browser can be started, as on a host far away, people copy the address that it prints."""
    with subprocess.Popen(
        command("lab"), cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "BROWSER": "false"}
    ) as lab:
        assert lab.stderr is not None
        try:
            address = next(line.strip() for line in lab.stderr if "http://127.0.0.1" in line)
            assert "/lab/tree/notebooks/00-start-here.ipynb?token=" in address
            assert eventually_answers(address)
        finally:
            lab.terminate()
            lab.communicate(timeout=60)
