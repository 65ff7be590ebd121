"""What each version of TensorRT-LLM writes while it builds an engine and while it serves one, line by line.

No log of a server of exactly 0.20.0 was to be had: which form of the KV cache's blocks it writes is not certain, and so
every form is read, whatever the version. The rows that this concerns say so.
"""

from __future__ import annotations

import pytest

from tritonlab.logs import LogReport, read_log

GIB, MIB = 2**30, 2**20

CLOCK = "[07/14/2025-09:02:05] "
BUILD, WARNING, TRT = f"{CLOCK}[TRT-LLM] [I] ", f"{CLOCK}[TRT-LLM] [W] ", f"{CLOCK}[TRT] [I] "
RUN, RUN_WARNING = "[TensorRT-LLM][INFO] ", "[TensorRT-LLM][WARNING] "
WINDOW = f"{RUN}Max KV cache blocks per sequence: 65 [window size=2049], tokens per block=32, primary blocks=13189"

LINES = [
    # (the version that began with it, or the versions; the line; what it tells; the stages that it alone shows)
    ("to 1.0", "[TensorRT-LLM] TensorRT-LLM version: 0.20.0", {"tensorrt_llm_version": "0.20.0"}, ["plugins"]),
    ("1.1", "[TensorRT-LLM] TensorRT LLM version: 1.1.0", {"tensorrt_llm_version": "1.1.0"}, ["plugins"]),
    ("1.2 rc", "[TensorRT-LLM] TensorRT LLM version: 1.2.0rc5", {"tensorrt_llm_version": "1.2.0rc5"}, ["plugins"]),
    ("0.9 dev", "[TensorRT-LLM] TensorRT-LLM version: 0.9.0.dev2024030500",
     {"tensorrt_llm_version": "0.9.0.dev2024030500"}, ["plugins"]),
    ("0.8, another version glued on", "[TensorRT-LLM] TensorRT-LLM version: 0.8.00.8.0",
     {"tensorrt_llm_version": "0.8.0"}, ["plugins"]),
    # The build
    ("to 1.1", f"{BUILD}Set gpt_attention_plugin to auto.", {"gpt_attention_plugin": "auto"}, ["plugins"]),
    ("to 1.1", f"{BUILD}Set gemm_plugin to float16.", {"gemm_plugin": "float16"}, ["plugins"]),
    ("to 1.1", f"{BUILD}Set nccl_plugin to None.", {"nccl_plugin": "None"}, ["plugins"]),
    ("to 1.1", f"{BUILD}Set dtype to float16.", {"dtype": "float16"}, []),
    ("to 1.1", f"{BUILD}Set context_fmha to True.", {"context_fmha": "True"}, []),
    ("to 1.1", f"{BUILD}Set use_paged_context_fmha to True.", {"use_paged_context_fmha": "True"}, []),
    ("to 1.1", f"{BUILD}Set use_fp8_context_fmha to False.", {"use_fp8_context_fmha": "False"}, []),
    ("to 1.1", f"{BUILD}Set remove_input_padding to True.", {"remove_input_padding": "True"}, []),
    ("to 1.1", f"{BUILD}Set paged_kv_cache to True.", {"paged_kv_cache": "True"}, []),
    ("to 1.1", f"{BUILD}Set paged_state to False.", {"paged_state": "False"}, []),
    ("to 1.1", f"{BUILD}Set tokens_per_block to 32.", {"tokens_per_block": 32}, []),
    ("1.2", f"{BUILD}Set PluginConfig.gemm_plugin to auto.", {"gemm_plugin": "auto"}, ["plugins"]),
    ("1.2", f"{BUILD}Set PluginConfig.tokens_per_block to 64.", {"tokens_per_block": 64}, []),
    ("0.10", f"{BUILD}Compute capability: (8, 6)", {"compute_capability": (8, 6)}, ["GPU"]),
    ("0.10", f"{BUILD}SM count: 82", {"sm_count": 82}, []),
    ("0.10", f"{BUILD}SM clock: 2100 MHz", {"sm_clock_mhz": 2100}, []),
    ("0.10", f"{BUILD}int4 TFLOPS: 568", {"int4_tflops": 568}, []),
    ("0.10", f"{BUILD}int8 TFLOPS: 284", {"int8_tflops": 284}, []),
    ("0.10", f"{BUILD}fp8 TFLOPS: 0", {"fp8_tflops": 0}, []),
    ("0.10", f"{BUILD}float16 TFLOPS: 142", {"float16_tflops": 142}, []),
    ("0.10", f"{BUILD}bfloat16 TFLOPS: 142", {"bfloat16_tflops": 142}, []),
    ("0.10", f"{BUILD}float32 TFLOPS: 71", {"float32_tflops": 71}, []),
    ("0.10", f"{BUILD}Total Memory: 24 GiB", {"gpu_memory_total": 24 * GIB}, []),
    ("0.10", f"{BUILD}Memory clock: 9751 MHz", {"memory_clock_mhz": 9751}, []),
    ("0.10", f"{BUILD}Memory bus width: 384", {"memory_bus_bits": 384}, []),
    ("0.10", f"{BUILD}Memory bandwidth: 936 GB/s", {"memory_bandwidth_gbs": 936}, []),
    ("0.10", f"{BUILD}NVLink is active: False", {"nvlink": "False"}, []),
    ("0.10", f"{BUILD}NVLink version: 4", {"nvlink_version": 4}, []),
    ("0.10", f"{BUILD}NVLink bandwidth: 450 GB/s", {"nvlink_bandwidth_gbs": 450}, []),
    ("0.10", f"{BUILD}PCIe speed: 16000 Mbps", {"pcie_speed_mbps": 16000}, []),
    ("0.10", f"{BUILD}PCIe link width: 16", {"pcie_lanes": 16}, []),
    ("0.10", f"{BUILD}PCIe bandwidth: 32 GB/s", {"pcie_bandwidth_gbs": 32}, []),
    ("0.10", f"{WARNING}Failed to infer cluster info for NVIDIA GB10, treat it as a L40 node with 121 GB memory. This "
             "setting makes no effect if you do not use auto parallel.",
     {"gpu": "NVIDIA GB10", "gpu_memory_total": 121 * GIB}, ["GPU"]),
    ("0.12", f"{BUILD}max_seq_len is not specified, using deduced value 8192", {"max_model_len": 8192}, []),
    ("1.0, PyTorch", f"{BUILD}max_seq_len is not specified, using inferred value 8192", {"max_model_len": 8192}, []),
    ("0.12", f"{WARNING}max_seq_len 4096 is larger than max_position_embeddings 1024 * rotary scaling 1, the model "
             "accuracy might be affected", {"max_model_len": 4096}, []),
    ("0.12", f"{WARNING}Specifying a `max_num_tokens` larger than 16384 is usually not recommended, we do not expect "
             "perf gain with that and too large `max_num_tokens` could possibly exceed the TensorRT tensor volume, "
             "causing runtime errors. Got `max_num_tokens` = 32768", {"max_num_tokens": 32768}, []),
    ("0.12", f"{WARNING}max_num_tokens (8192) shouldn't be greater than max_seq_len * max_batch_size (4096), "
             "specifying to max_seq_len * max_batch_size (4096).", {"max_num_tokens": 4096}, []),
    ("0.14", f"{BUILD}Total time of constructing network from module object 2.5 seconds",
     {"network_seconds": 2.5}, ["network"]),
    ("0.12", f"{BUILD}Total optimization profiles added: 1", {"optimization_profiles": 1}, ["network"]),
    ("0.14", f"{BUILD}Total time to initialize the weights in network Unnamed Network 0: 00:00:03",
     {"weights_init_seconds": 3.0}, []),
    ("0.6", f"{BUILD}Build TensorRT engine Unnamed Network 0", {}, ["network", "engine build"]),
    ("0.8", f"{TRT}Total Host Persistent Memory: 36544", {"persistent_host": 36544}, []),
    ("0.8", f"{TRT}Total Device Persistent Memory: 0", {"persistent": 0}, []),
    ("0.8", f"{TRT}Total Scratch Memory: 4096", {"scratch": 4096}, []),
    ("0.8", f"{TRT}Total Activation Memory: 8192", {"activations": 8192}, []),
    ("0.8", f"{TRT}Total Weights Memory: 16384", {"weights": 16384}, []),
    ("0.9", f"{TRT}Total Host Persistent Memory: 36544 bytes", {"persistent_host": 36544}, []),
    ("0.9", f"{TRT}Total Device Persistent Memory: 0 bytes", {"persistent": 0}, []),
    ("0.9", f"{TRT}Max Scratch Memory: 4096 bytes", {"scratch": 4096}, []),
    ("0.9", f"{TRT}Total Activation Memory: 503420928 bytes", {"activations": 503420928}, []),
    ("0.9", f"{TRT}Total Weights Memory: 326085504 bytes", {"weights": 326085504}, []),
    ("0.6", f"{TRT}Engine generation completed in 5.37531 seconds.", {"engine_generation_seconds": 5.37531}, []),
    ("0.6", f"{TRT}[MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 4 MiB, GPU 385 MiB",
     {"peak_build_cpu": 4 * MIB, "peak_build": 385 * MIB}, []),
    ("to 0.14", f"{TRT}[MemUsageStats] Peak memory usage during Engine building and serialization: CPU: 40 MiB",
     {"peak_build_host": 40 * MIB}, []),
    ("0.6", f"{BUILD}Total time of building Unnamed Network 0: 00:00:14", {"build_seconds": 14.0}, []),
    ("0.13", f"{BUILD}Build phase peak memory: 1024.00 MB, children: 12.00 MB",
     {"peak_build_host": GIB, "peak_build_children": 12 * MIB}, []),
    ("0.6", f"{BUILD}Serializing engine to e/rank0.engine...", {"engine_path": "e/rank0.engine"}, ["serialization"]),
    ("0.6", f"{BUILD}Engine serialized. Total time: 00:00:02", {"serialization_seconds": 2.0}, []),
    ("0.6", f"{BUILD}Total time of building all engines: 00:01:00", {"total_build_seconds": 60.0}, []),
    ("benchmarks", "Total engine size per GPU is 3404.00 MiB", {"engine": 3404 * MIB}, []),
    # The server
    ("0.8", f"{RUN}Engine version 0.20.0 found in the config file, assuming engine(s) built by new builder API.",
     {"engine_version": "0.20.0"}, ["engine load"]),
    ("0.8", f"{RUN}No engine version found in the config file, assuming engine(s) built by old builder API.",
     {}, ["engine load"]),
    ("0.8", f"{RUN}MPI size: 2, rank: 0", {"world_size": 2}, []),
    ("0.9", f"{RUN}MPI size: 2, MPI local size: 1, rank: 0", {"world_size": 2}, []),
    ("0.8", f"{RUN}TRTGptModel maxNumSequences: 64", {"max_sequences": 64}, []),
    ("0.8", f"{RUN}TRTGptModel maxBatchSize: 32", {"max_batch_size": 32}, []),
    ("0.9", f"{RUN}TRTGptModel maxBeamWidth: 1", {"max_beam_width": 1}, []),
    ("0.9", f"{RUN}TRTGptModel maxSequenceLen: 4096", {"max_model_len": 4096}, []),
    ("0.9", f"{RUN}TRTGptModel maxDraftLen: 5", {"max_draft_len": 5}, []),
    ("to 0.12", f"{RUN}TRTGptModel mMaxAttentionWindowSize: 2048", {"attention_window": 2048}, []),
    ("0.13", f"{RUN}TRTGptModel mMaxAttentionWindowSize: (2048) * 32", {"attention_window": 2048}, []),
    ("0.9", f"{RUN}TRTGptModel maxNumTokens: 8192", {"max_num_tokens": 8192}, []),
    ("0.9", f"{RUN}TRTGptModel maxInputLen: 4095 = min(maxSequenceLen - 1, maxNumTokens) since context FMHA and "
            "usePackedInput are enabled", {"max_input_len": 4095}, []),
    ("0.20", f"{RUN}TRTGptModel maxInputLen: 4095  = maxSequenceLen - 1 since chunked context is enabled",
     {"max_input_len": 4095}, []),
    ("0.20", f"{RUN}TRTGptModel maxInputLen: 4095 = max_input_len (in trtllm-build args)",
     {"max_input_len": 4095}, []),
    ("0.11", f"{RUN}Capacity Scheduler Policy: GUARANTEED_NO_EVICT",
     {"capacity_scheduler": "GUARANTEED_NO_EVICT"}, []),
    ("0.11", f"{RUN}Context Chunking Scheduler Policy: None", {"context_chunking": "None"}, []),
    ("0.8", f"{RUN}Loaded engine size: 3404 MiB", {"engine": 3404 * MIB}, ["engine load"]),
    ("0.21, in 0.20 unconfirmed", f"{RUN}Engine load time 205 ms", {"engine_load_seconds": 0.205}, []),
    ("0.11", f"{RUN}[MemUsageChange] Allocated 64.50 MiB for execution context memory.",
     {"activations": 64.5 * MIB}, []),
    ("0.11", f"{RUN}[MemUsageChange] Allocated 2.00 MB GPU memory for runtime buffers.",
     {"runtime_buffers": 2 * MIB}, []),
    ("0.11", f"{RUN}[MemUsageChange] Allocated 1.50 GB GPU memory for runtime buffers.",
     {"runtime_buffers": 1.5 * GIB}, []),
    ("0.11", f"{RUN}[MemUsageChange] Allocated 2.50 MB GPU memory for decoder.", {"decoder": 2.5 * MIB}, []),
    ("0.11", f"{RUN}[MemUsageChange] Allocated 1.50 GB GPU memory for decoder.", {"decoder": 1.5 * GIB}, []),
    # The KV cache
    ("0.8", f"{RUN}Allocate 1048576 bytes for k/v cache. ", {"kv_cache": MIB}, ["paged KV cache"]),
    ("0.8", f"{RUN}Using 2048 total tokens in paged KV cache, and 16 blocks per sequence",
     {"kv_cache_tokens": 2048, "blocks_per_sequence": 16}, []),
    ("0.9 and 0.10", f"{RUN}Max tokens in paged KV cache: 2048. Allocating 1048576 bytes.",
     {"kv_cache_tokens": 2048, "kv_cache": MIB}, ["paged KV cache"]),
    ("0.11", f"{RUN}Memory usage when calculating max tokens in paged kv cache: total: 24.00 GiB, available: 20.00 GiB",
     {"gpu_memory_total": 24 * GIB, "gpu_memory_free": 20 * GIB}, ["paged KV cache"]),
    ("0.8", f"{RUN_WARNING}Both freeGpuMemoryFraction (aka kv_cache_free_gpu_mem_fraction) and maxTokens (aka "
            "max_tokens_in_paged_kv_cache) are set (to 0.500000 and 2560, respectively). The smaller value will be "
            "used.", {"kv_cache_fraction": 0.5, "kv_cache_token_limit": 2560}, []),
    ("0.11", f"{RUN_WARNING}maxAttentionWindow and maxSequenceLen are too large for at least one sequence to fit in "
             "kvCache. they are reduced to 5185", {"max_model_len": 5185, "attention_window": 5185}, []),
    ("0.11", f"{RUN_WARNING}maxInputLen is reduced to 5184", {"max_input_len": 5184}, []),
    ("0.11 to about 0.19", f"{RUN}Number of blocks in KV cache primary pool: 4060",
     {"kv_cache_gpu_blocks": 4060}, ["paged KV cache"]),
    ("0.11 to about 0.19", f"{RUN}Number of blocks in KV cache secondary pool: 16, onboard blocks to primary memory "
                           "before reuse: true", {"kv_cache_cpu_blocks": 16}, ["paged KV cache"]),
    ("0.11 to about 0.19", f"{RUN}Max KV cache pages per sequence: 32",
     {"blocks_per_sequence": 32}, ["paged KV cache"]),
    ("about 0.20 to 1.0, in 0.20 unconfirmed", f"{RUN}Blocks per window size:", {}, ["paged KV cache"]),
    ("about 0.20 to 1.0, in 0.20 unconfirmed", f"{RUN}[windowSize=4096] {{.primaryBlocks=512, .secondayBlocks=16}}",
     {"kv_cache_gpu_blocks": 512, "kv_cache_cpu_blocks": 16}, []),
    ("first of 1.x", WINDOW, {"blocks_per_sequence": 65, "tokens_per_block": 32, "kv_cache_gpu_blocks": 13189},
     ["paged KV cache"]),
    ("1.1", f"{WINDOW}, secondary blocks=0, max sequence length=2049",
     {"blocks_per_sequence": 65, "tokens_per_block": 32, "kv_cache_gpu_blocks": 13189, "kv_cache_cpu_blocks": 0},
     ["paged KV cache"]),
    ("1.3 rc", WINDOW.replace(RUN, "[TRT-LLM] [I] [batchmgr][RANK 0] "),
     {"blocks_per_sequence": 65, "tokens_per_block": 32, "kv_cache_gpu_blocks": 13189}, ["paged KV cache"]),
    ("0.8", f"{RUN}Number of tokens per block: 64.", {"tokens_per_block": 64}, []),
    ("0.11", f"{RUN}[MemUsageChange] Allocated 63.44 GiB for max tokens in paged KV cache (259840).",
     {"kv_cache": round(63.44 * GIB), "kv_cache_tokens": 259840}, ["paged KV cache"]),
]  # fmt: skip


