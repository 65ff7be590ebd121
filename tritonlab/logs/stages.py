"""What a log tells beside its events: stages, figures, models, services, faults and the verdict.

What servers write stands in the tables: `FIGURES`, `STAGES`, `KINDS`, `SIGNS`, `MARKS` and what follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from tritonlab.logs.events import Event
from tritonlab.logs.sieve import Sieve

# fmt: off
Value = int | float | str | tuple[int, ...]

SETTINGS = ("dtype", "gpt_attention_plugin", "gemm_plugin", "nccl_plugin", "context_fmha", "use_paged_context_fmha",
            "use_fp8_context_fmha", "remove_input_padding", "paged_kv_cache", "paged_state")
"""What of a trtllm-build's settings is told; a build writes some thirty."""

FACTS: dict[str, tuple[str, str]] = {
    "triton_version": ("text", "Triton Inference Server"),
    "container_release": ("text", "NVIDIA's container, as year.month"),
    "vllm_version": ("text", "vLLM"),
    "tensorrt_llm_version": ("text", "TensorRT-LLM"),
    "driver_version": ("text", "NVIDIA driver"),
    "driver_cuda": ("text", "newest CUDA that the driver supports"),
    "container_cuda": ("text", "CUDA that the container was built with"),
    "min_compute_capability": ("number", "the least that Triton serves on"),
    "default_max_batch_size": ("count", "Triton's, for a model whose configuration has none"),
    "gpu": ("text", "name of GPU 0"),
    "compute_capability": ("numbers", "of the GPU: (major, minor)"),
    "sm_count": ("count", "streaming multiprocessors of the GPU"),
    "sm_clock_mhz": ("count", "their clock"),
    "int4_tflops": ("count", "their arithmetic at int4"),
    "int8_tflops": ("count", "their arithmetic at int8"),
    "fp8_tflops": ("count", "their arithmetic at fp8"),
    "float16_tflops": ("count", "their arithmetic at float16"),
    "bfloat16_tflops": ("count", "their arithmetic at bfloat16"),
    "float32_tflops": ("count", "their arithmetic at float32"),
    "memory_clock_mhz": ("count", "clock of the GPU's memory"),
    "memory_bus_bits": ("count", "width of its bus"),
    "memory_bandwidth_gbs": ("count", "its bandwidth, GB/s"),
    "nvlink": ("text", "True where the GPU has an active link to another"),
    "nvlink_version": ("count", "version of that link"),
    "nvlink_bandwidth_gbs": ("count", "its bandwidth, GB/s"),
    "pcie_speed_mbps": ("count", "speed of a lane to the host, Mbps"),
    "pcie_lanes": ("count", "lanes to the host"),
    "pcie_bandwidth_gbs": ("count", "bandwidth to the host, GB/s"),
    **dict.fromkeys(SETTINGS, ("text", "as trtllm-build was set in the end")),
    "gpu_memory_total": ("bytes", "memory of the GPU"),
    "gpu_memory_free": ("bytes", "what of it is left for TensorRT-LLM's KV cache"),
    "gpu_memory_utilization": ("number", "share of it that vLLM may take"),
    "gpu_memory_usable": ("bytes", "the product of the two"),
    "checkpoint_size": ("bytes", "the weights on disk"),
    "max_model_len": ("count", "context length, tokens"),
    "max_input_len": ("count", "longest prompt of an engine, tokens"),
    "max_num_tokens": ("count", "tokens in a batch of an engine"),
    "max_batch_size": ("count", "requests in a batch of an engine"),
    "max_sequences": ("count", "sequences that TensorRT-LLM holds at once"),
    "max_beam_width": ("count", "beams of an engine"),
    "max_draft_len": ("count", "tokens of a draft that an engine can check at once"),
    "attention_window": ("count", "tokens that attention looks back"),
    "capacity_scheduler": ("text", "how TensorRT-LLM admits requests"),
    "context_chunking": ("text", "how it cuts long prompts"),
    "world_size": ("count", "MPI ranks"),
    "kv_cache_fraction": ("number", "share of the free memory that TensorRT-LLM's KV cache may take"),
    "kv_cache_token_limit": ("count", "tokens that it may hold at most"),
    "kv_cache_gpu_blocks": ("count", "blocks of the KV cache on the GPU"),
    "kv_cache_cpu_blocks": ("count", "blocks on the CPU, to swap to"),
    "tokens_per_block": ("count", "tokens in a block"),
    "blocks_per_sequence": ("count", "blocks that one request may take"),
    "kv_cache_tokens": ("count", "tokens that the KV cache holds"),
    "max_concurrency": ("number", "requests of concurrency_tokens tokens that fit into the KV cache at once"),
    "concurrency_tokens": ("count", "the tokens per request that max_concurrency is for"),
    "weights_seconds": ("seconds", "reading the weights"),
    "model_loading_seconds": ("seconds", "making the model and reading its weights"),
    "profile_seconds": ("seconds", "memory profiling"),
    "compile_seconds": ("seconds", "torch.compile"),
    "graph_capture_seconds": ("seconds", "capturing CUDA graphs"),
    "engine_init_seconds": ("seconds", "vLLM's profiling, KV cache and warm-up together"),
    "network_seconds": ("seconds", "constructing the TensorRT network"),
    "weights_init_seconds": ("seconds", "initializing the weights in the network"),
    "optimization_profiles": ("count", "ranges of shapes that TensorRT optimizes for"),
    "engine_generation_seconds": ("seconds", "TensorRT's generation of the engine"),
    "build_seconds": ("seconds", "building one engine"),
    "serialization_seconds": ("seconds", "writing the engine"),
    "total_build_seconds": ("seconds", "building all engines"),
    "engine_version": ("text", "TensorRT-LLM that built the engine"),
    "engine_load_seconds": ("seconds", "reading the engine"),
    "engine_path": ("text", "where the engine was written"),
    "repository": ("text", "Triton's model repository"),
    "elapsed_seconds": ("seconds", "from the first line with a time to the last"),
    "startup_seconds": ("seconds", "from the first line with a time to the service that came up last"),
    "clock_offset_seconds": ("seconds", "docker's clock minus the container's"),
}
"""The keys of `LogReport.facts`: kind of value (all but text are numbers), and what it is."""

