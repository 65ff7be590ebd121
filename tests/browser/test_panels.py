"""Each panel, used as a person uses it, in a real JupyterLab; the servers behind them are real."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Notebook
from tests.integration.conftest import tutor_repository
from tritonlab import VllmModel, serve
from tritonlab.engine.tutor import MODEL
from tritonlab.metrics import Figures
from tritonlab.servers import Server

ANSWER = "Sunlight holds all colours"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tutor_repository(
        tmp_path_factory.mktemp("repository"), "tutor", parameters={"REPORT_CUSTOM_METRICS": "true"}
    )
    with serve(repository, models=["tutor"], target="local") as handle:
        yield handle.wait_ready(quiet=True)


def client(server: Server) -> str:
    """The client, as the source of a cell."""
    return f"Client({server.url!r}, metrics_url={server.metrics_url!r})"


def running(server: Server) -> float | None:
    return Figures.of(server.client.metrics()).running


def wait_until(notebook: Notebook, happens: Callable[[], bool], seconds: float = 10) -> None:
    for _ in range(int(seconds * 10)):
        if happens():
            return
        notebook.page.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")


def test_a_server_starts_before_your_eyes(open_notebook: Callable[..., Notebook], tmp_path: Path) -> None:
    tutor_repository(tmp_path / "repository", "tutor")
    notebook = open_notebook(
        [
            "from tritonlab import ModelRepository, serve\nfrom tritonlab.widgets import StartPanel",
            f"server = serve(ModelRepository({str(tmp_path / 'repository')!r}), models=['tutor'], target='local')\n"
            "panel = StartPanel(server)\npanel.wait_ready()\nNone",
            "print(panel)",
            "server.stop()",
        ]
    )
    notebook.start_all()
    panel = notebook.cell(1).first
    expect(panel.get_by_role("status")).to_contain_text("starting")
    reached = panel.get_by_role("row").filter(has_text="✓ reached")
    expect(reached.first).to_be_visible()
    expect(panel.get_by_role("row").filter(has_text="· to come").first).to_be_visible()
    expect(panel.get_by_role("region", name="log")).to_contain_text("tutor")
    notebook.screenshots(panel, "start-under-way")
    expect(panel.get_by_role("status")).to_contain_text("ready")
    notebook.wait_idle()
    assert not notebook.errors()
    assert reached.count() >= 8
    expect(notebook.cell(2)).to_contain_text(re.compile(r"Server at http://127.0.0.1:\d+ \(local\): ready"))
    notebook.screenshots(panel, "start-ready")


def test_a_start_that_fails_says_why(open_notebook: Callable[..., Notebook], tmp_path: Path) -> None:
    tutor_repository(tmp_path / "repository", "tutor").add(
        VllmModel("wrong", model=str(MODEL), gpu_memory_utilisation=1)
    )
    notebook = open_notebook(
        [
            "from tritonlab import expect_error, serve\nfrom tritonlab.widgets import StartPanel",
            f"repository = {str(tmp_path / 'repository')!r}\n"
            "with expect_error(), serve(repository, models=['wrong'], target='local') as server:\n"
            "    StartPanel(server).wait_ready()",
        ]
    )
    notebook.run_all()
    assert not notebook.errors()
    panel = notebook.cell(1).first
    expect(panel.get_by_role("alert")).to_contain_text("failed")
    expect(panel.get_by_role("row").filter(has_text="✗ failed")).to_be_visible()
    expect(panel.get_by_role("row").filter(has_text="the log says")).to_contain_text("gpu_memory_utilisation")
    expect(panel.get_by_role("row").filter(has_text="what to do")).to_be_visible()
    # The log scrolls and is read by keyboard alone.
    log = panel.get_by_role("region", name="log")
    notebook.screenshots(panel, "start-failed")
    log.focus()
    expect(log).to_be_focused()


def open_chat(run_cells: Callable[..., Notebook], server: Server, more: str = "") -> tuple[Notebook, Locator]:
    notebook = run_cells(
        "from tritonlab import Client\nfrom tritonlab.widgets import Chat",
        f"chat = Chat({client(server)}, 'tutor'{more})\nchat",
    )
    return notebook, notebook.cell(1)


def test_chat_by_mouse(run_cells: Callable[..., Notebook], server: Server) -> None:
    notebook, panel = open_chat(run_cells, server)
    panel.get_by_label("Question").fill("Why is the sky blue?")
    panel.get_by_role("button", name="Send").click()
    expect(panel.get_by_role("status")).to_contain_text("Answered")
    expect(panel).to_contain_text(ANSWER)
    expect(panel).to_contain_text(
        re.compile(r"\d+ tokens, \d+ tokens/s, first token after \d\.\d\d s, .*finish reason: stop")
    )
    expect(panel.get_by_label("Question")).to_have_value("")
    panel.get_by_label("Question").fill("What is Triton?")
    panel.get_by_role("button", name="Send").click()
    expect(panel.get_by_text("finish reason: stop")).to_have_count(2)
    notebook.screenshots(panel, "chat")
    panel.get_by_label("max_tokens").fill("5")
    panel.get_by_label("temperature").fill("1.5")
    panel.get_by_label("seed").fill("7")
    panel.get_by_label("Question").fill("What is <b>Triton</b>?")
    panel.get_by_role("button", name="Send").click()
    expect(panel).to_contain_text("5 tokens, ")
    expect(panel).to_contain_text("finish reason: length")
    expect(panel).to_contain_text("you: What is <b>Triton</b>?")
    panel.get_by_label("seed").fill("seven")
    panel.get_by_label("Question").fill("Again?")
    panel.get_by_role("button", name="Send").click()
    expect(panel.get_by_role("alert")).to_contain_text("The seed 'seven' is no whole number.")


def test_chat_by_keyboard_and_stop_reaches_the_server(run_cells: Callable[..., Notebook], server: Server) -> None:
    notebook, panel = open_chat(run_cells, server, ", max_tokens=1000, ignore_eos=True")
    keyboard = notebook.page.keyboard
    panel.get_by_label("Question").focus()
    keyboard.type("Why is the sky blue?")
    keyboard.press("Enter")
    expect(panel).to_contain_text("you: Why is the sky blue?")
    expect(panel).to_contain_text(ANSWER)
    assert running(server) == 1
    keyboard.press("Tab")
    expect(panel.get_by_role("button", name="Send")).to_be_focused()
    keyboard.press("Tab")
    expect(panel.get_by_role("button", name="Stop")).to_be_focused()
    keyboard.press("Enter")
    expect(panel.get_by_role("status")).to_have_text("Stopped.")
    expect(panel).to_contain_text("finish reason: stopped by you, cancelled on the server")
    wait_until(notebook, lambda: running(server) == 0, 2)
    told = re.search(r"(\d+) tokens, ", panel.inner_text())
    assert told
    assert 0 < int(told[1]) < 1000
    for name in ("temperature", "max_tokens", "top_p", "seed"):
        keyboard.press("Tab")
        expect(panel.get_by_label(name)).to_be_focused()
    notebook.screenshots(panel, "chat-stopped")


def test_chat_with_a_server_that_is_not_there(run_cells: Callable[..., Notebook]) -> None:
    notebook = run_cells(
        "from tritonlab import Client\nfrom tritonlab.widgets import Chat",
        "chat = Chat(Client('http://127.0.0.1:9'), 'tutor')\nchat",
        "1 + 1",
    )
    panel = notebook.cell(1)
    panel.get_by_label("Question").fill("Is anybody there?")
    panel.get_by_label("Question").press("Enter")
    expect(panel.get_by_role("alert").first).to_contain_text("Nothing answers at http://127.0.0.1:9")


def test_live_metrics(run_cells: Callable[..., Notebook], server: Server) -> None:
    notebook = run_cells(
        "from tritonlab import Client\nfrom tritonlab.widgets import LiveMetrics",
        f"metrics = LiveMetrics({client(server)})\nmetrics",
        "from tritonlab.widgets import Chat\n"
        f"for _ in range(3):\n    Chat({client(server)}, 'tutor', max_tokens=200, ignore_eos=True).ask('Why?')\n"
        "metrics._ended.wait(1.5)\nprint(metrics)",
    )
    panel = notebook.cell(1)
    row = panel.get_by_role("row").filter(has_text="tokens generated")
    expect(row).to_contain_text(re.compile(r"[\d,]{3,}"))
    expect(panel.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"tokens per second: now \d+, at most"))
    expect(notebook.cell(2)).to_contain_text("requests answered")
    notebook.screenshots(panel, "metrics")
    panel.get_by_role("button", name="Stop").focus()
    notebook.page.keyboard.press("Space")
    expect(panel.get_by_role("status")).to_contain_text("stopped")
    last = row.inner_text()
    server.client.generate("tutor", "Why is the sky blue?", max_tokens=20)
    notebook.page.wait_for_timeout(1500)
    assert row.inner_text() == last, "it looks on after Stop"
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_role("status")).to_contain_text("looked at every 1 s")
    wait_until(notebook, lambda: row.inner_text() != last)
