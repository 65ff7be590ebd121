"""The panels' plain forms, and what their HTML must hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tritonlab.client import Client
from tritonlab.errors import ServerFailed, TritonlabError
from tritonlab.logs import read_log
from tritonlab.metrics import Figures
from tritonlab.servers.base import Server
from tritonlab.widgets import Chat, LiveMetrics, StartPanel
from tritonlab.widgets.metrics import sparkline
from tritonlab.widgets.panel import Panel, plain_table, preformatted, status, table

LOGS = Path(__file__).parents[2] / "data" / "logs"
NOBODY = "http://127.0.0.1:9"


class RecordedServer(Server):
    """A start that was recorded, in place of one that happens: the panel reads the same log."""

    target = "local"

    def __init__(self, log: str) -> None:
        super().__init__(Client(NOBODY), ["tutor"])
        self._log = LOGS / log

    def report(self):
        return read_log(self._log)

    def stages(self):
        return self.report()._stages

    def tail(self):
        return self._log.read_text().splitlines()[-3:]

    def wait_ready(self, timeout=600.0, *, quiet=False, watch=None):
        watch()
        report = self.report()
        if report.verdict == "failed":
            raise ServerFailed("tritonserver ended before it was ready (exit code 1).", report.findings[0].fix)
        return self


def test_importing_the_package_imports_no_widgets() -> None:
    code = "import sys, tritonlab, tritonlab.widgets; sys.exit('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_html_is_escaped_and_status_has_a_role() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    for made in (status(hostile), preformatted(hostile, hostile), table([[hostile]], [hostile], hostile)):
        assert "<img" not in made
        assert "&lt;img" in made
    assert 'role="status"' in status("fine", "good")
    assert 'role="alert"' in status("not fine", "bad")
    assert plain_table([["a", 1], ["long", 22]], ["name", "n"]) == "name  n\na     1\nlong  22"


@pytest.mark.parametrize("make", [lambda client: Chat(client, "tutor"), LiveMetrics], ids=["Chat", "LiveMetrics"])
def test_a_panel_has_a_widget_and_the_same_facts_as_text(make) -> None:
    panel = make(Client(NOBODY))
    assert isinstance(panel, Panel)
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.plain() == repr(panel)
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.widget.model_id
    assert NOBODY in panel.plain()


def test_start_that_succeeds_is_told_stage_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    server = RecordedServer("local-triton-vllm-ready-and-stopped.log")
    panel = StartPanel(server)
    assert panel.wait_ready() is server
    said = panel.plain()
    assert re.match(rf"Server at {NOBODY} \(local\): ready: \d+ of \d+ stages reached\.", said)
    assert re.search(r"^vLLM backend +✓ reached +\d+\.\d s$", said, re.MULTILINE)
    assert "last lines" not in said
    assert capsys.readouterr().out.endswith(f"{said}\n")
    assert "✓ reached" in panel._stages.value


def test_start_that_fails_is_told_with_its_cause() -> None:
    panel = StartPanel(RecordedServer("local-triton-vllm-unexpected-argument.log"))
    with pytest.raises(ServerFailed):
        panel.wait_ready()
    [finding, *_] = panel._server.report().findings
    for where in (panel.plain(), panel._cause.value):
        assert finding.title.split("'")[0] in where
        assert f"line {finding.line}" in where
    assert panel.plain().startswith(f"Server at {NOBODY} (local): failed: ")
    assert "✗ failed" in panel.plain()
    assert panel.plain().count(finding.fix) == 1
    assert "the log's last lines:" in panel.plain()


def test_chat_without_a_server_says_so_in_the_conversation() -> None:
    chat = Chat(Client(NOBODY), "tutor")
    with pytest.raises(TritonlabError, match="Nothing answers"):
        chat.ask("Why <b>is</b> the sky blue?")
    assert "you: Why <b>is</b> the sky blue?\n  Nothing answers at http://127.0.0.1:9" in chat.plain()
    assert "<b>is</b>" not in chat._last.value
    with pytest.raises(TritonlabError, match="no question"):
        chat.ask("  ")
    chat._seed.value = "seven"
    with pytest.raises(TritonlabError, match="no whole number"):
        chat.ask("Why?")
    chat.stop()
    assert "no answer is coming" in chat._state.value


def test_chat_takes_first_values_and_further_parameters() -> None:
    chat = Chat(Client(NOBODY), "tutor", temperature=0.5, seed=7, ignore_eos=True)
    assert chat._sampling() == {
        "temperature": 0.5,
        "max_tokens": 128,
        "top_p": 1.0,
        "seed": 7,
        "ignore_eos": True,
    }


def test_metrics_without_a_server_end_with_a_sentence_and_no_thread() -> None:
    panel = LiveMetrics(Client(NOBODY), every=0.01)
    assert panel._thread is None
    assert "none." in panel.plain()
    assert "Nothing answers" in panel.plain()
    panel.stop()


def test_figures_of_a_metrics_page() -> None:
    rows = [
        ("nv_inference_request_success", {"model": "a"}, 3.0),
        ("nv_inference_request_success", {"model": "b"}, 2.0),
        ("nv_inference_request_failure", {"model": "a", "reason": "OTHER"}, 1.0),
        ("vllm:time_to_first_token_seconds_sum", {}, 0.5),
        ("vllm:time_to_first_token_seconds_count", {}, 5.0),
        ("vllm:e2e_request_latency_seconds_sum", {}, 10.0),
        ("vllm:e2e_request_latency_seconds_count", {}, 5.0),
        ("vllm:kv_cache_usage_perc", {}, 0.25),
        ("nv_gpu_memory_used_bytes", {}, 2.0**31),
        ("nv_gpu_memory_total_bytes", {}, 2.0**34),
    ]
    told = dict(Figures.of(pd.DataFrame(rows, columns=["name", "labels", "value"])).told())
    assert told == {
        "requests answered": "5",
        "requests failed": "1",
        "time to first token, mean": "100.0 ms",
        "latency, mean": "2.00 s",
        "KV cache in use": "25.0%",
        "GPU memory in use": "2.0 GiB of 16.0 GiB",
    }
    assert Figures.of(pd.DataFrame(columns=["name", "labels", "value"])).told() == []


def test_sparkline_says_in_words_what_it_draws() -> None:
    drawn = sparkline([0.0, 10.0, 5.0], "tokens per second")
    said = "tokens per second: now 5, at most 10 in the last 3 looks"
    assert f'aria-label="{said}"' in drawn
    assert f"<span>{said}</span>" in drawn
    assert sparkline([0.0], "x").count("polyline") == 1