MEMORY = {
    "weights": "the model's weights",
    "kv_cache": "KV cache",
    "activations": "peak of the activations",
    "non_torch": "taken outside PyTorch",
    "cuda_graphs": "CUDA graphs",
    "pinned_pool": "Triton's pinned pool, on the host",
    "cuda_pool": "Triton's CUDA pool",
    "engine": "TensorRT's engine",
    "runtime_buffers": "TensorRT-LLM's runtime buffers",
    "decoder": "TensorRT-LLM's decoder",
    "scratch": "TensorRT's scratch memory",
    "persistent": "what TensorRT's engine keeps on the GPU between requests",
    "persistent_host": "what it keeps on the host",
    "peak_build": "TensorRT's peak on the GPU during a build",
    "peak_build_cpu": "its peak on the host",
    "peak_build_host": "the host's memory during a build",
    "peak_build_children": "the same of the build's child processes",
}
"""The keys of `LogReport.memory`, all bytes."""

_SIZE = r"-?[\d.]+ ?(?:[KMG]i?B)?"
FIGURES = tuple((re.compile(pattern), unit) for pattern, unit in (
    (r"Pinned memory pool is created at .* with size (?P<pinned_pool>\d+)", ""),
    (r"CUDA memory pool is created on device 0 with size (?P<cuda_pool>\d+)", ""),
    (r"^NVIDIA Release (?P<container_release>\d\d\.\d\d)", ""),
    (r"^Triton Server Version (?P<triton_version>[\d.]+)", ""),
    (r"^\| server_version +\| (?P<triton_version>[\d.]+)", ""),
    (r"^\| model_repository_path\[0\] +\| (?P<repository>.*?) *\|$", ""),
    (r'"min-compute-capability":"(?P<min_compute_capability>[\d.]+)"', ""),
    (r'"default-max-batch-size":"(?P<default_max_batch_size>\d+)"', ""),
    (r"driver version (?P<driver_version>[\d.]+) which has support for CUDA (?P<driver_cuda>[\d.]+\d)", ""),
    (r"was built with CUDA (?P<container_cuda>[\d.]+\d) and", ""),
    (r"^Collecting metrics for GPU 0: (?P<gpu>.+)", ""),
    (r"(?:vLLM (?:API )?server version|LLM engine \(v|█  version) ?(?P<vllm_version>\d[\w.+]*)", ""),
    (r"Using max model len (?P<max_model_len>\d+)", ""),
    (r"LLM engine \(v.*? max_seq_len=(?P<max_model_len>\d+)", ""),
    (rf"Checkpoint size: (?P<checkpoint_size>{_SIZE})", ""),
    (r"Loading (?:model )?weights took (?P<weights_seconds>[\d.]+) seconds", ""),
    # Up to 0.8.0 vLLM divides by 2**30 and writes GB.
    (r"(?:Model loading|Loading model weights) took (?P<weights>-?[\d.]+) Gi?B", "GiB"),
    (r"Model loading took [-\d.]+ Gi?B(?: memory)? and (?P<model_loading_seconds>[\d.]+) s", ""),
    (rf"total_gpu_memory \((?P<gpu_memory_total>{_SIZE})\) x gpu_memory_utilization "
     rf"\((?P<gpu_memory_utilization>[\d.]+)\) = (?P<gpu_memory_usable>{_SIZE})", ""),
    (rf"model weights take (?P<weights>{_SIZE}); non_torch_memory takes (?P<non_torch>{_SIZE}); "
     rf"PyTorch activation peak memory takes (?P<activations>{_SIZE});.* Cache is (?P<kv_cache>{_SIZE})", ""),
    (rf"Memory profiling results: total_gpu_memory=(?P<gpu_memory_total>{_SIZE}) .* non_torch_memory="
     rf"(?P<non_torch>{_SIZE}) kv_cache_size=(?P<kv_cache>{_SIZE}) gpu_memory_utilization="
     r"(?P<gpu_memory_utilization>[\d.]+)", ""),
    (rf"Free memory on device .*?\(-?[\d.]+/(?P<gpu_memory_total>{_SIZE})\) on startup", ""),
    (rf"[Dd]esired GPU memory utilization (?:is )?\((?P<gpu_memory_utilization>[\d.]+), "
     rf"(?P<gpu_memory_usable>{_SIZE})\)", ""),
    (rf"Actual usage is .*?(?P<activations>[\d.]+ GiB) for peak activation, "
     rf"(?:(?P<non_torch>{_SIZE}) for non-torch memory, )?and (?P<cuda_graphs>{_SIZE}) for CUDAGraph memory", ""),
    (r"Memory profiling takes (?P<profile_seconds>[\d.]+) seconds", ""),
    (rf"Available KV cache memory: (?P<kv_cache>{_SIZE})", ""),
    (rf"reserved (?P<kv_cache>{_SIZE}) memory for KV Cache", ""),
    (r"persisted startup plan .*kv_cache_memory_bytes=(?P<kv_cache>\d+) ", ""),
    (r"(?:Explicitly|Auto) set \((?P<kv_cache>[\d.]+)/[\d.]+\) GiB for KV cache", "GiB"),
    (r"KV cache size: (?P<kv_cache_tokens>[\d,]+) tokens", ""),
    (r"concurrency for (?P<concurrency_tokens>[\d,]+) tokens per request: (?P<max_concurrency>[\d.]+)x", ""),
    (r"^# (?!CPU )\w+ blocks: (?P<kv_cache_gpu_blocks>\d+)", ""),
    (r"# CPU blocks: (?P<kv_cache_cpu_blocks>\d+)", ""),
    (r"torch\.compile (?:and initial profiling/warmup run together )?(?:takes|took) "
     r"(?P<compile_seconds>[\d.]+) s in total", ""),
    (rf"Graph capturing finished in (?P<graph_capture_seconds>\d+) secs(?:, took (?P<cuda_graphs>{_SIZE}))?", ""),
    (r"init engine \(profile, .*?\) took (?P<engine_init_seconds>[\d.]+) s", ""),
    # 0.8 ends the line without a line end, and another version may follow at once.
    (r"^TensorRT[- ]LLM version: (?P<tensorrt_llm_version>\d+\.\d+\.(?:0|[1-9]\d*)(?:\.\d+)?"
     r"(?:\.?(?:rc|dev|post)\d+)*)", ""),
    (r"^Compute capability: \((?P<compute_capability>\d+, \d+)\)", ""),
    (r"^SM count: (?P<sm_count>\d+)", ""),
    (r"^SM clock: (?P<sm_clock_mhz>\d+) MHz", ""),
    *((rf"^{dtype} TFLOPS: (?P<{dtype}_tflops>\d+)", "")
      for dtype in ("int4", "int8", "fp8", "float16", "bfloat16", "float32")),
    (rf"^Total Memory: (?P<gpu_memory_total>{_SIZE})", ""),
    (r"^Memory clock: (?P<memory_clock_mhz>\d+) MHz", ""),
    (r"^Memory bus width: (?P<memory_bus_bits>\d+)", ""),
    (r"^Memory bandwidth: (?P<memory_bandwidth_gbs>\d+) GB/s", ""),
    (r"^NVLink is active: (?P<nvlink>\w+)", ""),
    (r"^NVLink version: (?P<nvlink_version>\d+)", ""),
    (r"^NVLink bandwidth: (?P<nvlink_bandwidth_gbs>\d+) GB/s", ""),
    (r"^PCIe speed: (?P<pcie_speed_mbps>\d+) Mbps", ""),
    (r"^PCIe link width: (?P<pcie_lanes>\d+)", ""),
    (r"^PCIe bandwidth: (?P<pcie_bandwidth_gbs>\d+) GB/s", ""),
    (r"^Failed to infer cluster info for (?P<gpu>.+?), treat it", ""),
    (r"^Failed to infer cluster info .* node with (?P<gpu_memory_total>\d+) GB memory", "GiB"),
    *((rf"^Set (?:\w+\.)?{setting} to (?P<{setting}>\w+)", "") for setting in SETTINGS),
    (r"^Set (?:\w+\.)?tokens_per_block to (?P<tokens_per_block>\d+)", ""),
    (r"^max_seq_len is not specified, using (?:de|infer)\w+ value (?P<max_model_len>\d+)", ""),
    (r"^max_seq_len (?P<max_model_len>\d+) is larger than max_position_embeddings", ""),
    (r"^Specifying a `max_num_tokens` larger than .* Got `max_num_tokens` = (?P<max_num_tokens>\d+)", ""),
    (r"^max_num_tokens .* specifying to max_seq_len \* max_batch_size \((?P<max_num_tokens>\d+)\)", ""),
    (r"constructing network from module object (?P<network_seconds>[\d.]+) seconds", ""),
    (r"^Total optimization profiles added: (?P<optimization_profiles>\d+)", ""),
    (r"^Total time to initialize the weights in network .*: (?P<weights_init_seconds>[\d:]+)$", ""),
    (r"^(?:Max|Total) Scratch Memory: (?P<scratch>\d+)", ""),
    (r"^Total Host Persistent Memory: (?P<persistent_host>\d+)", ""),
    (r"^Total Device Persistent Memory: (?P<persistent>\d+)", ""),
    (r"^Total Activation Memory: (?P<activations>\d+)", ""),
    (r"^Total Weights Memory: (?P<weights>\d+)", ""),
    (r"Engine generation completed in (?P<engine_generation_seconds>[\d.]+) seconds", ""),
    (rf"Peak memory usage of TRT CPU/GPU memory allocators: CPU (?P<peak_build_cpu>{_SIZE}), "
     rf"GPU (?P<peak_build>{_SIZE})", ""),
    (rf"Peak memory usage during Engine building and serialization: CPU: (?P<peak_build_host>{_SIZE})", ""),
    (r"^Build phase peak memory: (?P<peak_build_host>[\d.]+) MB(?:, children: (?P<peak_build_children>[\d.]+) MB)?",
     "MiB"),
    (rf"Total engine size per GPU is (?P<engine>{_SIZE})", ""),
    (r"Total time of building Unnamed Network \d+: (?P<build_seconds>[\d:]+)", ""),
    (r"Total time of building all engines: (?P<total_build_seconds>[\d:]+)", ""),
    (r"^Serializing engine to (?P<engine_path>.+?)\.\.\.$", ""),
    (r"Engine serialized\. Total time: (?P<serialization_seconds>[\d:]+)", ""),
    (r"^Engine version (?P<engine_version>\S+) found in the config file", ""),
    (r"^MPI size: (?P<world_size>\d+)", ""),
    *((rf"^TRTGptModel {said}: \(?(?P<{key}>\d+)", "") for said, key in (
        ("maxNumSequences", "max_sequences"), ("maxBatchSize", "max_batch_size"), ("maxBeamWidth", "max_beam_width"),
        ("maxSequenceLen", "max_model_len"), ("maxDraftLen", "max_draft_len"),
        ("mMaxAttentionWindowSize", "attention_window"),
        ("maxNumTokens", "max_num_tokens"), ("maxInputLen", "max_input_len"))),
    (r"^Capacity Scheduler Policy: (?P<capacity_scheduler>\w+)", ""),
    (r"^Context Chunking Scheduler Policy: (?P<context_chunking>\w+)", ""),
    (rf"^Loaded engine size: (?P<engine>{_SIZE})", ""),
    (r"^Engine load time (?P<engine_load_seconds>\d+) ms", "e-3"),
    (rf"Allocated (?P<activations>{_SIZE}) for execution context memory", ""),
    # TensorRT-LLM divides by 1024, whatever it writes.
    *((rf"Allocated (?P<{key}>[\d.]+) {unit}B GPU memory for {what}", f"{unit}iB")
      for key, what in (("runtime_buffers", "runtime buffers"), ("decoder", "decoder")) for unit in "KMG"),
    (rf"^Memory usage when calculating max tokens in paged kv cache: total: (?P<gpu_memory_total>{_SIZE}), "
     rf"available: (?P<gpu_memory_free>{_SIZE})", ""),
    (r"^Both freeGpuMemoryFraction .* set \(to (?P<kv_cache_fraction>[\d.]+) and (?P<kv_cache_token_limit>\d+)", ""),
    *((rf"^maxAttentionWindow and maxSequenceLen are too large .* reduced to (?P<{key}>\d+)", "")
      for key in ("max_model_len", "attention_window")),
    (r"^maxInputLen is reduced to (?P<max_input_len>\d+)", ""),
    (r"^Number of blocks in KV cache primary pool: (?P<kv_cache_gpu_blocks>\d+)", ""),
    (r"^Number of blocks in KV cache secondary pool: (?P<kv_cache_cpu_blocks>\d+)", ""),
    (r"windowSize=\d+\] \{\.primaryBlocks=(?P<kv_cache_gpu_blocks>\d+), \.second\w+Blocks="
     r"(?P<kv_cache_cpu_blocks>\d+)", ""),
    (r"^Max KV cache (?:pages|blocks) per sequence: (?P<blocks_per_sequence>\d+)", ""),
    (r"tokens per block=(?P<tokens_per_block>\d+), primary blocks=(?P<kv_cache_gpu_blocks>\d+)"
     r"(?:, secondary blocks=(?P<kv_cache_cpu_blocks>\d+))?", ""),
    (r"^Number of tokens per block: (?P<tokens_per_block>\d+)", ""),
    (rf"Allocated (?P<kv_cache>{_SIZE}) for max tokens in paged KV cache \((?P<kv_cache_tokens>\d+)\)", ""),
    (r"^Max tokens in paged KV cache: (?P<kv_cache_tokens>\d+)\. Allocating (?P<kv_cache>\d+) bytes", ""),
    (r"^Allocate (?P<kv_cache>\d+) bytes for k/v cache", ""),
    (r"^Using (?P<kv_cache_tokens>\d+) total tokens in paged KV cache, and (?P<blocks_per_sequence>\d+) blocks", ""),
))
"""(pattern whose groups are keys of FACTS or MEMORY, what a number lacks: its unit or its power); the first holds."""
LATEST = {"kv_cache", "kv_cache_tokens", "kv_cache_gpu_blocks", "kv_cache_cpu_blocks",
          "max_model_len", "max_input_len", "attention_window", *SETTINGS}
