"""What `read_log` reads off the logs in data/logs: every figure that the course's documents name."""

from __future__ import annotations

import gzip
import io
import re
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from tritonlab.errors import LogUnreadable
from tritonlab.logs import FACTS, MEMORY, LogReader, LogReport, read_log
from tritonlab.logs import stages as tables

LOGS = Path(__file__).parents[2] / "data" / "logs"
INDEX = tomllib.loads((LOGS / "index.toml").read_text())
GIB = 2**30


def stages(report: LogReport) -> dict[str, str]:
    return dict(zip(report.stages.stage, report.stages.status, strict=True))


def seconds(report: LogReport, stage: str) -> float:
    return float(report.stages.set_index("stage").seconds[stage])


def test_every_log_is_in_the_index_with_its_provenance() -> None:
    assert set(INDEX["logs"]) == {path.name for path in LOGS.glob("*.log")}
    for name, entry in INDEX["logs"].items():
        assert INDEX["sources"][entry["source"]]["text"], name
        assert {"title", "component", "versions", "verdict", "shows"} <= set(entry), name
        lines = (LOGS / name).read_text().count("\n")
        assert all(0 < cut < lines for cut in entry.get("cuts", [])), name


@pytest.mark.parametrize("name", INDEX["logs"])
def test_verdict_is_the_one_in_the_index(name: str) -> None:
    report = read_log(LOGS / name)
    assert report.verdict == INDEX["logs"][name]["verdict"]
    assert any(found.severity == "error" for found in report.findings) == (report.verdict == "failed")


class TestVllmOnALaptop:
    """The start that the documents explain in eleven stages."""

    report = read_log(LOGS / "triton-vllm-ready.log")

    def test_weights(self) -> None:
        assert self.report.facts["weights_seconds"] == 18.04
        assert self.report.facts["model_loading_seconds"] == 18.286789
        assert self.report.memory["weights"] == round(2.3185 * GIB)
        assert seconds(self.report, "weights") == 18.286789

    def test_memory(self) -> None:
        facts, memory = self.report.facts, self.report.memory
        assert facts["gpu_memory_total"] == 16 * GIB
        assert facts["gpu_memory_utilization"] == 0.90
        assert facts["gpu_memory_usable"] == round(14.40 * GIB)
        assert memory["kv_cache"] == round(10.86 * GIB)
        assert memory["activations"] == round(1.18 * GIB)
        assert memory["non_torch"] == round(0.03 * GIB)
        assert memory["cuda_graphs"] == round(0.16 * GIB)
        assert memory["pinned_pool"] == 268435456
        assert memory["cuda_pool"] == 67108864
        assert "peak_build" not in memory

    def test_times(self) -> None:
        assert self.report.facts["graph_capture_seconds"] == 9
        assert self.report.facts["engine_init_seconds"] == 11.03
        assert self.report.facts["elapsed_seconds"] == pytest.approx(53.643)
        assert self.report.facts["startup_seconds"] == pytest.approx(53.643)

    def test_clocks_are_kept_apart(self) -> None:
        events = self.report.events
        banner, pool = events.iloc[0], events[events.source == "pinned_memory_manager.cc:277"].iloc[0]
        assert (banner.clock, banner.time) == ("docker", datetime(2025, 7, 20, 14, 4, 26, 98000))
        assert (pool.clock, pool.time) == ("container", datetime(2025, 7, 20, 11, 4, 26, 620525))
        assert pool.docker_time == datetime(2025, 7, 20, 14, 4, 26, 620000)
        assert self.report.facts["clock_offset_seconds"] == 3 * 3600
        starts = self.report.stages.start
        assert starts.min() == datetime(2025, 7, 20, 11, 4, 26, 98000)
        assert "10800 s ahead" in repr(self.report)

    def test_versions(self) -> None:
        assert self.report.facts["driver_version"] == "572.83"
        assert self.report.facts["driver_cuda"] == "12.8"
        assert self.report.facts["container_cuda"] == "12.9"

    def test_eleven_stages(self) -> None:
        assert stages(self.report) == dict.fromkeys(
            ["server banner", "CUDA compatibility", "memory pools", "model load", "vLLM backend", "weights",
             "memory profile", "CUDA graphs", "engine", "models ready", "services"], "reached")  # fmt: skip
        table = self.report.stages.set_index("stage")
        lines = (LOGS / "triton-vllm-ready.log").read_text().splitlines()
        for stage, line, evidence in table[["line", "evidence"]].itertuples():
            assert lines[line - 1] == evidence, stage
        assert "successfully loaded" in lines[19]

    def test_models_and_services(self) -> None:
        assert self.report.models.values.tolist() == [["llama3_2_1b_local", "1", "READY", ""]]
        assert self.report.services == {
            "grpc": "0.0.0.0:8001", "http": "0.0.0.0:8000", "metrics": "0.0.0.0:8002"}  # fmt: skip

    def test_timeline_has_a_bar_for_every_stage(self) -> None:
        (axes,) = self.report.timeline().axes
        assert [label.get_text() for label in axes.get_yticklabels()] == list(self.report.stages.stage)
        assert len(axes.patches) == len(self.report.stages)
        assert axes.get_xlabel() == "seconds since the first stage began"
        assert axes.get_title(loc="left") == "Where the time went (ready)"


