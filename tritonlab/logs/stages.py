"""What a log tells beside its events: stages, figures, models, services, faults and the verdict.

All knowledge of wording stands in the tables: `STAGES`, `KINDS`, `FIGURES`, `MARKS` and `SIGNS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from tritonlab.logs.events import Event

Value = int | float | str | tuple[int, ...]

FACTS: dict[str, tuple[str, str]] = {
    "triton_version": ("text", "Triton Inference Server"),
    "container_release": ("text", "NVIDIA's container, as year.month"),
    "vllm_version": ("text", "vLLM"),
    "tensorrt_llm_version": ("text", "TensorRT-LLM"),
    "driver_version": ("text", "NVIDIA driver"),
    "driver_cuda": ("text", "newest CUDA that the driver supports"),
    "container_cuda": ("text", "CUDA that the container was built with"),
    "gpu": ("text", "name of GPU 0"),
    "max_model_len": ("count", "context length, tokens"),
    "model_gib_on_disk": ("number", "size of the checkpoint, GiB"),
    "gpu_memory_total": ("bytes", "memory of the GPU"),
    "gpu_memory_utilization": ("number", "share of it that vLLM may take"),
    "gpu_memory_usable": ("bytes", "the product of the two"),
    "kv_cache_gpu_blocks": ("count", "KV-cache blocks on the GPU"),
    "kv_cache_cpu_blocks": ("count", "KV-cache blocks for swapping, on the CPU"),
    "kv_cache_tokens": ("count", "tokens that the KV cache holds"),
    "max_concurrency": ("number", "requests of concurrency_tokens tokens that fit the KV cache at once"),
    "concurrency_tokens": ("count", "tokens per request that max_concurrency was worked out for"),
    "weights_seconds": ("seconds", "reading the weights"),
    "model_loading_seconds": ("seconds", "making the model and reading its weights"),
    "profile_seconds": ("seconds", "memory profiling"),
    "compile_seconds": ("seconds", "torch.compile"),
    "graph_capture_seconds": ("seconds", "capturing CUDA graphs"),
    "engine_init_seconds": ("seconds", "vLLM's profiling, KV cache and warm-up together"),
    "compute_capability": ("numbers", "of the GPU, (major, minor)"),
    "sm_count": ("count", "streaming multiprocessors of the GPU"),
    "sm_clock_mhz": ("count", "their clock"),
    "float16_tflops": ("count", "arithmetic at float16"),
    "network_seconds": ("seconds", "constructing the TensorRT network"),
    "engine_generation_seconds": ("seconds", "TensorRT's engine generation"),
    "build_seconds": ("seconds", "building one engine"),
    "total_build_seconds": ("seconds", "building all engines"),
    "serialization_seconds": ("seconds", "writing the engine"),
    "engine_path": ("text", "where the engine was written"),
    "repository": ("text", "Triton's model repository"),
    "elapsed_seconds": ("seconds", "from the first line with a time to the last"),
    "startup_seconds": ("seconds", "from the first line with a time to the service that came up last"),
    "clock_offset_seconds": ("seconds", "docker's clock minus the container's"),
}
"""The keys of `LogReport.facts`: how each value is read (bytes, seconds and counts are numbers), and what it is."""

MEMORY = {
    "weights": "the model's weights",
    "kv_cache": "KV cache",
    "activations": "peak of PyTorch's activations",
    "non_torch": "what is taken outside PyTorch",
    "cuda_graphs": "CUDA graphs",
    "pinned_pool": "Triton's pinned memory pool (on the host)",
    "cuda_pool": "Triton's CUDA memory pool",
    "peak_build": "TensorRT's peak on the GPU while building",
}
"""The keys of `LogReport.memory`, all bytes."""

_SIZE = r"-?[\d.]+ ?[KMG]i?B"
FIGURES: tuple[tuple[str, str], ...] = (
    (rf"Pinned memory pool is created at .* with size (?P<pinned_pool>\d+)", ""),
    (rf"CUDA memory pool is created on device 0 with size (?P<cuda_pool>\d+)", ""),
    (r"^NVIDIA Release (?P<container_release>\d\d\.\d\d)", ""),
    (r"^Triton Server Version (?P<triton_version>[\d.]+)", ""),
    (r"^\| server_version +\| (?P<triton_version>[\d.]+)", ""),
    (r"^\| model_repository_path\[0\] +\| (?P<repository>.*?) *\|$", ""),
    (r"driver version (?P<driver_version>[\d.]+) which has support for CUDA (?P<driver_cuda>[\d.]+\d)", ""),
    (r"^ *was built with CUDA (?P<container_cuda>[\d.]+\d) and", ""),
    (r"Collecting metrics for GPU 0: (?P<gpu>.+)", ""),
    (r"(?:vLLM API server version|LLM engine \(v|█  version) ?(?P<vllm_version>\d[\w.+]*)", ""),
    (r"Using max model len (?P<max_model_len>\d+)", ""),
    (r"Loading (?:model )?weights took (?P<weights_seconds>[\d.]+) seconds", ""),
    (rf"Model loading took (?P<weights>{_SIZE})(?: memory)? and (?P<model_loading_seconds>[\d.]+) seconds", ""),
    (rf"Loading model weights took (?P<weights>{_SIZE})", ""),
    (rf"total_gpu_memory \((?P<gpu_memory_total>{_SIZE})\) x gpu_memory_utilization "
     rf"\((?P<gpu_memory_utilization>[\d.]+)\) = (?P<gpu_memory_usable>{_SIZE})", ""),
    (rf"model weights take (?P<weights>{_SIZE}); non_torch_memory takes (?P<non_torch>{_SIZE}); PyTorch activation "
     rf"peak memory takes (?P<activations>{_SIZE});.* KV Cache is (?P<kv_cache>{_SIZE})", ""),
    (r"Memory profiling takes (?P<profile_seconds>[\d.]+) seconds", ""),
    (rf"Available KV cache memory: (?P<kv_cache>{_SIZE})", ""),
    (r"(?:Explicitly|Auto) set \((?P<kv_cache>[\d.]+)/[\d.]+\) GiB for KV cache", "GiB"),
    (r"KV cache size: (?P<kv_cache_tokens>[\d,]+) tokens", ""),
    (r"Maximum concurrency for (?P<concurrency_tokens>[\d,]+) tokens per request: (?P<max_concurrency>[\d.]+)x", ""),
    (r"# (?:GPU|CUDA|cuda) blocks: (?P<kv_cache_gpu_blocks>\d+), # CPU blocks: (?P<kv_cache_cpu_blocks>\d+)", ""),
    (r"torch\.compile (?:takes|took) (?P<compile_seconds>[\d.]+) s in total", ""),
    (rf"Graph capturing finished in (?P<graph_capture_seconds>\d+) secs, took (?P<cuda_graphs>{_SIZE})", ""),
    (r"init engine \(profile, .*\) took (?P<engine_init_seconds>[\d.]+) s", ""),
    (r"^TensorRT[- ]LLM version: (?P<tensorrt_llm_version>\S+)", ""),
    (r"^Compute capability: \((?P<compute_capability>\d+, \d+)\)", ""),
    (r"^SM count: (?P<sm_count>\d+)", ""),
    (r"^SM clock: (?P<sm_clock_mhz>\d+) MHz", ""),
    (r"^float16 TFLOPS: (?P<float16_tflops>\d+)", ""),
    (rf"^Total Memory: (?P<gpu_memory_total>{_SIZE})", ""),
    (r"constructing network from module object (?P<network_seconds>[\d.]+) seconds", ""),
    (r"Engine generation completed in (?P<engine_generation_seconds>[\d.]+) seconds", ""),
    (rf"Peak memory usage of TRT CPU/GPU memory allocators: CPU .*, GPU (?P<peak_build>{_SIZE})", ""),
    (r"Total time of building Unnamed Network \d+: (?P<build_seconds>[\d:]+)", ""),
    (r"Total time of building all engines: (?P<total_build_seconds>[\d:]+)", ""),
    (r"^Serializing engine to (?P<engine_path>.+?)\.\.\.$", ""),
    (r"Engine serialized\. Total time: (?P<serialization_seconds>[\d:]+)", ""),
)  # fmt: skip
"""(pattern whose groups are keys of FACTS or MEMORY, unit of a number that bears none). The first in a log holds."""


class StageRule(NamedTuple):
    """A stage opens with the first line that `opens` matches and is done with the last that `closes` matches.

    An optional stage need not come; `seconds` names the facts that state how long it took, best first.
    """

    opens: str
    closes: str
    optional: bool = False
    seconds: tuple[str, ...] = ()


_LOADED = r"^successfully loaded '"
STAGES: dict[str, StageRule] = {
    "server banner": StageRule(r"^== Triton Inference Server ==", r"^== Triton Inference Server ==", optional=True),
    "CUDA compatibility": StageRule(
        r"^WARNING: CUDA Minor Version|CUDA Forward Compat|^WARNING: The NVIDIA Driver was not detected",
        r"Version Compatibility mode\.|CUDA Forward Compat|^WARNING: The NVIDIA Driver was not detected",
        optional=True,
    ),
    "memory pools": StageRule(r"(?:[Pp]inned|CUDA) memory pool", r"CUDA memory pool"),
    "backends": StageRule(r"^TRITONBACKEND_Initialize: |^\| Backend ", r"^\| Backend "),
    "model load": StageRule(r"^loading: ", rf"^TRITONBACKEND_ModelInstanceInitialize|{_LOADED}"),
    "vLLM backend": StageRule(
        r"^TRITONBACKEND_ModelInstanceInitialize|^Automatically detected platform",
        r"^Initializing an? (?:V\d )?LLM engine|^(?:Starting to load|Loading) model",
    ),
    "vLLM": StageRule(
        r"vLLM API server version|█  version|^Automatically detected platform|^Resolved architecture|"
        r"^Initializing an? (?:V\d )?LLM engine",
        r"^Initializing an? (?:V\d )?LLM engine|^(?:Starting to load|Loading) model",
    ),
    "weights": StageRule(
        r"^(?:Starting to load|Loading) model|^Loading \w+ checkpoint shards|^Loading weights took|^Model loading took",
        r"^Loading (?:model )?weights took|^Model loading took",
        seconds=("model_loading_seconds", "weights_seconds"),
    ),
    "compile": StageRule(
        r"cache directory: .*torch\.compile|^Dynamo bytecode|^Start compiling|^torch\.compile t|^Warming up model",
        r"^torch\.compile t|^Warming up done",
        optional=True,
        seconds=("compile_seconds",),
    ),
    "memory profile": StageRule(
        r"^the current vLLM instance can use|^Memory profiling takes|^Available KV cache memory|KV cache size: ",
        r"reserved for KV Cache is|^Available KV cache memory|KV cache size: |^# \w+ blocks|^Maximum concurrency",
    ),
    "KV cache": StageRule(
        r"^(?:Explicitly|Auto) set .* for KV cache|KV cache size: ",
        r"^(?:Explicitly|Auto) set .* for KV cache|KV cache size: ",
    ),
    "CUDA graphs": StageRule(
        r"^Capturing (?:cudagraphs|CUDA graph)",
        r"^Graph capturing finished",
        optional=True,
        seconds=("graph_capture_seconds",),
    ),
    "engine": StageRule(r"^init engine \(", r"^init engine \(", seconds=("engine_init_seconds",)),
    "models ready": StageRule(_LOADED, r"^\| .*\| READY +\||^Started \w+Service at"),
    "services": StageRule(
        r"^Started \w+(?: Service|Service) at|^(?:Starting vLLM|Uvicorn running|Started server process)|"
        r"^failed to start \w+ service",
        r"^Started (?:HTTPService|Metrics Service) at|^Application startup complete",
    ),
    "plugins": StageRule(r"^TensorRT[- ]LLM version: |^Set .*plugin to ", r"^Set \S+ to "),
    "GPU": StageRule(r"^Compute capability: ", r"^(?:SM|float16|Total Memory|Memory|NVLink|PCIe)", optional=True),
    "network": StageRule(
        r"^Total time of constructing network", r"^Total time of constructing network", seconds=("network_seconds",)
    ),
    "engine build": StageRule(
        r"^Build TensorRT engine",
        r"^Total time of building (?!all)|^Engine generation completed",
        seconds=("build_seconds", "engine_generation_seconds"),
    ),
    "serialization": StageRule(
        r"^Serializing engine to ", r"^Engine serialized\.", seconds=("serialization_seconds",)
    ),
}  # fmt: skip

_VLLM = ("weights", "compile", "memory profile", "CUDA graphs", "engine")
_VLLM_CPU = ("weights", "KV cache", "compile", "engine")
KINDS: dict[str, tuple[str, ...]] = {
    "triton-vllm": ("server banner", "CUDA compatibility", "memory pools", "model load", "vLLM backend",
                    *_VLLM, "models ready", "services"),
    "triton-vllm-cpu": ("server banner", "memory pools", "model load", "vLLM backend",
                        *_VLLM_CPU, "models ready", "services"),
    "triton-tensorrtllm": ("memory pools", "backends", "model load", "models ready", "services"),
    "triton": ("memory pools", "backends", "model load", "models ready", "services"),
    "vllm": ("vLLM", *_VLLM, "services"),
    "vllm-cpu": ("vLLM", *_VLLM_CPU, "services"),
    "trtllm-build": ("plugins", "GPU", "network", "engine build", "serialization"),
    "unknown": (),
}  # fmt: skip
"""The stages that a log of each kind ought to show, in order."""

SIGNS: tuple[tuple[str, str], ...] = (
    ("triton", r"^== Triton Inference Server ==|^\| Model +\| Version \| Status|^Started \w+InferenceService at"),
    ("vllm", r"^\| vllm +\|"),
    ("cpu", r"platform cpu|CPU KV cache size|^CUDA memory pool disabled|for KV cache on node"),
    ("tensorrt-llm", r"tensorrtllm|^\| tensorrt_llm +\|"),
    ("build", r"^Total time of (?:constructing|building)|^Build TensorRT engine|^Serializing engine to|trtllm-build"),
)
"""What a line reveals of the kind of log."""

MARKS: tuple[tuple[str, str], ...] = (
    ("ready", r"^Started (?:GRPCInference|HTTP)Service at|^Application startup complete|^Uvicorn running on"),
    ("built", r"^Engine serialized\. Total time|^Total time of building all engines"),
    ("stopped", r"^Signal \((?:2|15)\) received|^Shutting down|trigger received signal=SIG|^KeyboardInterrupt"),
    ("failed", r"^error: creating server|^failed to start \w+ service|^(?:docker: )?Error response from daemon|"
               r"^(?:\w+: )?Engine core initialization failed|EngineDeadError|^terminate called after throwing|"
               r"^Signal \((?:6|7|8|11)\) received|Segfault encountered|^Stub process .* is unhealthy"),
)  # fmt: skip
"""Lines that decide, unless a later one decides otherwise (see `Progress._decide`)."""

SERVICE = re.compile(
    r"^(?:Started (?P<name>GRPC|HTTP|Metrics)\w*(?: Service)? at |"
    r"(?:Starting vLLM .*server|Uvicorn running).* on https?://)(?P<address>[^\s/]+)"
)
LIFECYCLE = (
    ("LOADING", re.compile(r"^loading: (?P<name>.+):(?P<version>\d+)$")),
    ("READY", re.compile(r"^successfully loaded '(?P<name>[^']+)'(?: version (?P<version>\d+))?")),
    ("UNAVAILABLE", re.compile(r"^failed to load '(?P<name>[^']+)' version (?P<version>\d+): (?P<reason>.*)", re.S)),
    ("UNLOADED", re.compile(r"^successfully unloaded '(?P<name>[^']+)' version (?P<version>\d+)")),
)
EXCEPTION = re.compile(r"^(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Unavailable)\b(?:: |:?$)")
HARMLESS_TRACE = re.compile(r"^--- Logging error ---|^Exception ignored in")
ECHO = re.compile(r"Engine core initialization failed|EngineDeadError|Engine process failed to start|^SystemExit")
"""Errors that only pass on that something else failed."""

MOST_FAULTS = 500
_STAGES = [(name, re.compile(rule.opens), re.compile(rule.closes)) for name, rule in STAGES.items()]
_FIGURES = [(re.compile(pattern), unit) for pattern, unit in FIGURES]
_SIGNS = [(sign, re.compile(pattern)) for sign, pattern in SIGNS]
_MARKS = [(mark, re.compile(pattern)) for mark, pattern in MARKS]
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Stage:
    """One stage of a start or a build: status is reached, running, failed or missing (not in the log, or not yet).

    `seconds` is what the log states, else the time until the next stage began; `start` is on the container's clock
    where the log has it. `evidence` is the line that proves the status, `line` its number.
    """

    name: str
    status: str
    start: datetime | None
    seconds: float | None
    evidence: str
    line: int | None


@dataclass
class Model:
    """A model as Triton's log last spoke of it; `listed` when it stood in the table of models."""

    name: str
    version: str
    status: str
    reason: str = ""
    listed: bool = False