"""Of TensorRT-LLM's the last holds: its PyTorch backend first makes a small KV cache, to measure with; lengths that do
not fit into the KV cache are reduced; and a build overrides settings that the model does not allow."""


class StageRule(NamedTuple):
    """A stage opens with the first line that `opens` matches, and is done with the last that `closes` does.

    Without `closes` one line is both. An optional stage need not come. `seconds` names the facts that state
    how long it took, best first.
    """

    opens: str
    closes: str = ""
    optional: bool = False
    seconds: tuple[str, ...] = ()


_ENGINE_BEGINS = r"^Initializing an? (?:V\d )?LLM engine|^(?:Starting to load|Loading) model"
STAGES: dict[str, StageRule] = {
    "server banner": StageRule(r"^== Triton Inference Server ==", optional=True),
    "CUDA compatibility": StageRule(
        r"^WARNING: CUDA Minor Version|CUDA Forward Compat|^WARNING: The NVIDIA Driver was not detected",
        r"Version Compatibility mode\.|CUDA Forward Compat|^WARNING: The NVIDIA Driver", optional=True),
    "memory pools": StageRule(
        r"^(?:[Pp]inned memory pool|Unable to allocate pinned|CUDA memory pool)", r"^CUDA memory pool"),
    "backends": StageRule(r"^TRITONBACKEND_Initialize: |^\| Backend ", r"^\| Backend "),
    "model load": StageRule(r"^loading: ", r"^TRITONBACKEND_ModelInstanceInitialize"),
    "vLLM backend": StageRule(
        r"^TRITONBACKEND_ModelInstanceInitialize|^Automatically detected platform", _ENGINE_BEGINS),
    "vLLM": StageRule(
        r"vLLM (?:API )?server version|█  version|^Automatically detected platform|^Resolved architecture|"
        + _ENGINE_BEGINS, _ENGINE_BEGINS),
    "weights": StageRule(
        r"^(?:Starting to load|Loading) model|^Using model weights format|^Loading \w+ checkpoint|^Loading weights|"
        r"^Model loading",
        r"^Loading (?:model )?weights took|^Model loading took",
        seconds=("model_loading_seconds", "weights_seconds")),
    "compile": StageRule(
        r"cache directory: .*torch\.compile|^(?:\[\w+\] )?(?:Starting torch\.compile|Dynamo bytecode|Compiling a graph|"
        r"torch\.compile [at])|^Warming up (?:model )?for the comp",
        r"^(?:\[\w+\] )?torch\.compile [at]|^Warming up done", optional=True, seconds=("compile_seconds",)),
    "memory profile": StageRule(
        r"^the current vLLM instance can|^Memory profiling|^Available KV cache|KV cache size: |^# \w+ blocks",
        r"reserved for KV Cache is|KV cache size: |^# \w+ blocks"),
    "KV cache": StageRule(
        r"^(?:Explicitly|Auto) set .* for KV cache|KV cache size: |^# (?:cpu|CPU) blocks: ",
        r"KV cache size: |^# (?:cpu|CPU) blocks: "),
    "CUDA graphs": StageRule(
        r"^Capturing (?:cudagraphs|CUDA graph|the model for CUDA graph)", r"^Graph capturing finished",
        optional=True, seconds=("graph_capture_seconds",)),
    # Before 0.6.5 vLLM does not say that the engine is up: the graphs are what it does last.
    "engine": StageRule(
        r"^init engine \(|^Graph capturing finished|^Available routes are", r"^init engine \(",
        seconds=("engine_init_seconds",)),
    "models ready": StageRule(r"^successfully loaded '|^\| .*\| READY +\|", r"^\| .*\| READY +\|"),
    "services": StageRule(
        r"^Started \w+ ?Service at|^(?:Starting vLLM|Uvicorn|Started server)|^failed to start \w+ serv",
        r"^Started (?:HTTPService|Metrics Service) at|^Application startup complete"),
    "engine load": StageRule(
        r"^Engine version \S+ found|^No engine version found|^Loaded engine size",
        r"^Loaded engine size|^Engine load time", optional=True, seconds=("engine_load_seconds",)),
    "paged KV cache": StageRule(
        r"^Memory usage when calculating max tokens|^Number of blocks in KV cache|^Blocks per window size|"
        r"^Max (?:KV cache|tokens in paged KV)|^Allocate \d+ bytes for k/v cache|"
        r"^\[MemUsageChange\] Allocated \S+ \S+ for max tokens",
        r"^\[MemUsageChange\] Allocated \S+ \S+ for max tokens|^Using \d+ total tokens in paged KV|"
        r"^Max tokens in paged KV", optional=True),
    "plugins": StageRule(r"^TensorRT[- ]LLM version: |^Set (?:\w+\.)?\w+plugin to ", r"^Set \S+ to "),
    "GPU": StageRule(
        r"^Compute capability: |^Failed to infer cluster",
        r"^(?:Total )?Memory|^SM |^NVLink|^PCIe|^Failed to infer cluster", optional=True),
    # Before 0.14 TensorRT-LLM does not say that the network is whole, only what it does next.
    "network": StageRule(
        r"^Total time of constructing network|^Total optimization profiles|^Build TensorRT engine",
        r"^Total time of constructing network", seconds=("network_seconds",)),
    "engine build": StageRule(
        r"^Build TensorRT engine", r"^Total time of building (?!all)|^Engine generation completed",
        seconds=("build_seconds", "engine_generation_seconds")),
    "serialization": StageRule(
        r"^Serializing engine to ", r"^Engine serialized\.", seconds=("serialization_seconds",)),
}

