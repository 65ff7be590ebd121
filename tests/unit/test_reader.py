"""The reader: what it passes over, the runs it tells apart, what it keeps, and the arithmetic of what it read."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritonlab import data, read_log
from tritonlab.errors import LogUnreadable
from tritonlab.logs import LogReader, LogReport, follow, rules, sieve, sources
from tritonlab.vllm import ModelShape

LOGS = Path(__file__).parents[2] / "data" / "logs"
RECORDED = sorted(path.stem for path in LOGS.glob("*.log"))
LLAMA_1B = ModelShape(16, 2048, 32, 8, 64, 8192, 128_256, tied_embeddings=True)
CHATTER = (
    'I0720 11:{minute:02}:{second:02}.000100 1 http_server.cc:4599] "HTTP request: 2 /v2/models/gemma/generate"',
    'I0720 11:{minute:02}:{second:02}.000200 1 http_server.cc:1354] "HTTP release: size {size}, addr 0x{address:012x}"',
    'INFO:     127.0.0.1:{size} - "POST /v1/completions HTTP/1.1" 200 OK',
    "(EngineCore pid=77) DEBUG 07-20 11:{minute:02}:{second:02} [core.py:12] freed block {size}",
    "",
    "INFO 07-20 11:{minute:02}:{second:02} [logger.py:42] Received request {word}: prompt: '{word} {word}'",
)
FATAL = "(EngineCore pid=77) ERROR 07-20 11:59:59 [core.py:9] ValueError: No available memory for the cache blocks."


def chatter(lines: int, seed: int = 1) -> list[str]:
    """Lines of a busy server, none of which says anything that the report tells."""
    numbers = random.Random(seed)
    return [
        numbers.choice(CHATTER).format(
            minute=10 + row * 40 // lines,
            second=row * 2400 // lines % 60,
            size=numbers.randrange(9000),
            address=numbers.randrange(1 << 47),
            word="".join(numbers.choices("ghijklmnopq", k=12)),
        )
        for row in range(lines)
    ]


def told(report: LogReport) -> dict[str, Any]:
    """The report without what depends on which lines docker's clock was compared at."""
    return {**report.to_dict(), "facts": {**report.facts, "clock_offset_seconds": None}}


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_passed_over_changes_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = "\n".join([*chatter(300), (LOGS / f"{name}.log").read_text(), *chatter(300, 2), FATAL, *chatter(50, 3)])
    quick = read_log(text)
    monkeypatch.setattr(LogReader, "_pass_over", lambda *_, **__: None)
    assert told(quick) == told(read_log(text))


def test_most_lines_of_a_busy_log_are_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    take = LogReader._line
    monkeypatch.setattr(LogReader, "_line", lambda self, *line: (taken.append(line), take(self, *line)))
    read_log("\n".join(chatter(5000)))
    assert len(taken) < 100


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", {"abc"}),
        ("^abc: (?P<name>.+)$", {"abc: "}),
        ("ab", set()),
        ("abcd|abef", {"abcd", "abef"}),
        ("(?:abc|de)fghi", {"fghi"}),
        ("long enough(?:x|y)?", {"long enough"}),
        ("(?:abcd)+", {"abcd"}),
        ("(?:abcd)*", set()),
        ("abcd|.*", set()),
        ("(?i)abcd", set()),
        (r"\d+ blocks: [a-z]", {" blocks: "}),
        ("(?!abcd)efgh", {"efgh"}),
    ],
)
def test_words_that_a_pattern_needs(pattern: str, expected: set[str]) -> None:
    assert set(sieve.words(re.compile(pattern))) == expected


def test_no_rule_falls_through_the_sieve() -> None:
    texts = [line for path in LOGS.rglob("*.log") for line in path.read_text().splitlines()]
    texts += [example for rule in rules() for example in rule.example]
    patterns = [pattern for rule in rules() for pattern in (rule.match, rule.guess) if pattern]
    whole = sieve.Sieve((pattern, pattern) for pattern in patterns)
    for text in set(texts):
        may = set(whole.of(text))
        assert {pattern for pattern in patterns if pattern.search(text)} <= may
    needed = [bool(sieve.words(pattern)) for pattern in patterns]
    assert sum(needed) > 0.9 * len(needed), "a sieve that lets most through is none"


def test_statement_that_has_said_something_is_always_read() -> None:
    quiet = "INFO 07-20 11:00:{:02} [loader.py:7] looked at {}"
    lines = [quiet.format(row % 60, "".join(random.Random(row).choices("ghijkl", k=9))) for row in range(100)]
    told = "INFO 07-20 11:01:00 [loader.py:{}] Loading weights took 18.04 seconds"
    assert "weights_seconds" in read_log([told.format(7), *lines]).facts
    assert "weights_seconds" in read_log([*lines, told.format(8)]).facts


def test_a_signal_is_told_from_another_that_differs_in_its_digit() -> None:
    lines = ["I0720 11:00:00.1 1 main.cc:5] Signal (3) seen", "I0720 11:00:01.1 1 main.cc:5] Signal (15) received."]
    assert read_log(lines).verdict == "stopped"


def test_runs_in_one_log_are_told_apart() -> None:
    failed, ready = (LOGS / name for name in ("h200-triton-vllm-max-batch-size.log", "triton-vllm-ready.log"))
    texts = [failed.read_bytes(), failed.read_bytes(), ready.read_bytes()]
    report = read_log(b"".join(texts))
    assert [run.verdict for run in (*report.runs, report)] == ["failed", "failed", "ready"]
    assert {run.findings[0].id for run in report.runs} == {read_log(failed).findings[0].id}
    assert report.findings == [found for found in report.findings if found.severity == "warning"]
    last = sum(text.count(b"\n") for text in texts)
    bounds = [run.lines for run in (*report.runs, report)]
    assert (bounds[0][0], bounds[-1][1]) == (1, last)
    assert all(before[1] + 1 == after[0] for before, after in pairwise(bounds))
    assert sum(len(run.events) for run in (*report.runs, report)) == sum(len(read_log(text).events) for text in texts)
    assert "earlier runs" in repr(report)