def told(report: LogReport) -> dict[str, object]:
    return {key: value for key, value in (report.facts | report.memory).items() if key != "elapsed_seconds"}


def reached(report: LogReport) -> list[str]:
    return list(report.stages[report.stages.status != "missing"].stage)


@pytest.mark.parametrize(
    ("line", "figures", "stages"), [row[1:] for row in LINES], ids=[f"{row[0]}: {row[1][-40:]}" for row in LINES]
)
def test_line_tells_its_figures_and_stages(line: str, figures: dict[str, object], stages: list[str]) -> None:
    report = read_log(f"{line}\n")
    assert told(report) == figures
    assert reached(report) == stages
    assert [found.id for found in report.findings if found.severity == "error"] == []


@pytest.mark.parametrize(
    "line",
    [
        "2025-08-27 09:13:48,052 - INFO - flashinfer.jit: Prebuilt kernels not found, using JIT backend",
        "/usr/lib/python3/cuda.py:61: FutureWarning: The pynvml package is deprecated.",
        f"{WARNING}Overriding paged_state to False",
        f"{WARNING}remove_input_padding is enabled, while opt_num_tokens is not set, setting to "
        "max_batch_size*max_beam_width. ",
        f"{WARNING}padding removal and fMHA are both enabled, max_input_len is not required and will be ignored",
        f"{WARNING}FP8 Context FMHA is disabled because it must be used together with the fp8 quantization workflow.",
        f"{WARNING}Implicitly setting LLaMAConfig.producer = {{'name': 'modelopt'}}",
        f"{WARNING}The build_config is ignored for model format of TLLM_ENGINE.",
        f"{BUILD}Using LLM with TensorRT backend",
        f"{BUILD}Set multi_block_mode to False.",
        f"{TRT}[GraphReduction] The approximate region cut reduction algorithm is called.",
        f"{TRT}[MemUsageChange] Init cuBLAS/cuBLASLt: CPU +0, GPU +8, now: CPU 15391, GPU 21627 (MiB)",
        f"{TRT}Detected 17 inputs and 1 output network tensors.",
        f"{RUN}Initializing MPI with thread mode 3",
        f"{RUN}Rank 0 is using GPU 0",
        f"{RUN}TRTGptModel If model type is encoder, maxInputLen would be reset in trtEncoderModel to maxInputLen: 9",
        f"{RUN}Inspecting the engine to identify potential runtime issues...",
        f"{RUN}KV cache block reuse is disabled",
        f"{RUN}Executor instance created by worker",
    ],
)
def test_line_that_tells_nothing_raises_no_alarm(line: str) -> None:
    report = read_log(f"{line}\n")
    assert (told(report), reached(report), report.findings) == ({}, [], [])