_VLLM = ("weights", "compile", "memory profile", "CUDA graphs", "engine")
_VLLM_CPU = ("weights", "KV cache", "compile", "engine")
_TRITON = ("memory pools", "backends", "model load", "models ready", "services")
_TENSORRT_LLM = ("engine load", "paged KV cache")
KINDS: dict[str, tuple[str, ...]] = {
    "triton-vllm": ("server banner", "CUDA compatibility", "memory pools", "model load", "vLLM backend",
                    *_VLLM, "models ready", "services"),
    "triton-vllm-cpu": ("server banner", "memory pools", "model load", "vLLM backend", *_VLLM_CPU,
                        "models ready", "services"),
    "triton-tensorrtllm": (*_TRITON[:3], *_TENSORRT_LLM, *_TRITON[3:]),
    "triton": ("server banner", *_TRITON),
    "vllm": ("vLLM", *_VLLM, "services"),
    "vllm-cpu": ("vLLM", *_VLLM_CPU, "services"),
    "trtllm-build": ("plugins", "GPU", "network", "engine build", "serialization"),
    "unknown": (),
}
"""The stages that a log of each kind ought to show, in order."""

SIGNS = tuple((sign, re.compile(pattern)) for sign, pattern in (
    ("triton", r"^== Triton Inference Server ==|^\| .* \| (?:READY|UNAVAILABLE)\b|^Started GRPCInference"),
    ("vllm", r"^\| vllm +\|"),
    ("cpu", r"platform cpu|CPU KV cache size|^CUDA memory pool disabled|for KV cache on node|"
            r"^# (?:cpu blocks|CPU blocks: \d+$)"),
    ("tensorrt-llm", r"tensorrtllm|^\| tensorrt_llm +\|"),
    ("build", r"^Total time of (?:constructing|building)|^Build TensorRT|^Serializing engine|trtllm-build(?! args)"),
))
"""What a line gives away of the kind of log, beside its component."""