def test_container_that_is_restarted_for_ever() -> None:
    crash = (LOGS / "h200-triton-vllm-unexpected-argument.log").read_bytes()
    report = read_log(crash * 600)
    assert len(report.runs) == 500
    assert all(run.runs == [] for run in report.runs)
    assert len(report.to_dict()["runs"]) == 500
    assert "495 more" in repr(report)
    assert report.lines[1] == 600 * crash.count(b"\n")


def test_several_api_servers_of_one_vllm_are_one_run() -> None:
    line = "(ApiServer_{} pid=7{}) INFO 07-20 11:00:00 [api_server.py:1] vLLM API server version 0.24.0"
    assert read_log([line.format(row, row) for row in range(4)]).runs == []


def test_text_that_comes_once_is_kept_for_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "IN_MEMORY", 1000)
    path = LOGS / "triton-vllm-ready.log"
    reader = LogReader()
    with path.open("rb") as file:
        reader.feed(file.read(700))
        early = reader.report()
        reader.feed(file.read())
    assert reader.report().events.equals(read_log(path).events)
    assert early.events.line.max() == early.lines[1] < reader.report().lines[1]


def test_events_of_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes((LOGS / "triton-vllm-ready.log").read_bytes())
    report = read_log(path)
    path.unlink()
    with pytest.raises(LogUnreadable, match="cannot be opened"):
        _ = report.events


def test_one_long_line_is_a_log() -> None:
    line = f"ValueError: {'x' * 300} is longer than any file's name may be. See /models"
    assert read_log(line).to_dict() == read_log([line]).to_dict()


def test_container_and_server_are_sources() -> None:
    path = LOGS / "triton-vllm-ready.log"
    asked = []

    class Container:
        def logs(self, **options: object) -> bytes:
            asked.append(options)
            return path.read_bytes()

    assert read_log(Container()).to_dict() == read_log(path).to_dict()
    assert asked == [{"stdout": True, "stderr": True, "timestamps": True}]
    assert read_log(SimpleNamespace(log_path=path)).to_dict() == read_log(path).to_dict()


def test_following_a_stream_ends_with_its_writer() -> None:
    reading, writing = os.pipe()
    data = (LOGS / "triton-vllm-ready.log").read_bytes()

    def write() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 500):
                pipe.write(data[start : start + 500])

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as pipe:
        reports = list(follow(pipe))
    thread.join()
    assert reports[-1].to_dict() == read_log(data).to_dict()


def test_command_follows_standard_input() -> None:
    command = [sys.executable, "-m", "tritonlab", "logs", "-", "--follow"]
    said = subprocess.run(command, input=(LOGS / "triton-vllm-ready.log").read_bytes(), capture_output=True, timeout=60)
    assert said.returncode == 0
    assert b"services: reached" in said.stdout
    assert said.stdout.rstrip().endswith(b"== ready")


def test_figures_add_up() -> None:
    # The document that the recorded excerpt comes from gives these two figures in its prose.
    blocks = """INFO 07-20 11:05:09 [executor_base.py:113] # cuda blocks: 22251, # CPU blocks: 8192
INFO 07-20 11:05:09 [executor_base.py:118] Maximum concurrency for 131072 tokens per request: 2.72x
"""
    checks = read_log((LOGS / "triton-vllm-ready.log").read_text() + blocks).checks(LLAMA_1B)
    assert checks.figure.tolist() == ["gpu_memory_usable", "kv_cache", "max_concurrency", "weights", "kv_cache"]
    assert checks.agrees.all()
    row = checks.iloc[2]
    assert (row.stated, round(row.computed, 2)) == (2.72, 2.72)


def test_figures_that_do_not_add_up_are_named() -> None:
    text = (LOGS / "triton-vllm-ready.log").read_text().replace("= 14.40GiB", "= 15.40GiB")
    wrong = read_log(text).checks()
    assert wrong[~wrong.agrees].figure.tolist() == ["gpu_memory_usable", "kv_cache"]


def test_figures_that_are_not_there_are_not_checked() -> None:
    assert read_log("nothing\n").checks().empty
    assert (
        read_log("Maximum concurrency for 0 tokens per request: 2.72x\n# GPU blocks: 5, # CPU blocks: 0").checks().empty
    )


@pytest.mark.parametrize("name", RECORDED)
def test_every_log_has_its_figures(name: str) -> None:
    report = read_log(LOGS / f"{name}.log")
    assert len(report.memory_figure().axes) == len(report.timeline().axes) == 1


def test_echoes_stand_under_their_cause() -> None:
    found = read_log(LOGS / "h200-triton-vllm-no-kv-cache-memory.log").findings[0]
    assert any("Engine core initialization failed" in echo for echo in found.echoes)
    assert all(int(echo.split(":")[0].removeprefix("line ")) > found.line for echo in found.echoes)


def test_unloaded_model_stops_no_server() -> None:
    """vLLM's engine is told to stop by a signal of its own when its model is unloaded, and Triton serves on."""
    ready = data("logs/local-triton-vllm-ready-and-stopped.log").read_text().partition("Signal (15)")[0]
    unloaded = (
        "(EngineCore pid=9) INFO 11-21 21:45:10 [core.py:1454] [shutdown] EngineCore: trigger received signal=SIGTERM"
    )
    assert read_log(ready.splitlines()).verdict == "ready"
    assert read_log([*ready.splitlines(), unloaded]).verdict == "ready"
