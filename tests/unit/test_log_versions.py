"""What each version of a server, and each wrapper around it, writes is read: their wording, numbers of our own."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tritonlab.logs import read_log

GIB, MIB = 2**30, 2**20

V0_05 = """\
INFO 07-14 09:02:05 api_server.py:219] vLLM API server version 0.5.5
INFO 07-14 09:02:06 llm_engine.py:184] Initializing an LLM engine (v0.5.5) with config: model='m', \
speculative_config=None, tokenizer='m', dtype=torch.float16, max_seq_len=4096, download_dir=None
INFO 07-14 09:02:07 model_runner.py:879] Starting to load model m...
INFO 07-14 09:02:08 weight_utils.py:236] Using model weights format ['*.safetensors']
(VllmWorkerProcess pid=77) INFO 07-14 09:02:11 model_runner.py:890] Loading model weights took 2.5000 GB
INFO 07-14 09:02:12 gpu_executor.py:121] # GPU blocks: 1500, # CPU blocks: 512
INFO 07-14 09:02:13 model_runner.py:1181] Capturing the model for CUDA graphs. This may lead to unexpected consequences
INFO 07-14 09:02:22 model_runner.py:1300] Graph capturing finished in 9 secs.
INFO 07-14 09:02:23 launcher.py:20] Available routes are:
INFO:     Started server process [1]
INFO:     Application startup complete.
INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)
"""
V0_05_CPU = """\
INFO 07-14 09:02:06 llm_engine.py:184] Initializing an LLM engine (v0.6.0) with config: model='m', max_seq_len=2048, a
INFO 07-14 09:02:12 cpu_executor.py:208] # CPU blocks: 2048
"""
V0_064 = """\
INFO 11-21 09:02:05 worker.py:246] Memory profiling results: total_gpu_memory=24.00GiB initial_memory_usage=2.75GiB \
peak_torch_memory=3.50GiB memory_usage_post_profile=2.80GiB non_torch_memory=0.25GiB kv_cache_size=17.50GiB \
gpu_memory_utilization=0.90
INFO 11-21 09:02:06 distributed_gpu_executor.py:57] # GPU blocks: 40960, # CPU blocks: 9362
INFO 11-21 09:02:06 distributed_gpu_executor.py:61] Maximum concurrency for 4096 tokens per request: 160.00x
INFO 11-21 09:02:07 model_runner.py:1400] Capturing cudagraphs for decoding. This may lead to unexpected consequences
INFO 11-21 09:02:19 model_runner.py:1518] Graph capturing finished in 12 secs, took 0.25 GiB
"""
V0_07 = """\
INFO 02-14 09:02:04 __init__.py:190] Automatically detected platform cuda.
INFO 02-14 09:02:05 model_runner.py:1115] Loading model weights took 2.5000 GB
(VllmWorkerProcess pid=9) INFO 02-14 09:02:08 worker.py:267] Memory profiling takes 2.50 seconds\r
(VllmWorkerProcess pid=9) INFO 02-14 09:02:08 worker.py:267] the current vLLM instance can use total_gpu_memory \
(24.00GiB) x gpu_memory_utilization (0.50) = 12.00GiB\r
(VllmWorkerProcess pid=9) INFO 02-14 09:02:08 worker.py:267] model weights take 2.50GiB; non_torch_memory takes \
0.25GiB; PyTorch activation peak memory takes 1.25GiB; the rest of the memory reserved for KV Cache is 8.00GiB.
INFO 02-14 09:02:08 executor_base.py:110] # cuda blocks: 18724, # CPU blocks: 9362
INFO 02-14 09:02:08 executor_base.py:115] Maximum concurrency for 2048 tokens per request: 146.28x
INFO 02-14 09:02:20 llm_engine.py:436] init engine (profile, create kv cache, warmup model) took 14.50 seconds
INFO 02-14 09:02:21 api_server.py:958] Starting vLLM API server on http://0.0.0.0:8000
"""
V1_07 = """\
INFO 02-14 09:02:05 core.py:50] Initializing a V1 LLM engine (v0.7.3) with config: model='m', max_seq_len=8192, d
INFO 02-14 09:02:06 backends.py:408] Using cache directory: /c/torch_compile_cache/0/rank_0 for vLLM's torch.compile
INFO 02-14 09:02:09 monitor.py:33] torch.compile takes 21.25 s in total
INFO 02-14 09:02:10 kv_cache_utils.py:522] # GPU blocks: 24576
"""
V1_08 = """\
(VllmWorker rank=0 pid=31) INFO 03-14 09:02:05 [gpu_model_runner.py:1140] Model loading took 2.5000 GB \
and 3.250000 seconds
INFO 03-14 09:02:07 [kv_cache_utils.py:537] GPU KV cache size: 65,536 tokens
INFO 03-14 09:02:07 [kv_cache_utils.py:540] Maximum concurrency for 4,096 tokens per request: 16.00x
INFO 03-14 09:02:08 [api_server.py:1028] Starting vLLM API server on http://0.0.0.0:8000
"""
V1_0101 = """\
(APIServer pid=1) INFO 08-14 09:02:05 [api_server.py:1805] vLLM API server version 0.10.1.1
(EngineCore_0 pid=44) INFO 08-14 09:02:06 [core.py:74] Initializing a V1 LLM engine (v0.10.1.1) with config: model='m'
(EngineCore_0 pid=44) (VllmWorker TP0 pid=50) INFO 08-14 09:02:09 [gpu_model_runner.py:2007] Model loading took \
2.5000 GiB and 3.250000 seconds
(VllmWorker TP1 pid=51) INFO 08-14 09:02:10 [gpu_worker.py:276] Available KV cache memory: 8.00 GiB
(APIServer pid=1) INFO 08-14 09:02:20 [api_server.py:1880] Starting vLLM API server 0 on http://0.0.0.0:8000
"""
V1_0102 = """\
(EngineCore_DP0 pid=44) INFO 09-14 09:02:20 [gpu_worker.py:391] Free memory on device (23.5/24.0 GiB) on startup. \
Desired GPU memory utilization is (0.9, 21.6 GiB). Actual usage is 2.5 GiB for weight, 1.25 GiB for peak activation, \
0.25 GiB for non-torch memory, and 0.5 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with \
`--kv-cache-memory=1` to fit into requested memory.
"""
V1_014 = """\
(EngineCore_DP0 pid=44) INFO 01-14 09:02:05 [gpu_model_runner.py:3910] Model loading took 2.5 GiB memory \
and 3.250000 seconds
(Worker_TP0 pid=45) INFO 01-14 09:02:06 [gpu_worker.py:312] Initial free memory 23.5 GiB, reserved 8.0 GiB memory for \
KV Cache as specified by kv_cache_memory_bytes config and skipped memory profiling.
"""
V1_015 = """\
(APIServer pid=1) INFO 02-01 09:02:05 [utils.py:325] vLLM server version 0.15.1, serving model m
(RayWorkerWrapper pid=812, ip=10.0.0.2) INFO 02-01 09:02:06 [gpu_model_runner.py:1] Model loading took 2.5 GiB memory \
and 3.250000 seconds [repeated 3x across cluster]
"""
V1_018 = """\
(EngineCore pid=44) INFO 03-20 09:02:05 [decorators.py:590] torch.compile and initial profiling/warmup run together \
took 21.25 s in total
(APIServer pid=1) INFO 03-20 09:02:20 [api_server.py:500] Starting vLLM server on http://127.0.0.1:8001
"""
V1_028 = """\
(EngineCore pid=44) INFO 08-01 09:02:05 [startup_plan.py:153] Applying persisted startup plan (fingerprint ab): \
kv_cache_memory_bytes=8589934592 (8.00 GiB), recorded free-memory baseline 23.50 GiB, current 23.50 GiB. Memory \
profiling will be skipped.
(EngineCore pid=44) INFO 08-01 09:02:06 [kv_cache_utils.py:1] GPU KV cache size: 65,536 tokens, Maximum concurrency \
for 4,096 tokens per request: 16.00x
(EngineCore pid=44) INFO 08-01 09:02:20 [gpu_worker.py:804] Free memory on device (23.5/24.0 GiB) on startup. \
Desired GPU memory utilization is (0.9, 21.6 GiB). Actual usage is 2.75 GiB for consumed memory \
(weights + non-torch), 1.25 GiB for peak activation, and 0.5 GiB for CUDAGraph memory.
"""
V1_032 = """\
(EngineCore pid=44) INFO 11-01 09:02:05 [monitor.py:42] [eagle_head] Starting torch.compile
(EngineCore pid=44) INFO 11-01 09:02:26 [monitor.py:61] [eagle_head] torch.compile took 21.25 s in total
(EngineCore pid=44) INFO 11-01 09:02:27 [core.py:300] init engine (profile, create kv cache, warmup model) \
took 14.50 s (compilation: 21.25 s)
"""

TRT = "[07/14/2024-09:02:05] [TRT] [I] "
TRTLLM = "[07/14/2024-09:02:05] [TRT-LLM] [I] "
BUILD_08 = f"""\
[TensorRT-LLM] TensorRT-LLM version: 0.8.0{TRTLLM}Set bert_attention_plugin to float16.
{TRTLLM}Set lookup_plugin to None.
{TRTLLM}Build TensorRT engine Unnamed Network 0
{TRT}Total Scratch Memory: 4096
{TRT}Total Activation Memory: 8192
{TRT}Total Weights Memory: 16384
{TRT}Engine generation completed in 12.5 seconds.
{TRT}[MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 10 MiB, GPU 20 MiB
{TRT}[MemUsageStats] Peak memory usage during Engine building and serialization: CPU: 40 MiB
{TRTLLM}Total time of building Unnamed Network 0: 00:00:14
{TRTLLM}Serializing engine to e/rank0.engine...
{TRTLLM}Engine serialized. Total time: 00:00:02
{TRTLLM}Total time of building all engines: 00:01:00
"""

VERSIONS = [
    ("vllm 0.5 V0", V0_05, {
        "vllm_version": "0.5.5", "max_model_len": 4096, "weights": 2.5 * GIB, "kv_cache_gpu_blocks": 1500,
        "kv_cache_cpu_blocks": 512, "graph_capture_seconds": 9.0,
    }, ["vLLM", "weights", "memory profile", "CUDA graphs", "engine", "services"]),
    ("vllm 0.6 V0 on a CPU", V0_05_CPU, {"vllm_version": "0.6.0", "max_model_len": 2048, "kv_cache_cpu_blocks": 2048},
     ["vLLM", "KV cache"]),
    ("vllm 0.6.4 V0", V0_064, {
        "gpu_memory_total": 24 * GIB, "gpu_memory_utilization": 0.9, "non_torch": GIB // 4, "kv_cache": 17.5 * GIB,
        "kv_cache_gpu_blocks": 40960, "max_concurrency": 160.0, "cuda_graphs": GIB // 4, "graph_capture_seconds": 12.0,
    }, ["memory profile", "CUDA graphs", "engine"]),
    ("vllm 0.7 V0", V0_07, {
        "weights": 2.5 * GIB, "profile_seconds": 2.5, "gpu_memory_total": 24 * GIB, "gpu_memory_usable": 12 * GIB,
        "non_torch": GIB // 4, "activations": 1.25 * GIB, "kv_cache": 8 * GIB, "kv_cache_gpu_blocks": 18724,
        "kv_cache_cpu_blocks": 9362, "max_concurrency": 146.28, "engine_init_seconds": 14.5,
    }, ["vLLM", "weights", "memory profile", "engine", "services"]),
    ("vllm 0.7 V1", V1_07, {
        "vllm_version": "0.7.3", "max_model_len": 8192, "compile_seconds": 21.25, "kv_cache_gpu_blocks": 24576,
    }, ["vLLM", "compile", "memory profile"]),
    ("vllm 0.8 V1", V1_08, {
        "weights": 2.5 * GIB, "model_loading_seconds": 3.25, "kv_cache_tokens": 65536, "max_concurrency": 16.0,
    }, ["weights", "memory profile", "services"]),
    ("vllm 0.10.1", V1_0101, {
        "vllm_version": "0.10.1.1", "weights": 2.5 * GIB, "model_loading_seconds": 3.25, "kv_cache": 8 * GIB,
    }, ["vLLM", "weights", "memory profile", "services"]),
    ("vllm 0.10.2", V1_0102, {
        "gpu_memory_total": 24 * GIB, "gpu_memory_utilization": 0.9, "gpu_memory_usable": round(21.6 * GIB),
        "activations": 1.25 * GIB, "non_torch": GIB // 4, "cuda_graphs": GIB // 2,
    }, []),
    ("vllm 0.14", V1_014, {"weights": 2.5 * GIB, "model_loading_seconds": 3.25, "kv_cache": 8 * GIB}, ["weights"]),
    ("vllm 0.15, Ray", V1_015, {"vllm_version": "0.15.1", "weights": 2.5 * GIB, "model_loading_seconds": 3.25},
     ["vLLM", "weights"]),
    ("vllm 0.18", V1_018, {"compile_seconds": 21.25}, ["compile", "services"]),
    ("vllm 0.28", V1_028, {
        "kv_cache": 8 * GIB, "kv_cache_tokens": 65536, "concurrency_tokens": 4096, "gpu_memory_total": 24 * GIB,
        "activations": 1.25 * GIB, "cuda_graphs": GIB // 2,
    }, ["memory profile"]),
    ("vllm 0.32", V1_032, {"compile_seconds": 21.25, "engine_init_seconds": 14.5}, ["compile", "engine"]),
    ("trtllm-build 0.8", BUILD_08, {
        "tensorrt_llm_version": "0.8.0", "scratch": 4096, "activations": 8192, "weights": 16384,
        "engine_generation_seconds": 12.5, "peak_build": 20 * MIB, "peak_build_host": 40 * MIB, "build_seconds": 14.0,
        "engine_path": "e/rank0.engine", "serialization_seconds": 2.0, "total_build_seconds": 60.0,
    }, ["plugins", "network", "engine build", "serialization"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("log", "figures", "stages"), [case[1:] for case in VERSIONS], ids=[case[0] for case in VERSIONS]
)
def test_wording_of_a_version(log: str, figures: dict[str, object], stages: list[str]) -> None:
    report = read_log(log)
    told = {**report.facts, **report.memory}
    assert {key: told.get(key) for key in figures} == figures
    reached = report.stages[report.stages.status.isin(["reached", "running"])].stage
    assert [name for name in stages if name not in set(reached)] == []
    assert report.findings == []


def test_whole_start_of_an_old_vllm() -> None:
    report = read_log(V0_05)
    assert (report.verdict, report.kind, report.services) == ("ready", "vllm", {"http": "0.0.0.0:8000"})
    assert set(report.stages.status) == {"reached"}
    assert read_log(V0_05_CPU).kind == "vllm-cpu"
    assert read_log(V1_018).services == {"http": "127.0.0.1:8001"}
    assert read_log(BUILD_08).verdict == "built"


@pytest.mark.parametrize(
    ("line", "component", "level", "pid", "message"),
    [
        ("(VllmWorkerProcess pid=7) INFO 07-14 09:02:05 a.py:1] m", "vllm", "INFO", 7, "m"),
        ("(VllmWorker rank=1 pid=7) INFO 07-14 09:02:05 [a.py:1] m", "vllm", "INFO", 7, "m"),
        ("(VllmWorker PP0_TP1 pid=7) WARNING 07-14 09:02:05 [a.py:1] m", "vllm", "WARNING", 7, "m"),
        ("(EngineCore_DP0 pid=6) (RayWorkerWrapper pid=7, ip=10.0.0.2) ERROR 07-14 09:02:05 [a.py:1] m",
         "vllm", "ERROR", 7, "m"),
        ("(pid=7, ip=10.0.0.2) m", "vllm", None, 7, "m"),
        ("(Worker_DP0_TP0_EP0 pid=7) [rank0]: m", "vllm", None, 7, "m"),
        ("(MainProcess pid=7) INFO 07-14 09:02:05 [v1/a/b.py:1] m", "vllm", "INFO", 7, "m"),
        ("(APIServer pid=7) INFO:     Application startup complete.", "uvicorn", "INFO", 7,
         "Application startup complete."),
        ("[rank0]: m", None, None, None, "m"),
        ("[rank0]:[W714 09:02:05.123456789 ProcessGroupNCCL.cpp:1250] m", "torch", "WARNING", None, "m"),
        ("[rank0]:[E1120 09:02:05.123456789 ProcessGroupNCCL.cpp:1250] m", "torch", "ERROR", None, "m"),
        ("I0714 09:02:05.123456 7 server.cc:677] m", "triton", "INFO", 7, "m"),
        ('E0714 09:02:05.123456 7 server.cc:677] "m \\"n\\""', "triton", "ERROR", 7, 'm "n"'),
        ("2024-07-14T09:02:05Z I 7 server.cc:677] m", "triton", "INFO", 7, "m"),
        ('2024-07-14T09:02:05Z W 7 server.cc:677] "m"', "triton", "WARNING", 7, "m"),
        ("2024-07-14T11:02:06.5Z 2024-07-14T09:02:05Z E 7 server.cc:677] m", "triton", "ERROR", 7, "m"),
        ("[07/14/2024-09:02:05] [TRT-LLM] [RANK 1] [W] m", "tensorrt-llm", "WARNING", None, "m"),
        ("[07/14/2024-09:02:05] [TRT-LLM] [I] [batchmgr][RANK 0] m", "tensorrt-llm", "INFO", None, "m"),
        ("[TensorRT-LLM][WARNING] m", "tensorrt-llm", "WARNING", None, "m"),
    ],
)  # fmt: skip
def test_writer(line: str, component: str | None, level: str | None, pid: int | None, message: str) -> None:
    (event,) = read_log([line]).events.astype(object).where(lambda frame: frame.notna(), None).itertuples()
    assert (event.component, event.level, event.pid, event.message) == (component, level, pid, message)


def test_tritons_own_iso_8601_is_the_containers_clock() -> None:
    report = read_log("2024-07-14T11:02:05.5Z 2024-07-14T09:02:05Z I 7 server.cc:677] m\n")
    (event,) = report.events.itertuples()
    assert (event.clock, event.time) == ("container", datetime(2024, 7, 14, 9, 2, 5))
    assert report.facts["clock_offset_seconds"] == 7200


LINES = [
    "I0714 09:02:05.123456 1 server.cc:677] m",
    "",
    "| vllm_model | 1       | READY  |",
    "    indented",
    "(EngineCore pid=44) INFO 07-14 09:02:05 [core.py:1] n",
]
WANTED = ["m", "", "| vllm_model | 1       | READY  |", "    indented", "n"]


@pytest.mark.parametrize(
    "prefix",
    [
        "triton-1  | ", "my_triton_1 | ", "triton  | ", "\x1b[36mtriton-1   |\x1b[0m ",
        "triton-1  | 2024-07-14T09:02:05.123456789Z ",
        "2024-07-14 09:02:05.123 | ",
        "2024-07-14T09:02:05.123456789Z ", "2024-07-14T09:02:05Z\t", "2024-07-14T09:02:05.1234567Z ",
        "2024-07-14T09:02:05.123456789+02:00 stderr F ", "2024-07-14T09:02:05.123456789Z stdout P ",
        "\ufeff2024-07-14T09:02:05.1234567Z ",
        "build\tRun the server\t2024-07-14T09:02:05.1234567Z ",
        "[pod/triton-0/server] ", "[pod/triton-0/server] 2024-07-14T09:02:05.123456789Z ",
        "triton-7d9f8bcd4-x2k9z server ",
        "Jul 14 09:02:05 host triton[812]: ", "Jul  4 09:02:05.123456 host docker: ",
        "2024-07-14T09:02:05+0000 host triton[812]: ", "2024-07-14T09:02:05.123456+00:00 host abc@1.service[812]: ",
        "[rank0]: ",
    ],
)  # fmt: skip
def test_prefix_of_a_wrapper(prefix: str) -> None:
    assert list(read_log([prefix + line for line in LINES]).events.message) == WANTED


@pytest.mark.parametrize(
    "line",
    [
        "a | b", "| a | b |", "|  | x", "name | value", "12  | 34", "  0%|          | 0/4 [00:00<?, ?it/s]",
        "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.20s/it]",
        "model: my-model not found", "Jul is a month: so it is", "docker: not found", "triton-server vllm is up",
        "kubernetes pod: ready", '{"log": "mine"}', '{"log":[[[', "[rank]: m", "(a b) pid=3", "2024-07-14 was a day",
    ],
)  # fmt: skip
def test_plain_message_has_no_prefix(line: str) -> None:
    (event,) = read_log([line]).events.itertuples()
    assert event.message == line
    assert event.docker_time is None or str(event.docker_time) == "NaT"


def test_docker_json_file() -> None:
    record = {"log": 'I0714 09:02:05.5 1 server.cc:677] "m"\n', "stream": "stderr", "time": "2024-07-14T11:02:05.51Z"}
    for more in ({}, {"attrs": {"tag": "triton"}}):
        line = json.dumps(
            {"log": record["log"], "stream": "stderr", **more, "time": record["time"]}, separators=(",", ":")
        )
        (event,) = read_log([line]).events.itertuples()
        assert (event.message, event.level, event.time) == ("m", "INFO", datetime(2024, 7, 14, 9, 2, 5, 500000))
        assert event.docker_time == datetime(2024, 7, 14, 11, 2, 5, 510000)


def test_powershells_words_on_a_native_command_are_noise() -> None:
    first, rest = V0_05.split("\n", 1)
    noise = """\
At line:1 char:1
+ docker logs triton 2>&1 | Out-File log.txt
+ ~~~~~~~~~~~~~~~~~~~~~~~
    + CategoryInfo          : NotSpecified: (INFO 07-14 09:0...ersion 0.5.5:String) [], RemoteException
    + FullyQualifiedErrorId : NativeCommandError

"""
    report, plain = read_log(f"docker : {first}\n{noise}{rest}"), read_log(V0_05)
    assert (report.verdict, report.facts, report.memory) == (plain.verdict, plain.facts, plain.memory)
    assert report.findings == []
    failed = read_log("docker : docker: Error response from daemon: No such image: triton\n" + noise)
    assert failed.verdict == "failed"