MARKS = tuple((mark, re.compile(pattern)) for mark, pattern in (
    ("ready", r"^Started (?:GRPC(?:Inference)?|HTTP)Service at|^Application startup complete|^Uvicorn running on"),
    ("built", r"^Engine serialized\. Total time|^Total time of building all engines"),
    # Of several engines, one for each rank, the next begins: the build is not over.
    ("", r"^Build TensorRT engine|^Serializing engine to"),
    ("stopped", r"^Signal \((?:2|15)\) received|^Shutting down(?: FastAPI.*)?$|^KeyboardInterrupt|"
                r"^slurmstepd: error: .*CANCELLED AT"),
    ("fault", r"^Poll failed for model|^Failed to initialize Python stub|^EngineCore failed to start|"
              r"^UNAVAILABLE: |^ERROR: Failed to create instance|gated repo|^40[13] Client Error|"
              r"unexpected error when creating model(?:Instance)?State|^failed to (?:load model|poll) |"
              r"^(?:Invalid argument|Not found|Unsupported): "),
    ("failed", r"^error: creating server|^failed to start \w+ service|^(?:docker: )?Error response from|"
               r"^Engine building failed|which has no loaded version|[Ff]atal signal from worker processes|"
               r"Engine core initialization failed|EngineDeadError|^terminate called after throwing|"
               r"^Signal \((?:6|7|8|11)\) received|Segfault encountered|^Stub process\b.* unhealthy|"
               r"vLLM engine of model .* has died|^Fatal Python error|(?:Aborted|Segmentation fault) +\(core dumped\)|"
               r"Caught signal (?:6|7|8|11) \(|^MPI_ABORT was invoked|^mpirun noticed that process|"
               r"Main process exited, code=(?:dumped|exited, status=[1-9])|"
               r"\bexited with code (?!0\b|130\b|143\b)\d+|^dependency failed to start|"
               r"(?:already dead|has failed), terminating server process|taking the entire process down"),
))
"""Lines that decide the verdict, until a later one decides otherwise; a "fault" only names a cause."""