def test_version_of_0_8_is_glued_to_the_next_line() -> None:
    report = read_log(f"[TensorRT-LLM] TensorRT-LLM version: 0.8.0{BUILD}Set gemm_plugin to float16.\n")
    assert told(report) == {"tensorrt_llm_version": "0.8.0", "gemm_plugin": "float16"}


@pytest.mark.parametrize(
    ("first", "then", "figures"),
    [
        (f"{BUILD}Set paged_state to True.", f"{WARNING}Overriding paged_state to False\n{BUILD}Set paged_state to "
         "False.", {"paged_state": "False"}),
        (f"{RUN}TRTGptModel maxSequenceLen: 8192\n{RUN}TRTGptModel mMaxAttentionWindowSize: (8192) * 32",
         f"{RUN_WARNING}maxAttentionWindow and maxSequenceLen are too large for at least one sequence to fit in "
         "kvCache. they are reduced to 5185", {"max_model_len": 5185, "attention_window": 5185}),
        (f"{RUN}TRTGptModel maxInputLen: 8191 = min(maxSequenceLen - 1, maxNumTokens) since context FMHA",
         f"{RUN_WARNING}maxInputLen is reduced to 5184", {"max_input_len": 5184}),
        (f"{RUN}[MemUsageChange] Allocated 0.50 GiB for max tokens in paged KV cache (1024).",
         f"{RUN}[MemUsageChange] Allocated 18.00 GiB for max tokens in paged KV cache (32768).",
         {"kv_cache": 18 * GIB, "kv_cache_tokens": 32768}),
    ],
)  # fmt: skip
def test_what_is_said_again_holds(first: str, then: str, figures: dict[str, object]) -> None:
    assert told(read_log(f"{first}\n{then}\n")) == figures


