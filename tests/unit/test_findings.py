"""The knowledge base: each rule's own examples are told as its cause, and the root cause is told from what follows."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import jsonschema
import pytest

from tritonlab import read_log
from tritonlab.course.paths import data
from tritonlab.docker_faults import DOCKER_FAULTS, DockerFault
from tritonlab.errors import LogUnreadable
from tritonlab.faults import FAULTS, Fault
from tritonlab.logs import follow
from tritonlab.logs import report as report_module
from tritonlab.logs.findings import WEIGHTS, Rule, rules

LOGS = Path(__file__).parents[2] / "data" / "logs"
EXAMPLES = [(rule, example) for rule in rules() for example in rule.example]


@pytest.mark.parametrize(("rule", "example"), EXAMPLES, ids=[f"{rule.id}-{i}" for i, (rule, _) in enumerate(EXAMPLES)])
def test_example_is_told_as_its_cause(rule: Rule, example: str) -> None:
    report = read_log(example)
    # A line that only hints at a cause does not prove that the server failed.
    if report.verdict == "failed" or rule.severity == "warning":
        assert report.findings[0].id == rule.id
    elif rule.weight == "stop":
        assert report.verdict == "stopped"
    else:
        assert rule.guess
        assert rule.guess.search(example)
        assert not (rule.match and rule.match.search(example) and not rule.during)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_recorded_fault_is_named(fault: Fault) -> None:
    report = read_log(LOGS / "faults" / f"{fault.name}.log")
    assert (report.verdict, report.findings[0].id) == ("failed", fault.cause)


@pytest.mark.parametrize("fault", DOCKER_FAULTS.values(), ids=lambda fault: fault.name)
def test_recorded_docker_fault_is_named(fault: DockerFault) -> None:
    report = read_log(LOGS / "docker-faults" / f"{fault.name}.log")
    assert (report.verdict, report.findings[0].id) == ("failed", fault.cause)


def test_no_recording_is_without_its_fault() -> None:
    assert {path.stem for path in (LOGS / "faults").iterdir()} == set(FAULTS)
    assert {path.stem for path in (LOGS / "docker-faults").iterdir()} == set(DOCKER_FAULTS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_rule_is_whole(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.id)
    assert rule.severity in {"error", "warning"}
    assert rule.weight in WEIGHTS
    assert rule.match or rule.guess
    assert rule.example
    for sentence in (rule.means, rule.fix):
        assert sentence[-1] in ".)'", sentence
    assert rule.docs.startswith("https://")


OOM = "(EngineCore pid=7) ERROR 11-21 10:00:09 [core.py:9] torch.OutOfMemoryError: CUDA out of memory. Tried"
LOADING = "(EngineCore pid=7) INFO 11-21 10:00:01 [gpu_model_runner.py:1] Starting to load model m...\n"
LOADED = "(EngineCore pid=7) INFO 11-21 10:00:02 [gpu_model_runner.py:2] Model loading took 2.0 GiB and 1.0 seconds\n"
CAPTURING = "(EngineCore pid=7) Capturing CUDA graphs (mixed prefill-decode):   0%|          | 0/67\n"
SERVING = "(APIServer pid=1) INFO:     Application startup complete.\n"


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        (LOADING, "cuda-oom-load"),
        (LOADING + LOADED + CAPTURING, "cuda-oom-cudagraph"),
        (LOADING + LOADED + SERVING, "cuda-oom-runtime"),
    ],
)
def test_out_of_memory_is_told_by_when_it_comes(before: str, cause: str) -> None:
    assert read_log(before + OOM).findings[0].id == cause


def test_what_the_start_survived_is_not_its_cause() -> None:
    survived = "(EngineCore pid=7) ERROR 11-21 10:00:00 [fa_utils.py:57] ImportError: No module named 'flash_attn'\n"
    report = read_log(survived + LOADING + LOADED + OOM)
    assert report.findings[0].id == "cuda-oom-load"
    assert read_log(survived + LOADING + LOADED + SERVING).findings == []


def test_source_in_a_traceback_is_no_evidence() -> None:
    log = """\
