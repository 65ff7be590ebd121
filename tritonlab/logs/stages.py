"""What a log tells beside its events: stages, figures, models, services, faults and the verdict.

All knowledge of wording stands in the tables: `STAGES`, `KINDS`, `FIGURES`, `MARKS` and `SIGNS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
    "checkpoint_size": ("bytes", "size of the weights on disk"),
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
    (rf"Checkpoint size: (?P<checkpoint_size>{_SIZE})", ""),
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
    (
        "triton",
        r"^== Triton Inference Server ==|^\| Model +\| Version \| Status|^Started \w+InferenceService at",
    ),
    ("vllm", r"^\| vllm +\|"),
    ("cpu", r"platform cpu|CPU KV cache size|^CUDA memory pool disabled|for KV cache on node"),
    ("tensorrt-llm", r"tensorrtllm|^\| tensorrt_llm +\|"),
    (
        "build",
        r"^Total time of (?:constructing|building)|^Build TensorRT engine|^Serializing engine to|trtllm-build",
    ),
)
"""What a line reveals of the kind of log."""

MARKS: tuple[tuple[str, str], ...] = (
    ("ready", r"^Started (?:GRPCInference|HTTP)Service at|^Application startup complete|^Uvicorn running on"),
    ("built", r"^Engine serialized\. Total time|^Total time of building all engines"),
    ("stopped", r"^Signal \((?:2|15)\) received|^Shutting down|trigger received signal=SIG|^KeyboardInterrupt"),
    ("fault", r"^Poll failed for model directory|^Failed to initialize Python stub|^EngineCore failed to start"),
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
    (
        "UNAVAILABLE",
        re.compile(r"^failed to load '(?P<name>[^']+)' version (?P<version>\d+): (?P<reason>.*)", re.S),
    ),
    ("UNLOADED", re.compile(r"^successfully unloaded '(?P<name>[^']+)' version (?P<version>\d+)")),
)
EXCEPTION = re.compile(r"^(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Unavailable)\b(?:: |:?$)")
HARMLESS_TRACE = re.compile(r"^--- Logging error ---|^Exception ignored in")
ECHO = re.compile(
    r"Engine core initialization failed|EngineDeadError|Engine process failed to start|^SystemExit"
)
"""Errors that only pass on that something else failed."""

UNLOADED = "unloaded"
COMPONENTS = {"triton", "vllm", "tensorrt-llm"}
MOST_FAULTS, MOST_CHARACTERS = 500, 2000
"""What is kept of errors (and models), whatever the log holds."""
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
    """A model as Triton's log last spoke of it; `listed` when it stood in Triton's table of models."""

    name: str
    version: str
    status: str
    reason: str = ""
    listed: bool = False

    @property
    def failed(self) -> bool:
        """It could not be loaded, or broke; a model that was unloaded did not fail."""
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


@dataclass
class Progress:
    """What the lines of one log have told so far: `take` each event, and read the rest off at any time."""

    facts: dict[str, Value] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    models: dict[tuple[str, str], Model] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    was_ready: bool = False
    _outcome: str = ""
    _error_last: bool = False
    _signs: set[str] = field(default_factory=set)
    _stages: dict[str, _Seen] = field(default_factory=dict)
    _traces: dict[int | None, bool] = field(default_factory=dict)
    _columns: list[str] = field(default_factory=list)
    _row: tuple[str, str] = ("", "")
    # Events that bear a time: the first, the last, and the one at which a service came up.
    _first: Event | None = None
    _now: Event | None = None
    _served: Event | None = None
    _offset: timedelta | None = None

    def take(self, event: Event, text: str) -> None:
        """Learn from one event; `text` is its line as it stands in the log."""
        self._clocks(event)
        message = event.message
        if event.component in COMPONENTS:
            self._signs.add(event.component)
        self._signs.update(sign for sign, pattern in _SIGNS if pattern.search(message))
        for pattern, unit in _FIGURES:
            if found := pattern.search(message):
                self._figures(found.groupdict(), unit)
        self._stage(message, event.line, text)
        self._table(message, event.line, text)
        self._lifecycle(event, text)
        self._trace(event, text)
        for mark, pattern in _MARKS:
            if pattern.search(message):
                self._decide(mark, event, text)

    @property
    def kind(self) -> str:
        """Which of `KINDS` this log is, by what it has shown so far."""
        signs = self._signs
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
        if self._outcome == "failed" or any(model.failed for model in self.models.values()):
            return "failed"
        if self._outcome:
            return self._outcome
        listed = [model for model in self.models.values() if model.listed]
        if listed and all(model.status == "READY" for model in listed):
            return "ready"
        if self._error_last:
            return "failed"
        return "starting" if self.kind != "unknown" or self._stages else "unknown"

    def stages(self) -> list[Stage]:
        """The stages that this kind of log ought to show, in order, each as far as it has come."""
        names = KINDS[self.kind] or tuple(self._stages)
        begun = [name for name in names if name in self._stages]
        starts = {name: start for name in begun if (start := self._start(name))}
        at_work = begun[-1] if begun and not self._stages[begun[-1]].done else None
        stages = []
        for name in names:
            if seen := self._stages.get(name):
                status = "reached"
                if name == at_work:
                    status = "failed" if self.verdict == "failed" else "running"
                seconds = self._stated(name)
                if seconds is None:
                    seconds = self._until_next(name, starts, names)
                stages.append(Stage(name, status, starts.get(name), seconds, seen.evidence, seen.line))
            elif not STAGES[name].optional:
                stages.append(Stage(name, "missing", None, None, "", None))
        return stages

    def clock_facts(self) -> dict[str, Value]:
        """The facts that the clocks tell: elapsed_seconds, startup_seconds, clock_offset_seconds."""
        facts: dict[str, Value] = {}
        for key, event in (("elapsed_seconds", self._now), ("startup_seconds", self._served)):
            seconds = _between(self._aligned(self._first), self._aligned(event))
            if seconds is not None and seconds >= 0:
                facts[key] = round(seconds, 6)
        if self._offset is not None:
            facts["clock_offset_seconds"] = round(self._offset.total_seconds())
        return facts

    def _clocks(self, event: Event) -> None:
        if event.time is None:
            return
        self._first = self._first or event
        self._now = event
        if event.docker_time and event.clock == "container":
            # Docker stamps a line after it was written: the least difference is nearest to that of the clocks.
            apart = event.docker_time - event.time
            self._offset = apart if self._offset is None else min(self._offset, apart)

    def _aligned(self, event: Event | None) -> datetime | None:
        """The event's time on the container's clock; on docker's, if the log has no other."""
        if event is None:
            return None
        if event.docker_time and self._offset is not None:
            try:
                return event.docker_time - timedelta(seconds=round(self._offset.total_seconds()))
            except OverflowError:
                return None
        return event.time

    def _figures(self, groups: dict[str, str | None], unit: str) -> None:
        for key, text in groups.items():
            target: dict[str, Any] = self.memory if key in MEMORY else self.facts
            if text is None or key in target:
                continue
            with suppress(ValueError, OverflowError):
                target[key] = _READ[FACTS[key][0] if key in FACTS else "bytes"](text + unit)

    def _stage(self, message: str, line: int, text: str) -> None:
        for name, opens, closes in _STAGES:
            seen = self._stages.get(name)
            if seen is None and opens.search(message):
                seen = self._stages[name] = _Seen(self._now, text, line)
                self._error_last = False
            if seen and closes.search(message):
                if not seen.done:
                    self._error_last = False
                seen.done, seen.evidence, seen.line = self._now, text, line

    def _start(self, name: str) -> datetime | None:
        seen, stated = self._stages[name], self._stated(name)
        done = self._aligned(seen.done)
        if stated is not None and done:
            with suppress(OverflowError):
                return done - timedelta(seconds=stated)
        return self._aligned(seen.opened)

    def _stated(self, name: str) -> float | None:
        stated = [self.facts[key] for key in STAGES[name].seconds if key in self.facts]
        return stated[0] if stated and isinstance(stated[0], float) else None

    def _until_next(self, name: str, starts: dict[str, datetime], names: tuple[str, ...]) -> float | None:
        """The time to the stage that began next, to this one's last line if it was the last."""
        start = starts.get(name)
        if start is None:
            return None
        order = names.index(name)
        later = [
            other
            for place, other in ((names.index(key), time) for key, time in starts.items())
            if other > start or (other == start and place > order)
        ]
        end = min(later) if later else self._aligned(self._stages[name].done or self._now)
        return max(_between(start, end) or 0.0, 0.0)

    def _table(self, message: str, line: int, text: str) -> None:
        """Read a row of Triton's tables; only the one of models says more than FIGURES take."""
        if not message.startswith("|"):
            if not message.startswith("+-"):
                self._columns = []
            return
        cells = [cell.strip() for cell in message.strip("|").split("|", 2)]
        if not self._columns:
            self._columns = cells
        elif self._columns == ["Model", "Version", "Status"] and len(cells) == len(self._columns):
            name, version, status = cells
            word, _, reason = status.partition(": ")
            if name:
                self._row = (name, version)
                known = self.models.get(self._row)
                if known and known.failed and word == "UNAVAILABLE":
                    known.listed = True
                    self._row = ("", "")
                else:
                    self._model(Model(name, version, word, reason, listed=True), line, text)
            elif status and self._row in self.models:
                self.models[self._row].reason += f" {status}"
            else:
                self._row = ("", "")

    def _lifecycle(self, event: Event, text: str) -> None:
        for status, pattern in LIFECYCLE:
            if found := pattern.match(event.message):
                fields = found.groupdict()
                same = [version for name, version in self.models if name == fields["name"]]
                for version in [fields.get("version")] if fields.get("version") else same or [""]:
                    reason = (fields.get("reason") or "").split("\n")[0].split("\\n")[0]
                    state, reason = ("UNAVAILABLE", UNLOADED) if status == "UNLOADED" else (status, reason)
                    self._model(Model(fields["name"], version or "", state, reason), event.line, text)
        if service := SERVICE.match(event.message):
            self.services[(service["name"] or "HTTP").lower()] = service["address"]
            self._served = self._now

    def _model(self, model: Model, line: int, text: str) -> None:
        if len(self.models) < MOST_FAULTS or (model.name, model.version) in self.models:
            self.models[model.name, model.version] = model
        if model.failed:
            self._fault(model.reason, text, line)

    def _trace(self, event: Event, text: str) -> None:
        """Note the exception that a traceback ends with, or that stands alone."""
        message = event.message
        if HARMLESS_TRACE.match(message):
            self._traces[event.pid] = True
        elif event.level in {None, "ERROR", "FATAL"} and EXCEPTION.match(message):
            if not self._traces.pop(event.pid, False):
                self._fault(message, text, event.line)
        elif event.level in {"ERROR", "FATAL"} and event.component in {"tensorrt", "tensorrt-llm"}:
            self._fault(message, text, event.line)

    def _decide(self, mark: str, event: Event, text: str) -> None:
        ended = self._outcome == "stopped" and self.was_ready
        if mark == "ready":
            self.was_ready, self._outcome = True, mark
            self._served = self._now
        elif mark == "built":
            self._outcome = mark
        elif mark == "stopped" and self._outcome != "failed":
            self._outcome = mark
        elif mark == "failed" and not ended:
            # What goes wrong while a server shuts down on request did not make it fail.
            self._outcome = mark
        if mark in {"failed", "fault"} and not ended:
            self._fault(event.message.split("\n")[0], text, event.line)

    def _fault(self, fault: str, text: str, line: int) -> None:
        self._error_last = True
        if len(self.faults) < MOST_FAULTS or ECHO.search(fault):
            self.faults.setdefault(fault[:MOST_CHARACTERS], Fault(fault, text, line))


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"(-?[\d.]+) ?([KMG]?i?B?)", text).groups()  # type: ignore[union-attr]
    return round(float(number) * _UNITS[unit])


def _seconds(text: str) -> float:
    return sum(float(part) * 60**place for place, part in enumerate(reversed(text.split(":"))))


_READ: dict[str, Callable[[str], Value]] = {
    "text": str.strip,
    "bytes": _bytes,
    "seconds": _seconds,
    "count": lambda text: int(text.replace(",", "")),
    "number": float,
    "numbers": lambda text: tuple(int(part) for part in text.split(",")),
}