class TestTensorrtLlmOnALaptop:
    """The build and the start that the documents explain: every figure in the logs and in the text about them."""

    build = read_log(LOGS / "trtllm-build.log")
    server = read_log(LOGS / "triton-trtllm-ready.log")

    def test_figures_of_the_build(self) -> None:
        assert self.build.facts == {
            "tensorrt_llm_version": "0.20.0",
            "gpt_attention_plugin": "float16",
            "gemm_plugin": "float16",
            "remove_input_padding": "True",
            "compute_capability": (8, 9),
            "sm_count": 34,
            "sm_clock_mhz": 3105,
            "float16_tflops": 54,
            "gpu_memory_total": 15 * GIB,
            "network_seconds": 11.116095542907715,
            "engine_generation_seconds": 9.47165,
            "build_seconds": 14,
            "engine_path": "/workspace/trt_engines/rank0.engine",
            "serialization_seconds": 10,
            "elapsed_seconds": 36,
        }
        assert self.build.memory == {"peak_build": 2891 * 2**20, "peak_build_cpu": 0}

    def test_stages_of_the_build(self) -> None:
        assert (self.build.verdict, self.build.kind) == ("built", "trtllm-build")
        assert stages(self.build) == dict.fromkeys(
            ["plugins", "GPU", "network", "engine build", "serialization"], "reached"
        )
        assert [seconds(self.build, stage) for stage in ("network", "engine build", "serialization")] == [
            11.116095542907715, 14, 10]  # fmt: skip
        assert self.build.stages.start.iloc[-1] == datetime(2025, 7, 20, 12, 13, 4)
        assert {"tensorrt", "tensorrt-llm"} <= set(self.build.events.component)

    def test_figures_of_the_server(self) -> None:
        assert self.server.facts == {
            "min_compute_capability": 6.0,
            "default_max_batch_size": 4,
            "elapsed_seconds": 15.197292,
            "startup_seconds": 15.197292,
        }
        assert self.server.memory == {"pinned_pool": 268435456, "cuda_pool": 67108864}
        assert set(self.server.events.pid.dropna()) == {968}

    def test_stages_of_the_server(self) -> None:
        assert (self.server.verdict, self.server.kind) == ("ready", "triton-tensorrtllm")
        assert stages(self.server) == dict.fromkeys(
            ["memory pools", "backends", "model load", "models ready", "services"], "reached"
        )

    def test_models_and_services_of_the_server(self) -> None:
        names = ["ensemble", "postprocessing", "preprocessing", "tensorrt_llm", "tensorrt_llm_bls"]
        assert sorted(self.server.models.values.tolist()) == [[name, "1", "READY", ""] for name in names]
        assert self.server.services == {
            "grpc": "0.0.0.0:8001", "http": "0.0.0.0:8000", "metrics": "0.0.0.0:8002"}  # fmt: skip


def test_starts_on_an_h200() -> None:
    cold, warm = (read_log(LOGS / f"h200-triton-vllm-8b-{kind}ready.log") for kind in ("", "warm-start-"))
    for report, compile_seconds in ((cold, 16.68), (warm, 5.13)):
        assert report.facts["vllm_version"] == "0.24.0"
        assert report.facts["triton_version"] == "2.51.0"
        assert report.facts["gpu"] == "NVIDIA H200"
        assert report.facts["compile_seconds"] == compile_seconds
        assert report.memory["weights"] == 15 * GIB
        assert set(stages(report).values()) == {"reached"}
        assert report.models.reason.tolist() == ["unloaded"]
    assert cold.memory["kv_cache"] == round(102.5 * GIB)
    assert cold.facts["kv_cache_tokens"] == 839648
    assert cold.facts["max_concurrency"] == 204.99
    assert cold.facts["concurrency_tokens"] == 4096
    assert cold.facts["startup_seconds"] == pytest.approx(48.424, abs=0.001)
    assert cold.facts["elapsed_seconds"] > cold.facts["startup_seconds"] + 60


