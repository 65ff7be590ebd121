"""The doctor's Docker part, as far as it needs no engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tritonlab import DockerRun, compatibility, docker_checks, gpus
from tritonlab.errors import DockerError
from tritonlab.servers import engines, image

TOKEN = "hf_" + "a1B2" * 8


@contextmanager
def hub(status: int) -> Iterator[str]:
    """A server that answers every request with that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status if self.headers["Authorization"] == f"Bearer {TOKEN}" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def told(token: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", token)
    finding = docker_checks._token()
    assert not token or token not in f"{finding}"
    return f"{finding.status} {finding.found}"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "ok not set"),
        (f"{TOKEN}\n", "warning HF_TOKEN has blanks or quotes"),
        (f"'{TOKEN}'", "warning HF_TOKEN has blanks or quotes"),
        ("sk-1234567890abcdefghijkl", "warning HF_TOKEN does not look like one"),
    ],
)
def test_token_is_judged_by_its_form(token: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(token, monkeypatch).startswith(words)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "ok good; opens"),
        (401, "warning well formed, and the Hub does not know it"),
        (403, "warning good, and without access"),
        (500, "ok well formed; the Hub gave no clear answer"),
    ],
)
def test_token_is_tried_on_the_hub(status: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(status) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert told(TOKEN, monkeypatch).startswith(words)


def test_hub_out_of_reach_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert told(TOKEN, monkeypatch).startswith("ok well formed; the Hub was not reached")


def test_engine_that_was_named_and_does_not_answer_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    _, engine = docker_checks.look("")
    assert (engine.status, engine.what) == ("warning", "Docker engine")
    assert "Start Docker" in engine.fix


def test_no_engine_at_all_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engines, "_named", lambda: None)
    monkeypatch.setattr(engines, "_sockets", lambda: iter(()))
    assert [finding.status for finding in docker_checks.look("")][:2] == ["ok", "ok"]
    with pytest.raises(DockerError, match="no socket"):
        engines.connect()


def test_refusal_that_nobody_knows_is_passed_on() -> None:
    error = engines.refusal("docker: the moon is in the wrong house")
    assert "the moon" in str(error)
    assert error.said == "docker: the moon is in the wrong house"


def test_release_that_a_driver_allows() -> None:
    newest = next(iter(compatibility.releases().values()))
    assert compatibility.newest("999.1") == newest
    fitting = compatibility.newest("575.51.03")
    assert fitting is not None
    assert fitting.tag == "25.07"
    assert compatibility.newest("300.1") is None


def test_release_says_whether_it_has_the_engine_path() -> None:
    releases = compatibility.releases()
    assert releases["25.06"].builds_engines
    assert not releases["26.08"].builds_engines
    line = "docker run --gpus all nvcr.io/nvidia/tritonserver:25.06-trtllm-python-py3 tritonserver"
    assert "compiles and serves TensorRT engines" in DockerRun.parse(line).explain().to_string()


def test_gpus_are_asked_of_nvidia_smi(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("bin")
    monkeypatch.setenv("PATH", str(folder))
    assert gpus.driver() == ""
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 575.51.03\n")
    program.chmod(0o755)
    assert gpus.driver() == "575.51.03"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.driver() == ""


def test_image_is_made_of_the_locks_versions() -> None:
    wanted = image._requirements()
    assert wanted[0].startswith("torch==")
    assert "numpy==1.26.4" in wanted, "the markers are those of the container's Python, whatever runs here"
    assert not [line for line in wanted if ";" in line]