@dataclass(frozen=True)
class Fault:
    """A line that names an error."""

    text: str
    evidence: str
    line: int


@dataclass
class _Seen:
    opened: Event
    evidence: str
    done: Event | None = None


@dataclass
class Progress:
    """What the lines of one log have told so far. `take` each event; the rest is read off at any time."""

    facts: dict[str, Value] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    models: dict[tuple[str, str], Model] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    signs: set[str] = field(default_factory=set)
    decided: str = ""
    _stages: dict[str, _Seen] = field(default_factory=dict)
    _error_pending: bool = False
    _traces: dict[int | None, bool] = field(default_factory=dict)
    _header: tuple[str, ...] = ()
    _row: tuple[str, str] | None = None
    _last: Event | None = None
    _first_time: datetime | None = None
    _end_time: datetime | None = None
    _ready_time: datetime | None = None
    _offset: timedelta | None = None

    def take(self, event: Event, text: str) -> None:
        """Learn from one event; `text` is its line as it stands in the log."""
        self._clocks(event)
        if event.component in {"triton", "vllm", "tensorrt-llm"}:
            self.signs.add(event.component)
        message = event.message
        self.signs.update(sign for sign, pattern in _SIGNS if pattern.search(message))
        for pattern, unit in _FIGURES:
            if found := pattern.search(message):
                self._figures(found.groupdict(), unit)
        self._stage(event, text)
        self._model(message, event, text)
        if service := SERVICE.match(message):
            self.services[(service["name"] or "HTTP").lower()] = service["address"]
            self._ready_time = self._end_time
        self._trace(event, text)
        for mark, pattern in _MARKS:
            if pattern.search(message):
                self._decide(mark, event, text)

    @property
    def kind(self) -> str:
        """Which of `KINDS` this log is, by what it has shown so far."""
        signs = self.signs
        cpu = "-cpu" if "cpu" in signs else ""
        if "triton" in signs:
            if "vllm" in signs:
                return f"triton-vllm{cpu}"
            return "triton-tensorrtllm" if "tensorrt-llm" in signs else "triton"
        if "vllm" in signs:
            return f"vllm{cpu}"
        return "trtllm-build" if "build" in signs else "unknown"

    @property
    def verdict(self) -> str:
        """How it went: ready, starting, failed, stopped, built or unknown."""
        if self.decided in {"failed", "built"}:
            return self.decided
        if any(model.status == "UNAVAILABLE" for model in self.models.values()):
            return "failed"
        if self.decided:
            return self.decided
        listed = [model for model in self.models.values() if model.listed]
        if listed and all(model.status == "READY" for model in listed):
            return "ready"
        if self._error_pending:
            return "failed"
        return "starting" if self.signs or self._stages else "unknown"

    def stages(self) -> list[Stage]:
        """The stages that this kind of log ought to show, in order, each as far as it has come."""
        names = KINDS[self.kind] or tuple(self._stages)
        begun = [name for name in names if name in self._stages]
        open_last = begun[-1] if begun and not self._stages[begun[-1]].done else None
        starts = {name: self._start(name) for name in begun}
        times = sorted({time for time in starts.values() if time})
        end = self._aligned_end()
        result = []
        for name in names:
            seen = self._stages.get(name)
            if seen is None:
                if not STAGES[name].optional:
                    result.append(Stage(name, "missing", None, None, "", None))
                continue
            status = "reached"
            if name == open_last:
                status = "failed" if self.verdict == "failed" else "running"
            start = starts[name]
            seconds = self._stated(name)
            if seconds is None and start is not None:
                following = next((time for time in times if time > start), None) or end
                seconds = max((following - start).total_seconds(), 0.0) if following else None
            line = (seen.done or seen.opened).line
            result.append(Stage(name, status, start, seconds, seen.evidence, line))
        return result

    @property
    def was_ready(self) -> bool:
        """The server served at some time, whatever came after."""
        return self._ready_time is not None or "ready" in self._outcomes

    def times(self) -> dict[str, Value]:
        """The facts that clocks give: elapsed_seconds, startup_seconds, clock_offset_seconds."""
        found: dict[str, Value] = {}
        first = self._align(self._first)
        if first:
            for key, moment in (("elapsed_seconds", self._end), ("startup_seconds", self._served)):
                if (end := self._align(moment)) and end >= first:
                    found[key] = (end - first).total_seconds()
        if self._offset is not None:
            found["clock_offset_seconds"] = round(self._offset.total_seconds())
        return found