def rank(number: int, message: str) -> str:
    return f"{CLOCK}[TRT-LLM] [RANK {number}] [I] {message}\n"


def built(number: int) -> str:
    return rank(number, "Build TensorRT engine Unnamed Network 0") + rank(
        number, f"Total time of building Unnamed Network 0: 00:00:1{number}"
    )


def serialized(number: int) -> str:
    return rank(number, f"Serializing engine to e/rank{number}.engine...") + rank(
        number, "Engine serialized. Total time: 00:00:02"
    )


ALL_BUILT = f"{BUILD}Total time of building all engines: 00:01:00\n"
NO_MEMORY = f"{CLOCK}[TRT] [E] [virtualMemoryBuffer.cpp::resizePhysical::151] Error Code 2: OutOfMemory (Requested 9)\n"


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        (built(0) + built(1) + serialized(1) + serialized(0) + ALL_BUILT, "built"),
        (built(0) + serialized(0), "built"),
        (built(0) + serialized(0) + built(1), "starting"),
        (built(0) + serialized(0) + built(1) + NO_MEMORY, "failed"),
        (built(0) + built(1) + serialized(0) + NO_MEMORY, "failed"),
        (built(0) + NO_MEMORY + serialized(0) + ALL_BUILT, "built"),
    ],
    ids=["interleaved", "one rank", "second begins", "second fails", "other fails", "error was survived"],
)
def test_engines_of_several_ranks(log: str, verdict: str) -> None:
    report = read_log(log)
    assert report.verdict == verdict
    assert report.facts["build_seconds"] == 10.0, "a figure that each rank has is the first's"
    errors = [found.id for found in report.findings if found.severity == "error"]
    assert errors == (["build-memory-or-plugin"] if verdict == "failed" else [])