def test_vllm_alone() -> None:
    report = read_log(LOGS / "h200-vllm-serve-8b-ready.log")
    assert report.kind == "vllm"
    assert report.services == {"http": "127.0.0.1:17000"}
    assert set(stages(report).values()) == {"reached"}


@pytest.mark.parametrize(
    ("name", "finding", "cause", "line", "stage"),
    [
        ("unexpected-argument", "engine-args-unexpected-keyword", "'gpu_mem_util", 7, "vLLM backend"),
        ("max-batch-size", "max-batch-size-conflict", "max_batch_size 8", 10, "model load"),
        ("no-kv-cache-memory", "no-memory-for-kv-cache", "No available memory for", 43, "memory profile"),
        ("weights-out-of-memory", "cuda-oom-load", "CUDA out of memory", 87, "weights"),
        ("engine-core-killed", "engine-core-died", "EngineDeadError", 199, None),
    ],
)
def test_root_cause_of_a_failure(name: str, finding: str, cause: str, line: int, stage: str | None) -> None:
    path = LOGS / f"h200-triton-vllm-{name}.log"
    report = read_log(path)
    found, *warnings = report.findings
    assert {warning.severity for warning in warnings} <= {"warning"}
    assert (found.id, found.severity, found.line) == (finding, "error", line)
    assert cause in found.cause
    assert path.read_text().splitlines()[line - 1].endswith(found.evidence)
    assert found.title
    assert found.fix
    assert [name for name, status in stages(report).items() if status == "failed"] == ([stage] if stage else [])


def test_local_target() -> None:
    report = read_log(LOGS / "local-triton-vllm-ready-and-stopped.log")
    assert report.kind == "triton-vllm-cpu"
    assert set(stages(report).values()) == {"reached"}
    assert "graph capture" not in stages(report), "a CPU build has no such stage"
    assert report.memory["kv_cache"] == GIB
    assert report.facts["kv_cache_tokens"] == 524_288
    assert report.facts["max_concurrency"] == 524_288 / report.facts["concurrency_tokens"] == 512
    assert report.facts["vllm_version"] == "0.32.0"
    assert report.models.reason.tolist() == ["unloaded"]


@pytest.mark.parametrize(
    ("name", "finding", "cause", "stage"),
    [
        ("engine-core-killed", "engine-core-died", "EngineDeadError", None),
        ("unexpected-argument", "engine-args-unexpected-keyword", "gpu_memory_utilization", "vLLM backend"),
        ("context-too-long", "max-model-len-too-large", "max_model_len", "vLLM backend"),
    ],
)
def test_failures_of_the_local_target(name: str, finding: str, cause: str, stage: str | None) -> None:
    report = read_log(LOGS / f"local-triton-vllm-{name}.log")
    found, *warnings = report.findings
    assert {warning.severity for warning in warnings} <= {"warning"}
    assert found.id == finding
    assert cause in found.cause
    assert [name for name, status in stages(report).items() if status == "failed"] == ([stage] if stage else [])


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("docker-mount-error", "bind-source-missing"),
        ("model-json-missing-error", "model-json-missing"),
        ("engine-args-error", "engine-args-unexpected-keyword"),
        ("gated-repo-error", "hf-gated-repo"),
    ],
)
def test_error_texts_of_the_documents(name: str, finding: str) -> None:
    assert [found.id for found in read_log(LOGS / f"{name}.log").findings] == [finding]


def test_failed_model_and_its_reason() -> None:
    (row,) = read_log(LOGS / "h200-triton-vllm-max-batch-size.log").models.values.tolist()
    assert row[:3] == ["f_batch", "1", "UNAVAILABLE"]
    assert row[3].startswith("Internal: ValueError: configuration specified max_batch_size 8")
    assert "\n" not in row[3]


CPU = """\
I1121 05:05:54.176983 6317 cuda_memory_manager.cc:117] "CUDA memory pool disabled"
E1121 05:05:54.177092 6317 server.cc:241] "CudaDriverHelper has not been initialized."
I1121 05:05:54.178300 6317 model_lifecycle.cc:472] "loading: tiny:1"
I1121 05:05:55.427267 6317 python_be.cc:2249] "TRITONBACKEND_ModelInstanceInitialize: tiny_0_0 (CPU device 0)"
(EngineCore pid=6421) INFO 11-21 05:06:16 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: x
(Worker pid=6455) INFO 11-21 05:06:23 [cpu_model_runner.py:68] Starting to load model /m/tiny...
(Worker pid=6455) INFO 11-21 05:06:24 [default_loader.py:501] Loading weights took 0.52 seconds
(Worker pid=6455) INFO 11-21 05:06:24 [cpu_worker.py:260] Explicitly set (1.0/6.96) GiB \
for KV cache on node 0.
(EngineCore pid=6421) INFO 11-21 05:06:24 [kv_cache_utils.py:2327] CPU KV cache size: 524,288 tokens, \
Maximum concurrency for 1,024 tokens per request: 512.00x
"""


