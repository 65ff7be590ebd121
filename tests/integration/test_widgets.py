"""The panels against the real server: an answer as it comes, one that is stopped, a start, figures that move."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import tutor_repository
from tritonlab import serve
from tritonlab.errors import RequestRejected, ServerFailed, TritonlabError
from tritonlab.metrics import Figures
from tritonlab.servers import Server
from tritonlab.widgets import Chat, LiveMetrics, StartPanel

QUESTION = "Why is the sky blue?"


def until(happens: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def figures(server: Server) -> Figures:
    return Figures.of(server.client.metrics())


def test_chat_answers_with_its_figures(server: Server) -> None:
    chat = Chat(server.client, "tutor", max_tokens=64)
    answer = chat.ask(QUESTION)
    assert answer.text == server.client.generate("tutor", QUESTION, max_tokens=64, temperature=0).text
    *_, question, said, told = chat.plain().splitlines()
    assert question == f"you: {QUESTION}"
    assert said == f"tutor: {answer.text.strip()}"
    assert f"{answer.num_output_tokens} tokens, " in told
    assert "first token after" in told
    assert "finish reason: stop" in told


def test_stop_cancels_on_the_server(server: Server) -> None:
    """`gemma` reports vLLM's metrics: 900 tokens take seconds, a cancelled request is gone long before."""
    before = figures(server).generated_tokens or 0
    chat = Chat(server.client, "gemma", max_tokens=900, ignore_eos=True)
    chat._question.value = QUESTION
    chat.send()
    until(lambda: "The answer is coming" in chat._state.value)
    assert figures(server).running == 1
    with pytest.raises(TritonlabError, match="still coming"):
        chat.ask("Another?")
    chat.stop()
    until(lambda: not chat._asking.locked())
    until(lambda: figures(server).running == 0, 2.0)
    assert "cancelled on the server" in chat.plain()
    time.sleep(0.5)
    made = (figures(server).generated_tokens or 0) - before
    assert 0 < made < 800
    assert (figures(server).generated_tokens or 0) - before == made, "it goes on"
    assert chat.ask(QUESTION).num_output_tokens == 900, "the panel answers again after a stop"


def test_chat_shows_what_the_server_refuses(server: Server) -> None:
    chat = Chat(server.client, "tutor")
    with pytest.raises(RequestRejected) as refused:
        chat.ask("word " * 3000)
    assert refused.value.what in chat.plain()
    assert chat._last.value.count('role="alert"') == 1


def test_live_metrics_move_and_end(server: Server) -> None:
    panel = LiveMetrics(server.client, every=0.1)
    try:
        asked = server.client.generate("gemma", QUESTION, max_tokens=200, ignore_eos=True, temperature=0)
        made = f"{figures(server).generated_tokens:,.0f}"
        until(lambda: f"tokens generated {made}" in " ".join(panel.plain().split()))
        assert asked.num_output_tokens == 200
        assert "tokens per second: now" in panel._chart.value
    finally:
        panel.stop()
    assert panel._thread is not None
    assert not panel._thread.is_alive()
    assert "stopped" in panel.plain()


def test_panels_over_a_whole_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Start, figures, stop: the metrics say that the server has gone, and leave no thread."""
    repository = tutor_repository(tmp_path / "repository", "tutor")
    with serve(repository, models=["tutor"], target="local") as server:
        start = StartPanel(server)
        assert start.wait_ready() is server
        panel = LiveMetrics(server.client, every=0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 10, "the panel kept the server from ending"
    assert "ready: " in start.plain()
    assert start.plain().count("✓ reached") >= 8
    until(lambda: "no more: the figures" in panel.plain())
    assert panel._thread is not None
    panel._thread.join(5)
    assert not panel._thread.is_alive()
    assert threading.active_count() < 20
    assert "Traceback" not in capsys.readouterr().err


def test_start_that_fails(tmp_path: Path) -> None:
    repository = tutor_repository(tmp_path / "repository", "tutor", gpu_memory_utilisation=0.5)
    with serve(repository, models=["tutor"], target="local") as server:
        panel = StartPanel(server)
        with pytest.raises(ServerFailed):
            panel.wait_ready()
    assert "failed: " in panel.plain()
    assert "gpu_memory_utilisation" in panel.plain()
    assert "what to do" in panel._cause.value