def test_server_without_triton_is_no_build() -> None:
    log = f"{RUN}Loaded engine size: 9 MiB\n{RUN}TRTGptModel maxInputLen: 4095 = max_input_len (in trtllm-build args)\n"
    assert read_log(log).kind == "unknown"


OPTIONAL = """
max_beam_width max_tokens_in_paged_kv_cache max_attention_window_size sink_token_length
kv_cache_free_gpu_mem_fraction kv_cache_host_memory_bytes kv_cache_onboard_blocks cross_kv_cache_fraction
enable_kv_cache_reuse enable_chunked_context batch_scheduler_policy exclude_input_in_output
cancellation_check_period_ms stats_check_period_ms iter_stats_max_iterations request_stats_max_iterations
normalize_log_probs gpu_device_ids participant_ids num_nodes gpu_weights_percent decoding_mode medusa_choices
eagle_choices lora_cache_optimal_adapter_size lora_cache_max_adapter_size lora_cache_gpu_memory_fraction
lora_cache_host_memory_bytes multi_block_mode enable_context_fmha_fp32_acc cuda_graph_mode
cuda_graph_cache_size speculative_decoding_fast_logits lookahead_window_size guided_decoding_backend
encoder_model_path gpt_model_path
"""
"""Parameters of tensorrt_llm/config.pbtxt that a server warns of and does without."""