def test_cpu_build_while_it_starts() -> None:
    report = read_log(CPU)
    assert (report.verdict, report.kind) == ("starting", "triton-vllm-cpu")
    assert stages(report) == {
        "memory pools": "reached", "model load": "reached", "vLLM backend": "reached", "weights": "reached",
        "KV cache": "reached", "engine": "missing", "models ready": "missing", "services": "missing",
    }  # fmt: skip
    assert report.memory == {"kv_cache": GIB}
    assert report.facts["kv_cache_tokens"] == 524288
    assert report.facts["vllm_version"] == "0.32.0"
    assert report.events.pid.iloc[-1] == 6421


def test_stages_while_it_streams() -> None:
    reader = LogReader()
    states = []
    for line in CPU.splitlines(keepends=True):
        reader.feed(line)
        states.append({stage.name: stage.status for stage in reader.stages})
    assert states[2]["model load"] == "running"
    assert states[3]["model load"] == "reached"
    assert states[4]["vLLM backend"] == "reached"
    assert states[5]["weights"] == "running"
    assert states[6]["weights"] == "reached"


def test_signal_before_ready_is_stopped_and_error_after_it_stays_failed() -> None:
    assert read_log(CPU + "Signal (15) received.\n").verdict == "stopped"
    failed = read_log(CPU + "error: creating server: Invalid argument - load failed for model 'tiny'\n")
    assert failed.verdict == "failed"
    assert stages(failed)["engine"] == "missing"


READY = """\
I1121 05:06:27.625974 6317 model_lifecycle.cc:839] "successfully loaded 'tiny'"
I1121 05:06:27.630549 6317 http_server.cc:4713] "Started HTTPService at 127.0.0.1:9200"
"""
DIED = (
    'E1121 05:07:27.630549 6317 model.py:150] "[vllm] the vLLM engine of model tiny has died; load the model again"\n'
)
FAILED = """\
E1121 05:08:00.000000 6317 model_lifecycle.cc:642] "failed to load 'big' version 1: Internal: no room"
"""


def test_what_becomes_of_a_server_that_was_ready() -> None:
    assert read_log(CPU + READY).verdict == "ready"
    for end, finding in ((DIED, "engine-core-died"), (FAILED, "model-load-failed")):
        report = read_log(CPU + READY + end)
        assert (report.verdict, [found.id for found in report.findings]) == ("failed", [finding])
    stopped = read_log(CPU + READY + "Signal (15) received.\n" + DIED)
    assert (stopped.verdict, stopped.findings) == ("stopped", [])


def test_fault_that_the_start_survived_is_not_the_cause() -> None:
    head, tail = CPU.split("(Worker", 1)
    log = f"{head}KeyError: 'harmless'\n(Worker{tail}"
    assert read_log(log).verdict == "starting"
    (found,) = read_log(f"{log}ValueError: the cause\nerror: creating server: x\n").findings
    assert found.cause == "ValueError: the cause"


def test_reason_that_stands_in_the_table_alone() -> None:
    report = read_log("""\
+-------+---------+--------------------+
| Model | Version | Status             |
+-------+---------+--------------------+
| a     | 1       | UNAVAILABLE: Inval |
|       |         | id argument        |
| b     | 1       | READY              |
+-------+---------+--------------------+
""")
    assert report.models.values.tolist() == [
        ["a", "1", "UNAVAILABLE", "Inval id argument"],
        ["b", "1", "READY", ""],
    ]
    assert report.verdict == "failed"


