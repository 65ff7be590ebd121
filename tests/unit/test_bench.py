"""Benchmarks without a server: AIPerf's exports read, figures, records, refusals, what is told first."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tritonlab import Client
from tritonlab.bench import (
    Benchmark,
    Comparison,
    bench,
    benchmark,
    compare,
    comparison,
    environment,
    exports,
    load,
    request,
    table,
)
from tritonlab.bench.exports import Answer
from tritonlab.engine import pip
from tritonlab.engine.tutor import MODEL
from tritonlab.errors import BenchError, EngineError

RECORDED = Path(__file__).parent / "aiperf"
"""What AIPerf 0.13 wrote of the tutor model and of a model that fails, shortened: tests/integration/test_bench.py."""
CANARY = "canary-71c2e0"
SETTINGS = load.Settings((1, 4), (8, 32), (2, 4), 128, 64, seed=7, timeout=5.0)


def answers(concurrency: int, count: int, *, turn: int = 0, start: float = 0.0, bad: int = 0) -> list[Answer]:
    """Requests one after another, a second each, the last of them failed."""
    good = [
        Answer(concurrency, turn, start + at, start + at + 1, 1000.0, 100.0 + at, 10.0, 128, 64)
        for at in range(count - bad)
    ]
    failed = [
        Answer(concurrency, turn, start + at, start + at + 1, kind="HTTP 400 Bad Request", message="<no luck>")
        for at in range(count - bad, count)
    ]
    return good + failed


def made(name: str = "tutor", of: list[Answer] | None = None) -> Benchmark:
    return Benchmark(
        name=name,
        model="tutor",
        url="http://127.0.0.1:8000",
        answers=tuple(answers(1, 4) if of is None else of),
        settings={**SETTINGS.as_dict(), "rounds": 1, "tokenizer": "tutor"},
        versions={"tritonlab": "0.1.0", "aiperf": "0.13.0"},
        machine={"cpu": "a processor", "cores": 2, "gpus": []},
        date="2026-11-22T00:00:00+00:00",
        commandline={"command": ["aiperf", "profile"]},
    )


def test_answers_are_read_without_the_warm_up_and_with_the_servers_counts() -> None:
    found = exports.read(RECORDED / "tutor", {"load_1": 1, "load_2": 2}, 3)
    assert [answer.concurrency for answer in found] == [1, 1, 1, 2, 2, 2]
    assert {answer.round for answer in found} == {3}
    assert {(answer.input_tokens, answer.output_tokens) for answer in found} == {(8, 4)}
    for answer in found:
        assert not answer.kind
        assert answer.latency_ms is not None
        assert answer.ttft_ms is not None
        assert 0 < answer.ttft_ms < answer.latency_ms
        assert answer.latency_ms / 1000 == pytest.approx(answer.end - answer.start, abs=0.005)
    assert exports.count(RECORDED / "tutor") > len(found)


def test_errors_at_once_and_within_a_stream_are_both_errors() -> None:
    found = exports.read(RECORDED / "unsteady", {"load_2": 2}, 0)
    assert sorted((answer.kind, answer.message) for answer in found if answer.kind) == [
        ("HTTP 400 Bad Request", "no luck after 0 tokens"),
        ("HTTP 400 Bad Request", "no luck after 0 tokens"),
        ("in the stream", "no luck after 1 tokens"),
        ("in the stream", "no luck after 1 tokens"),
    ]
    # This model does not say how many tokens it read and made: AIPerf counts the text's.
    assert {(answer.input_tokens, answer.output_tokens) for answer in found if not answer.kind} == {(None, 8)}


def test_export_that_ends_in_the_middle_of_a_line(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "tutor", tmp_path / "cut")
    path = tmp_path / "cut" / "profile_export.jsonl"
    path.write_bytes(path.read_bytes()[:-200])
    assert len(exports.read(tmp_path / "cut", {"load_1": 1, "load_2": 2}, 0)) == 5
    assert exports.read(tmp_path / "none", {"load_1": 1}, 0) == []


def test_several_tokens_in_the_first_event_are_not_counted_as_gaps() -> None:
    events = [{"text_output": "", "num_output_tokens": 1}, {"text_output": " a b", "num_output_tokens": 2}]
    events += [{"text_output": " c", "num_output_tokens": [1], "num_input_tokens": 5}]
    packets = [{"packets": [{"value": json.dumps(event)}]} for event in events]
    told = exports._told({"responses": [*packets, {"packets": [{"value": "[DONE]"}]}]})
    assert told == (3, 5, 4, "")


def test_frame() -> None:
    # Two rounds of four seconds, with a pause of a minute between them.
    frame = table.frame([*answers(1, 4), *answers(1, 4, turn=1, start=64, bad=1)])
    assert tuple(frame.columns) == table.COLUMNS
    row = frame.iloc[0]
    assert (row.requests, row.errors) == (8, 1)
    assert row.requests_per_s == pytest.approx(7 / 8)
    assert row.output_tokens_per_s == pytest.approx(7 * 64 / 8)
    assert row.in_flight_mean == pytest.approx(1)
    assert row.ttft_ms_p50 == pytest.approx(101)
    assert row.ttft_ms_p99 == pytest.approx(103, abs=0.1)
    assert (row.input_tokens_mean, row.output_tokens_mean) == (128, 64)
    none = table.frame(answers(4, 2, bad=2)).iloc[0]
    assert none.errors == 2
    assert none.isna()["ttft_ms_p50"]


def test_errors_are_told_first() -> None:
    whole, broken = made(), made(of=[*answers(1, 4), *answers(4, 4, bad=3)])
    assert whole.errors.empty
    assert "FAILED" not in repr(whole) + whole._repr_html_()
    assert repr(broken).startswith("3 of 8 requests FAILED")
    assert "3 x HTTP 400 Bad Request: <no luck>" in repr(broken).splitlines()[1]
    page = broken._repr_html_()
    assert page.index("FAILED") < page.index("<table")
    assert "&lt;no luck&gt;" in page
    assert broken.errors.to_dict(orient="records") == [
        {"concurrency": 4, "kind": "HTTP 400 Bad Request", "message": "<no luck>", "count": 3}
    ]
    shown = table.shown(broken.frame)
    assert list(shown["tokens/s"].str.endswith("*")) == [False, True]
    labels = [label.get_text() for label in broken.percentiles().axes[0].get_xticklabels()]
    assert labels == ["1", "4*"]
    assert any("with errors" in label for label in broken.figure().axes[0].get_legend_handles_labels()[1])


def test_record_keeps_all(tmp_path: Path) -> None:
    one = made(of=[*answers(1, 4), *answers(4, 4, bad=4)])
    path = one.save(tmp_path / "record.json")
    assert Benchmark.load(path) == one
    record = json.loads(path.read_text())
    assert record["rows"][0]["output_tokens_per_s"] == 64
    assert record["rows"][1]["ttft_ms_p50"] is None
    assert record["errors"][0]["count"] == 4
    with pytest.raises(BenchError, match="cannot be written"):
        one.save(tmp_path / "none" / "record.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', "no JSON"])
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(BenchError, match="no record"):
        Benchmark.load(path)
    with pytest.raises(BenchError, match="cannot be read"):
        Benchmark.load(tmp_path / "other.json")


def test_ratios(tmp_path: Path) -> None:
    slow = answers(1, 4)
    fast = [
        answer._replace(start=at / 2, end=(at + 1) / 2, latency_ms=500.0, ttft_ms=(100.0 + at) / 4)
        for at, answer in enumerate(slow)
    ]
    found = Comparison({"slow": made("slow", slow), "fast": made("fast", fast)})
    (row,) = found.ratios.to_dict(orient="records")
    assert (row["label"], row["concurrency"], row["errors"]) == ("fast / slow", 1, 0)
    assert row["output_tokens_per_s"] == pytest.approx(2)
    assert row["latency_ms_p50"] == pytest.approx(0.5)
    assert row["ttft_ms_p50"] == pytest.approx(0.25)
    assert list(found.frame.label) == ["slow", "fast"]
    assert "in turn" in repr(found)
    assert found._repr_html_().count("<table") == 2
    assert len(found.figure().axes[0].lines) == 2
    apart = made().compare(made())
    assert list(apart.benchmarks) == ["tutor", "tutor (2)"]
    assert "Measured apart" in repr(apart)
    broken = Comparison({"a": made(), "b": made(of=answers(1, 4, bad=1))})
    assert repr(broken).startswith("b: 1 of 4 requests FAILED")
    assert "0.75*" in repr(broken)
    assert found.errors.empty
    assert list(broken.errors["label"]) == ["b"]
    saved = broken.save(tmp_path / "record.json")
    assert json.loads(saved.read_text())["ratios"][0]["errors"] == 1
    assert Comparison.load(saved) == broken
    with pytest.raises(BenchError, match="no record of a comparison"):
        Comparison.load(made().save(saved))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"concurrency": ()}, "concurrency"),
        ({"concurrency": (1, 1)}, "different numbers"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": (1, 2.5)}, "concurrency is 2.5"),
        ({"concurrency": 5000}, "4096"),
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"output_tokens": 1}, "between tokens"),
        ({"rounds": 0}, "rounds is 0"),
        ({"requests": 2, "concurrency": 4}, "under way 4 at once"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_loads_that_make_no_sense(wrong: dict[str, Any], words: str) -> None:
    good = {"concurrency": 1, "prompt_tokens": 8, "output_tokens": 8, "requests": None, "rounds": 1, "seed": 1}
    with pytest.raises(BenchError, match=words):
        benchmark.settings(**{**good, "timeout": 60.0, **wrong})
    assert benchmark.settings(**good, timeout=60).requests == (20,)


def test_without_a_server() -> None:
    with pytest.raises(BenchError, match="No Triton server answers"):
        bench("http://127.0.0.1:9", "tutor")
    with pytest.raises(BenchError, match="begin with http"):
        bench("127.0.0.1", "tutor")
    with pytest.raises(BenchError, match="is no server"):
        bench(7, "tutor")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="One side alone"):
        compare({"tutor": ("http://127.0.0.1:9", "tutor")})


def test_nothing_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "run", lambda *_: answers(1, 4, bad=4))
    side = benchmark.Side(Client(), "tutor", str(MODEL))
    with pytest.raises(BenchError, match=r"(?s)Nothing was answered by tutor.*4 x HTTP 400 Bad Request: <no luck>"):
        benchmark.measure({"tutor": side}, SETTINGS, 1, lambda sentence, fraction: None)


def test_sides_are_measured_in_turn_with_prompts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def run(client: Client, model: str, tokenizer: str, plan: load.Settings, turn: int, *_: object) -> list[Answer]:
        seen.append((model, turn, plan.seed))
        return answers(1, 2, turn=turn)

    monkeypatch.setattr(load, "run", run)
    monkeypatch.setattr(benchmark, "_commandline", lambda *_: {})
    monkeypatch.setattr("tritonlab.bench.machine.versions", lambda client: {})
    sides = {name: benchmark.Side(Client(), name, str(MODEL)) for name in ("a", "b")}
    found = benchmark.measure(sides, SETTINGS, 2, lambda sentence, fraction: None)
    assert seen == [("a", 0, 7), ("b", 0, 8), ("a", 1, 9), ("b", 1, 10)]
    assert found["b"].frame.requests[0] == 4
    assert found["b"].settings["seed"] == 7


def test_template_holds_the_body_and_the_prompt() -> None:
    sampling = {"max_tokens": 4, "stop": ["{{ text }}", "{% if %}"]}
    body = {"id": "one", "text_input": request.TEXT, "sampling_parameters": json.dumps(sampling)}
    compiled = jinja2.Environment(autoescape=True).from_string(request.as_template(body))
    prompt = 'Почему "небо" {{ голубое }}?\n'
    rendered = json.loads(compiled.render(text=prompt, request_info={"x_request_id": "another"}))
    assert rendered == {**body, "text_input": prompt, "id": "another"}


def test_settings_by_what_the_model_has() -> None:
    vllm = request.sampling({"text_input", "sampling_parameters"}, 64, 7)
    assert vllm == {"max_tokens": 64, "min_tokens": 64, "temperature": 0, "seed": 7}
    ensemble = request.sampling({"text_input", "max_tokens", "min_tokens", "top_k", "seed", "temperature"}, 64, 7)
    assert ensemble == {"max_tokens": 64, "min_tokens": 64, "top_k": 1, "seed": 7}
    older = request.sampling({"text_input", "max_tokens", "min_length"}, 64, 7)
    assert older == {"max_tokens": 64, "min_length": 64}
    api = request.sampling({"text_input", "sampling_param_max_tokens", "sampling_param_seed"}, 64, 7)
    assert api == {"sampling_param_max_tokens": 64, "sampling_param_seed": 7}
    with pytest.raises(BenchError, match="cannot be set"):
        request.sampling({"text_input"}, 64, 7)


def test_tokenizer(tmp_path: Path) -> None:
    client = Client("http://127.0.0.1:9")
    assert request.tokenizer_of(client, "tutor", str(MODEL)) == str(MODEL)
    assert request.tokenizer_of(client, "tutor", "google/gemma-2b-it") == "google/gemma-2b-it"
    for wrong in (str(tmp_path), "tokenizer"):
        with pytest.raises(BenchError, match="There is no tokenizer in"):
            request.tokenizer_of(client, "tutor", wrong)
    with pytest.raises(BenchError, match="not known here"):
        request.tokenizer_of(client, "tutor")


def test_secrets_reach_aiperf_by_its_environment_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    client = Client("http://127.0.0.1:9", headers={"Authorization": CANARY})
    written, secrets = load.configuration(client, "tutor", str(MODEL), SETTINGS, tmp_path)
    assert CANARY not in json.dumps(written)
    assert list(secrets.values()) == [CANARY]
    (name,) = secrets
    assert f"${{{name}}}" in written["benchmark"]["endpoint"]["headers"]["Authorization"]
    assert CANARY not in environment.variables(tmp_path, str(MODEL)).values()
    assert environment.variables(tmp_path, "google/gemma-2b-it")["HF_TOKEN"] == CANARY
    assert load._hidden(f"it said {CANARY}", (CANARY,)) == "it said …"


def test_phases_are_one_run() -> None:
    written, _ = load.configuration(Client(), "a b", str(MODEL), SETTINGS, Path())
    phases = written["benchmark"]["phases"]
    assert [(phase["name"], phase["concurrency"], phase["requests"]) for phase in phases] == [
        ("warmup_1", 1, 2), ("load_1", 1, 8), ("warmup_4", 4, 4), ("load_4", 4, 32),
    ]  # fmt: skip
    assert written["benchmark"]["dataset"]["entries"] == SETTINGS.total == 46
    assert written["benchmark"]["endpoint"]["path"] == "/v2/models/a%20b/generate_stream"
    assert SETTINGS.limit == load.START_S + 5.0 * (8 + 8 + 2 + 1)


def test_aiperf_that_hangs_is_ended_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "START_S", 0.5)
    program = tmp_path / "aiperf"
    program.write_text("#!/bin/sh\necho ERROR said aiperf\nsleep 60 & echo $! > child\nwait\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    plan = replace(SETTINGS, concurrency=(1,), requests=(1,), warmup=(1,), timeout=0.1)
    variables = {"PATH": os.environ["PATH"]}
    with pytest.raises(BenchError, match=r"has not ended.*ERROR said aiperf"):
        load._follow([str(program)], tmp_path, variables, plan, lambda sentence, fraction: None, "tutor", ())
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    with suppress(ProcessLookupError):
        while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_aiperf_that_cannot_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("pip could not install AIPerf: no network", "Check the network.")

    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path))
    monkeypatch.setattr(pip, "packages", refuse)
    monkeypatch.setattr(environment, "_run", lambda *_: None)
    with pytest.raises(BenchError, match="AIPerf is not installed: pip could not"):
        environment.install()
    assert not list(tmp_path.glob("aiperf/*/installed"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path / "file"))
    with pytest.raises(BenchError, match="TRITONLAB_HOME"):
        environment.install()


def test_program_that_fails_without_a_word_is_no_success() -> None:
    with pytest.raises(BenchError, match="it does not start: exit code 1"):
        environment._run(["false"], "it does not start")


def test_headers_go_to_the_first_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}
    monkeypatch.setattr(
        comparison.Side, "of", lambda server, model, _, headers: given.update({(server, model): headers})
    )
    monkeypatch.setattr(comparison, "measure", lambda *_: {})
    here, there, token = "http://one:8000", "http://two:8000", {"Authorization": "secret"}
    compare({"a": (here, "m"), "b": (f"{here}/", "n"), "c": (there, "m")}, headers=token)
    assert given == {(here, "m"): token, (f"{here}/", "n"): token, (there, "m"): None}


def test_lock_is_complete() -> None:
    assert environment.version() == "0.13.0"
    assert environment.path().name.startswith(f"py{sys.version_info.major}{sys.version_info.minor}-")
    assert "://" not in environment.LOCK.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--concurrency", "1,x"], "commas between"),
        (["--url", "http://127.0.0.1:9"], "No Triton server answers"),
        (["--header", f"Authorization: {CANARY}"], "not NAME=VARIABLE"),
        (["--header", f"Authorization={CANARY}"], "not set"),
    ],
)
def test_command_line_refuses(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "tritonlab", "bench", "tutor", "--url", "http://127.0.0.1:9", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "What to do" in done.stderr
    assert words in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