@pytest.mark.parametrize("parameter", OPTIONAL.split())
@pytest.mark.parametrize(
    "instead", ["use default value of 1", "be set to false.", "be left empty", "be automatically set"]
)
def test_optional_parameter_is_no_fault(parameter: str, instead: str) -> None:
    warning = f"{RUN_WARNING}{parameter} is not specified, will {instead}\n"
    report = read_log(f"{warning}{RUN}Loaded engine size: 9 MiB\n")
    assert (report.verdict, report.findings) == ("starting", [])


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("[TRT] [E] 6: The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute "
         "8.9, please rebuild.", "trt-engine-wrong-gpu"),
        ("[TensorRT-LLM][ERROR] 6: The engine plan file is not compatible with this version of TensorRT, expecting "
         "library version 9.2.0.5 got 9.3.0.1, please rebuild.", "trt-engine-version-mismatch"),
        ("[TRT] [E] 9: [pluginV2Builder.cpp::reportPluginError::24] Error Code 9: Internal Error (L/PLUGIN_V2_Gemm_0: "
         "could not find any supported formats consistent with input/output data types)", "build-plugin-data-type"),
        ("[TRT] [E] 10: Could not find any implementation for node {X}.", "build-memory-or-plugin"),
        ("max_batch_size [2048] is greater than build_config.max_batch_size [64]", "engine-runtime-config-mismatch"),
        (f"{RUN_WARNING}gpt_model_path is not specified, will be left empty\n[TensorRT-LLM][ERROR] Assertion failed: "
         "Both encoder and decoder model paths are empty", "trtllm-placeholder-unfilled"),
    ],
)  # fmt: skip
def test_fault_is_told_as_its_cause(line: str, cause: str) -> None:
    report = read_log(f"{line}\n")
    assert (report.verdict, [found.id for found in report.findings]) == ("failed", [cause])
    assert report.findings[0].fix
    assert report.findings[0].docs


def test_legacy_warning_is_told_and_stops_nothing() -> None:
    rule = "=" * 70
    log = f"""\
/usr/lib/python3/build.py:42: FutureWarning:
{rule}
LEGACY WARNING: trtllm-build
{rule}
This is part of the legacy TensorRT engine-build workflow.
"""
    report = read_log(log + built(0) + serialized(0) + ALL_BUILT)
    assert (report.verdict, [found.id for found in report.findings]) == ("built", ["trtllm-engine-path-legacy"])
    assert report.findings[0].evidence == "LEGACY WARNING: trtllm-build"