LIFECYCLE = tuple((status, re.compile(pattern)) for status, pattern in (
    ("LOADING", r"^loading: (?P<name>.+):(?P<version>\d+)$"),
    ("READY", r"^successfully loaded '(?P<name>[^']+)'(?: version (?P<version>\d+))?"),
    ("UNAVAILABLE", r"^\"?failed to load '(?P<name>[^']+)' version (?P<version>\d+):\s*(?P<reason>.*)"),
    ("UNLOADED", r"^successfully unloaded '(?P<name>[^']+)' version (?P<version>\d+)"),
))
# fmt: on

BEGINS = tuple(
    (rank, re.compile(pattern))
    for rank, pattern in enumerate(
        (
            r"^== Triton Inference Server ==",
            r"^Pinned memory pool is created|^Pinned memory pool disabled|^Unable to allocate pinned system memory",
            r"vLLM API server version",
        )
    )
)
"""What a process writes once, and in this order, when it begins."""

DIGITS_TELL = re.compile(r"Signal \(|SIG|Client Error|GPU|device ")
"""Where two lines that differ only in digits may say different things."""

REQUEST = re.compile(r'"(?:GET|POST) /\S* HTTP/\d|Avg prompt throughput: ')
"""What a server writes once it serves, when the log begins too late to show that it became ready."""
SERVED = re.compile(r'" 200|Avg prompt throughput: (?!0\.0 )')
"""And what says that it survived whatever stands before."""
OFFLINE = "llm.py:"
"""Where vLLM's class LLM, which opens no service, writes after its engine has come up."""

SERVICE = re.compile(
    r"^(?:Started (?P<name>GRPC|HTTP|Metrics)\w*(?: Service)? at |"
    r"(?:Starting vLLM .*server|Uvicorn running).* on https?://)(?P<address>[^\s/]+)"
)
MODEL_ROW = re.compile(
    r"^\| (?P<name>\S+) +\| (?P<version>-?\d+|-) +\| (?P<status>READY|UNAVAILABLE|(?:UN)?LOADING)\b"
    r"(?:: (?P<reason>.*?))? *(?:\||$)"
)
MODEL_ROW_GOES_ON = re.compile(r"^\| +\| +\| (?P<reason>.*\S) +\|$")
EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)(?:: |$)")
HARMLESS = re.compile(r"^--- Logging error ---|^Exception ignored in")
ECHO = re.compile(
    r"Engine core initialization failed|EngineDeadError|Engine process failed to start|^SystemExit|"
    r"^EngineCore failed to start|^error: creating server|vLLM engine of model .* has died|"
    r"Executor worker returned error"
)
"""Errors that only pass on that something else failed."""

VALIDATION = re.compile(r"\d+ validation errors? for \w+$")
UNLOADED = "unloaded"
MOST, LONGEST_FAULT = 500, 4000
"""Of faults and of models no more are kept, and no more characters of a fault, whatever the log holds."""
_RULES = tuple((name, re.compile(rule.opens), re.compile(rule.closes or rule.opens)) for name, rule in STAGES.items())
_TELLING = Sieve(
    (pattern, pattern)
    for pattern in (
        *(pattern for _, pattern in BEGINS + SIGNS + MARKS + LIFECYCLE),
        *(pattern for pattern, _ in FIGURES),
        *(pattern for _, *ends in _RULES for pattern in ends),
        SERVICE,
    )
)
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Stage:
    """One stage: status is reached, running, failed or missing (not in the log, or not yet).

    `seconds` is what the log states, else the time until the next stage began; `start` is on the container's
    clock where the log has it. `evidence` is the line that shows the status, `line` its number.
    """

    name: str
    status: str
    start: datetime | None = None
    seconds: float | None = None
    evidence: str = ""
    line: int | None = None


@dataclass
class Model:
    """A model as Triton's log last spoke of it; `listed` when it stood in Triton's table of models."""

    name: str
    version: str
    status: str
    reason: str = ""
    listed: bool = False

    @property
    def failed(self) -> bool:
        """It could not be loaded; a model that was unloaded did not fail."""
        return self.status == "UNAVAILABLE" and self.reason != UNLOADED


@dataclass(frozen=True)
class Fault:
    """A line that names an error."""

    text: str
    evidence: str
    line: int


@dataclass
class _Seen:
    opened: Event | None
    evidence: str
    line: int
    done: Event | None = None
    closed: bool = False