def test_prefixes() -> None:
    line = 'I0720 11:04:26.620525 1 server.cc:1] "say \\"x\\"\\n"'
    plain = read_log(f"{line}\n").events.iloc[0]
    assert (plain.message, plain.component, plain.level, plain.pid, plain.clock) == (
        'say "x"\n', "triton", "INFO", 1, "container")  # fmt: skip
    assert plain.time == datetime(1904, 7, 20, 11, 4, 26, 620525)
    for prefix in (
        "2025-07-20 14:04:26.620 | ",
        "2025-07-20T14:04:26.620123456Z ",
        "2025-07-20T16:04:26.620+02:00 ",
    ):
        event = read_log(f"{prefix}{line}\n").events.iloc[0]
        assert event.message == plain.message
        assert event.time == datetime(2025, 7, 20, 11, 4, 26, 620525)
        assert event.docker_time.replace(microsecond=620000) == datetime(2025, 7, 20, 14, 4, 26, 620000)
    coloured = read_log("triton-1  | \x1b[1;36m(A pid=7)\x1b[0;0m (A pid=7) ERROR 07-20 11:05:08 [a.py:1] x\r\n").events
    assert coloured[["component", "level", "source", "pid", "message"]].values.tolist() == [
        ["vllm", "ERROR", "a.py:1", 7, "x"]
    ]


def test_year_turns_between_lines_that_bear_none() -> None:
    clock = "1{}31 23:59:59.000000 1 a.cc:1] x\nI0101 00:00:01.000000 1 a.cc:1] y\n"
    events = read_log("I" + clock.format(2)).events
    assert (events.time.iloc[1] - events.time.iloc[0]).total_seconds() == 2


def test_progress_bars_become_events_of_their_own() -> None:
    report = read_log(
        "\rLoad:  50%|#| 1/2 [1<1, 1.0it/s]\rLoad: 100%|#| 2/2 [02<00, 1.0it/s]INFO 07-20 11:05:08 [a:1] x\n"
    )
    assert report.events.message.str[:10].tolist() == ["Load:  50%", "Load: 100%", "x"]
    assert report.events.line.tolist() == [1, 1, 1]


def test_every_kind_of_source_gives_the_same_report(tmp_path: Path) -> None:
    path = LOGS / "triton-vllm-ready.log"
    data, text = path.read_bytes(), path.read_text()
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(data))
    lines = text.splitlines()
    whole = read_log(path)
    for source in (
        str(path), text, data, lines, [f"{line}\n" for line in lines], [line.encode() for line in lines],
        iter(lines), io.BytesIO(data), io.StringIO(text), packed, str(packed), packed.read_bytes(),
    ):  # fmt: skip
        report = read_log(source)
        assert report.facts == whole.facts
        assert report.stages.equals(whole.stages)
        assert report.events.equals(whole.events)
    twice = read_log(packed.read_bytes() * 2)
    assert [twice.verdict, *(run.verdict for run in twice.runs)] == ["ready", "ready"]
    assert sum(len(run.events) for run in (twice, *twice.runs)) == 2 * len(whole.events)
    assert len(read_log(packed.read_bytes()[:-200]).events) < len(whole.events)


@pytest.mark.parametrize("source", ["no/such/file", "missing.log", "missing.gz", Path("missing"), Path("/")])
def test_paths_that_cannot_be_opened(source: str | Path) -> None:
    with pytest.raises(LogUnreadable, match=re.escape(str(source))):
        read_log(source)


@pytest.mark.parametrize("source", [None, 3, [3], {"a": 1}])
def test_sources_of_another_kind(source: object) -> None:
    with pytest.raises(LogUnreadable, match=r"type|gives"):
        read_log(source)  # type: ignore[arg-type]


def test_one_line_that_is_no_path() -> None:
    assert read_log("error: creating server: Internal - failed to load all models").verdict == "failed"
    assert read_log("").verdict == "unknown"


def test_both_representations_tell_all_and_escape() -> None:
    report = read_log("I0720 11:04:26.620525 1 model_lifecycle.cc:642] \"failed to load '<b>' version 1: <i>\"\n")
    assert "Model <b> failed to load\n      <i>" in repr(report)
    assert "Model &lt;b&gt; failed to load</td><td style='text-align:left'>&lt;i&gt;</td>" in report._repr_html_()
    ready = read_log(LOGS / "triton-vllm-ready.log")
    for text in (repr(ready), ready._repr_html_()):
        for part in ("ready", "llama3_2_1b_local", "0.0.0.0:8001", "CUDA graphs", "18.29 s", "10.86 GiB"):
            assert part in text


def test_tables_of_figures_and_stages_are_whole() -> None:
    keys = {key for pattern, _ in tables.FIGURES for key in pattern.groupindex}
    assert keys | {"elapsed_seconds", "startup_seconds", "clock_offset_seconds"} == set(FACTS) | set(MEMORY)
    assert {name for names in tables.KINDS.values() for name in names} == set(tables.STAGES)
    assert {key for rule in tables.STAGES.values() for key in rule.seconds} <= set(FACTS)