(EngineCore pid=7) Traceback (most recent call last):
(EngineCore pid=7)   File "worker.py", line 9, in check
(EngineCore pid=7)     raise ValueError("No available memory for the cache blocks")
(EngineCore pid=7) SafetensorError: Error while deserializing header: incomplete metadata
"""
    report = read_log(log)
    assert (report.findings[0].id, report.findings[0].line) == ("checkpoint-file-corrupt", 4)


def test_end_of_a_chain_is_the_evidence() -> None:
    log = """\
Traceback (most recent call last):
  File "hub.py", line 1, in check
huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/m/x'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "config.py", line 2, in load
OSError: Incorrect path_or_model_id: '/m/x'.
"""
    [found] = read_log(log).findings
    assert (found.id, found.line) == ("model-path-not-found", 9)


def test_refused_request_is_not_why_the_engine_died() -> None:
    refused = (
        "(APIServer pid=1) ERROR 11-21 10:00:08 [serving.py:1] ValueError: This model's maximum context length is 9\n"
    )
    assert read_log(SERVING + refused).findings[0].id == "prompt-too-long"
    died = "(APIServer pid=1) ERROR 11-21 10:00:09 [async_llm.py:1] EngineDeadError: EngineCore encountered an issue.\n"
    assert read_log(SERVING + refused + died).findings[0].id == "engine-core-died"


def test_somebody_who_stops_it_is_named_when_nothing_else_is() -> None:
    stopped = LOADING + "(EngineCore pid=7) KeyboardInterrupt\nRuntimeError: Engine core initialization failed."
    assert read_log(stopped).findings[0].id == "interrupted-by-signal"
    assert read_log(LOADING + OOM + "\nKeyboardInterrupt\n" + stopped).findings[0].id == "cuda-oom-load"


def test_notebook_file_is_read_as_the_log_that_it_holds() -> None:
    log = "      \"(EngineCore pid=7) ERROR 04-03 21:43:53 [core.py:9] ModuleNotFoundError: No module named 'x'\\n\",\n"
    [found] = read_log(log).findings
    assert found.id == "python-package-missing"
    assert found.cause == "ModuleNotFoundError: No module named 'x'"


@pytest.mark.parametrize("log", sorted(data("logs").glob("*.log")), ids=lambda log: log.stem)
def test_json_keeps_its_schema(log: Path) -> None:
    schema = json.loads(Path(report_module.__file__).with_name("report.schema.json").read_text())
    told = json.loads(json.dumps(read_log(log).to_dict()))
    jsonschema.validate(told, schema)
    assert told["verdict"] in {"ready", "failed", "stopped", "built"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_log_that_powershell_redirected(encoding: str) -> None:
    log = (LOADING + OOM).replace("\n", "\r\n")
    data = log.encode(encoding) if encoding != "utf-16-le" else b"\xff\xfe" + log.encode(encoding)
    assert read_log(data).findings[0].id == "cuda-oom-load"
    assert read_log(BytesIO(data)).to_dict() == read_log(log).to_dict()


@pytest.mark.parametrize(
    "prefix",
    [
        "2026-11-21T10:00:00.123456789Z ",
        "2026-11-21T10:00:00.123456789Z stderr F ",
        "2026-11-21 10:00:00.123 | ",
        "Nov 21 10:00:00 gpu-1 tritonserver[4242]: ",
        "[pod/triton-7d9c/server] ",
        "triton-1  | ",
        "> ",
    ],
)
def test_prefixes_of_wrappers(prefix: str) -> None:
    plain = read_log(LOADING + OOM)
    wrapped = read_log("".join(prefix + line for line in (LOADING + OOM).splitlines(keepends=True)))
    assert wrapped.verdict == plain.verdict
    assert list(wrapped.events.message) == list(plain.events.message)
    assert [found.cause for found in wrapped.findings] == [found.cause for found in plain.findings]


def test_following_a_file_that_grows(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(LOADING)
    reports = follow(log, every_s=0.01)
    assert next(reports).verdict == "starting"
    with log.open("a") as file:
        file.write(OOM)
    assert next(reports).findings[0].id == "cuda-oom-load"
    log.write_text(SERVING)  # begun anew
    assert next(reports).verdict == "ready"
    with pytest.raises(LogUnreadable, match="cannot be opened"):
        next(follow(tmp_path / "nothing.log"))