@dataclass
class Progress:
    """What the lines of one log have told so far: `take` each event, and read the rest off at any time."""

    facts: dict[str, Value] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    models: dict[tuple[str, str], Model] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    survived: int = 0
    stretch: int = 0
    was_ready: bool = False
    _outcome: str = ""
    _begun: dict[int, int] = field(default_factory=dict)
    _fault_last: bool = False
    _signs: set[str] = field(default_factory=set)
    _stages: dict[str, _Seen] = field(default_factory=dict)
    _harmless: set[int | None] = field(default_factory=set)
    _row: Model | None = None
    # Events that bear a time: the first, the last, and the last at which a service came up.
    _first: Event | None = None
    _now: Event | None = None
    _served: Event | None = None
    _offset: timedelta | None = None

    def begins_anew(self, event: Event) -> bool:
        """Whether with this event another process begins than the one that this tells of: ask before `take`."""
        for rank, pattern in BEGINS:
            if pattern.search(event.message):
                # Several API servers of one vLLM each write their version, before anything else goes on.
                gone_on = rank != len(BEGINS) - 1 or len(self._stages) > self._begun.get(rank, 0) + 1
                return gone_on and any(rank <= earlier for earlier in self._begun)
        return False

    def take(self, event: Event, text: str) -> bool:
        """Learn from one event, its line being `text`; whether it told anything but the time."""
        self.clocks(event)
        if event.component:
            self._signs.add(event.component)
        told = _tells(event.message[:LONGEST_FAULT])
        if told:
            self._learn(event, text)
        self._table(event.message, event.line, text)
        self._exception(event, text)
        for mark, pattern in MARKS if told else ():
            if pattern.search(event.message):
                self._decide(mark, event, text)
        if not self.was_ready and REQUEST.search(event.message):
            self.was_ready = told = True
            if SERVED.search(event.message):
                self._go_on()
        if event.source and event.source.startswith(OFFLINE) and "engine" in self._stages:
            self._decide("ready", event, text)
            told = True
        return told

    def _learn(self, event: Event, text: str) -> None:
        message = event.message
        for rank, pattern in BEGINS:
            if pattern.search(message):
                self._begun.setdefault(rank, len(self._stages))
        self._signs.update(sign for sign, pattern in SIGNS if pattern.search(message))
        for pattern, unit in FIGURES:
            if found := pattern.search(message):
                self._figures(found.groupdict(), unit)
        self._stage(message, event.line, text)
        self._lifecycle(event, text)

    @property
    def kind(self) -> str:
        """Which of `KINDS` this log is, by what it has shown so far."""
        cpu = "-cpu" if "cpu" in self._signs else ""
        if "triton" in self._signs:
            if "vllm" in self._signs:
                return f"triton-vllm{cpu}"
            return "triton-tensorrtllm" if "tensorrt-llm" in self._signs else "triton"
        if "vllm" in self._signs:
            return f"vllm{cpu}"
        return "trtllm-build" if "build" in self._signs else "unknown"

    @property
    def verdict(self) -> str:
        """How it went: ready, starting, failed, stopped, built or unknown."""
        if any(model.failed for model in self.models.values()):
            return "failed"
        if self._outcome and not (self._outcome == "built" and self._fault_last):
            return self._outcome
        listed = [model for model in self.models.values() if model.listed]
        if listed and all(model.status == "READY" for model in listed):
            return "ready"
        if self._fault_last:
            return "failed"
        if self.was_ready:
            return "ready"
        return "starting" if self.kind != "unknown" or self._stages else "unknown"

    def is_during(self, stage: str) -> bool:
        """Whether that stage has begun and is not done; "serving" is what comes after the start."""
        if stage == "serving":
            return self.was_ready
        seen = self._stages.get(stage)
        return seen is not None and not seen.closed

    def stages(self) -> list[Stage]:
        """The stages that this kind of log ought to show, in order, each as far as it has come."""
        names = KINDS[self.kind] or tuple(self._stages)
        starts = {name: self._start(name) for name in names if name in self._stages}
        last = next(reversed(starts), None)
        stages = []
        for name in names:
            if seen := self._stages.get(name):
                at_work = name == last and not seen.closed
                status = "reached" if not at_work else "failed" if self.verdict == "failed" else "running"
                stated = self._stated(name)
                seconds = self._until_next(name, starts) if stated is None else stated
                stages.append(Stage(name, status, starts[name], seconds, seen.evidence, seen.line))
            elif not STAGES[name].optional:
                stages.append(Stage(name, "missing"))
        return stages

    def clock_facts(self) -> dict[str, Value]:
        """The facts that the clocks tell: elapsed_seconds, startup_seconds, clock_offset_seconds."""
        facts: dict[str, Value] = {}
        for key, event in (("elapsed_seconds", self._now), ("startup_seconds", self._served)):
            seconds = _between(self._aligned(self._first), self._aligned(event))
            if seconds is not None and seconds >= 0:
                facts[key] = seconds
        if self._offset is not None:
            facts["clock_offset_seconds"] = round(self._offset.total_seconds())
        return facts

    def clocks(self, event: Event) -> None:
        """Learn from an event when it came."""
        if event.time is None:
            return
        self._first = self._first or event
        self._now = event
        if event.docker_time and event.clock == "container":
            # Docker stamps a line after it was written: the least difference is nearest to the clocks'.
            apart = event.docker_time - event.time
            self._offset = apart if self._offset is None else min(self._offset, apart)

    def _aligned(self, event: Event | None) -> datetime | None:
        """The event's time on the container's clock; on docker's, if the log has no other."""
        if event and event.docker_time and self._offset is not None:
            with suppress(OverflowError):
                return event.docker_time - timedelta(seconds=round(self._offset.total_seconds()))
        return event.time if event else None

    def _figures(self, groups: dict[str, str | None], unit: str) -> None:
        latest = LATEST if "tensorrt-llm" in self._signs else ()
        for key, text in groups.items():
            target: dict[str, Any] = self.memory if key in MEMORY else self.facts
            if text is not None and (key not in target or key in latest):
                kind = FACTS[key][0] if key in FACTS else "bytes"
                with suppress(ValueError, OverflowError):
                    target[key] = _READ[kind](text + unit)

    def _stage(self, message: str, line: int, text: str) -> None:
        for name, opens, closes in _RULES:
            seen = self._stages.get(name)
            if seen is None and opens.search(message):
                seen = self._stages[name] = _Seen(self._now, text, line)
                self._go_on()
            if seen and closes.search(message):
                if not seen.closed:
                    self._go_on()
                seen.done, seen.evidence, seen.line, seen.closed = self._now, text, line, True

    def _stated(self, name: str) -> float | None:
        stated = [self.facts[key] for key in STAGES[name].seconds if key in self.facts]
        return float(stated[0]) if stated and isinstance(stated[0], float) else None

    def _start(self, name: str) -> datetime | None:
        seen, stated = self._stages[name], self._stated(name)
        if stated is not None and (done := self._aligned(seen.done)):
            with suppress(OverflowError):
                return done - timedelta(seconds=stated)
        return self._aligned(seen.opened)

    def _until_next(self, name: str, starts: dict[str, datetime | None]) -> float | None:
        """The time to the stage that began next; to this one's own end if it was the last to begin."""
        start = starts[name]
        if start is None:
            return None
        order = list(starts)
        after = order[order.index(name) + 1 :]
        later = [
            time for other, time in starts.items() if time and (time > start or (other in after and time == start))
        ]
        seen = self._stages[name]
        own_end = seen.done if seen.closed else self._now if name == order[-1] else seen.opened
        end = min(later) if later else self._aligned(own_end)
        return max(_between(start, end) or 0.0, 0.0)

    def _table(self, message: str, line: int, text: str) -> None:
        """Read a row of Triton's table of models; a long reason goes on in rows that have nothing else."""
        if row := MODEL_ROW.match(message):
            model = Model(row["name"], row["version"], row["status"], row["reason"] or "", listed=True)
            known = self.models.get((model.name, model.version))
            self._row = None if known and known.failed and model.failed else model
            if self._row:
                self._model(model, line, text)
            elif known:
                # The table only repeats what the line of the failure said.
                known.listed = True
        elif self._row and (more := MODEL_ROW_GOES_ON.match(message)):
            self._row.reason += f" {more['reason']}"
        else:
            self._row = None

    def _lifecycle(self, event: Event, text: str) -> None:
        for status, pattern in LIFECYCLE:
            if found := pattern.match(event.message):
                name, groups = found["name"], found.groupdict()
                state = ("UNAVAILABLE", UNLOADED) if status == "UNLOADED" else (status, groups.get("reason") or "")
                known = [version for model, version in self.models if model == name]
                for version in [groups["version"]] if groups["version"] else known or [""]:
                    self._model(Model(name, version, *state), event.line, text)
        if service := SERVICE.match(event.message):
            self.services[(service["name"] or "HTTP").lower()] = service["address"]
            self._served = self._now

    def _model(self, model: Model, line: int, text: str) -> None:
        if model.version:
            # An ensemble is reported as loaded without its version, which only the table tells.
            self.models.pop((model.name, ""), None)
        if len(self.models) < MOST or (model.name, model.version) in self.models:
            self.models[model.name, model.version] = model
        if model.failed:
            self._fault(model.reason, text, line)

    def _exception(self, event: Event, text: str) -> None:
        """Note the exception that a traceback ends with, or that stands alone; an error of TensorRT too."""
        if HARMLESS.match(event.message):
            self._harmless.add(event.pid)
        elif event.level in {None, "ERROR", "FATAL"} and EXCEPTION.match(event.message):
            if event.pid in self._harmless:
                self._harmless.remove(event.pid)
            else:
                self._fault(event.message, text, event.line)
        elif event.level in {"ERROR", "FATAL"} and event.component in {"tensorrt", "tensorrt-llm"}:
            self._fault(event.message, text, event.line)

    def _decide(self, mark: str, event: Event, text: str) -> None:
        if mark in {"failed", "fault"}:
            if self._outcome == "stopped" and self.was_ready:
                # What goes wrong while a server shuts down on request did not make it fail.
                return
            self._fault(gist(event.message), text, event.line)
        if mark != "fault" and not (mark in {"stopped", ""} and self._outcome == "failed"):
            self._outcome = mark
        if mark == "built":
            self._go_on()
        if mark == "ready":
            self.was_ready, self._served = True, self._now

    def _go_on(self) -> None:
        """The start makes progress, and so survived the faults that it had."""
        self._fault_last, self.survived = False, len(self.faults)
        if self._outcome != "failed" and not any(model.failed for model in self.models.values()):
            self.stretch += 1

    def _fault(self, fault: str, text: str, line: int) -> None:
        self._fault_last = True
        fault = fault[:LONGEST_FAULT]
        if len(self.faults) < MOST or (ECHO.search(fault) and len(self.faults) < 2 * MOST):
            self.faults.setdefault(fault, Fault(fault, text[:LONGEST_FAULT], line))


@lru_cache(1 << 12)
def _tells(message: str) -> bool:
    """Whether any of the tables knows the message; of a long log most lines come again and again."""
    return any(pattern.search(message) for pattern in _TELLING.of(message))


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None


def _bytes(text: str) -> int:
    digits = text.rstrip("KMGiB ")
    return round(float(digits) * _UNITS[text[len(digits) :].strip()])


def gist(message: str) -> str:
    """The first line of a message, with the second where the first only counts what pydantic found."""
    first, _, rest = message.partition("\n")
    return f"{first}: {rest.splitlines()[0].strip()}" if rest and VALIDATION.search(first) else first


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


_READ: dict[str, Callable[[str], Value]] = {
    "text": str.strip,
    "bytes": _bytes,
    "seconds": _seconds,
    "count": lambda text: int(text.replace(",", "")),
    "number": float,
    "numbers": lambda text: tuple(int(part) for part in text.split(",")),
}
