"""What a server's metrics page says about its work, as a handful of figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tritonlab.memory import GIB

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Figures:
    """The figures at one moment, of all models together; None for what the server does not report.

    Attributes:
        succeeded, failed: requests that Triton counted since the models were loaded.
        running, waiting: requests that the engine works on, and that wait for room in a batch.
        prompt_tokens, generated_tokens: since the models were loaded.
        first_token_s, latency_s: means over all requests: to the first token, and to the last.
        queue_s: the mean wait in Triton's own queue.
        kv_cache: the share of the KV cache in use; 1 is all of it.
        gpu_memory, gpu_memory_total, host_memory, host_memory_total: bytes in use, and that there are.
    """

    succeeded: float | None = None
    failed: float | None = None
    running: float | None = None
    waiting: float | None = None
    prompt_tokens: float | None = None
    generated_tokens: float | None = None
    first_token_s: float | None = None
    latency_s: float | None = None
    queue_s: float | None = None
    kv_cache: float | None = None
    gpu_memory: float | None = None
    gpu_memory_total: float | None = None
    host_memory: float | None = None
    host_memory_total: float | None = None

    @classmethod
    def of(cls, metrics: pd.DataFrame) -> Self:
        """The figures of a metrics page, as `client.metrics()` gives it."""
        sums: Any = metrics.groupby("name").value.sum()
        most: Any = metrics.groupby("name").value.max()

        def mean(name: str) -> float | None:
            count = sums.get(f"{name}_count")
            return sums[f"{name}_sum"] / count if count else None

        executed = sums.get("nv_inference_count")
        return cls(
            succeeded=sums.get("nv_inference_request_success"),
            failed=sums.get("nv_inference_request_failure"),
            running=sums.get("vllm:num_requests_running"),
            waiting=sums.get("vllm:num_requests_waiting"),
            prompt_tokens=sums.get("vllm:prompt_tokens_total"),
            generated_tokens=sums.get("vllm:generation_tokens_total"),
            first_token_s=mean("vllm:time_to_first_token_seconds"),
            latency_s=mean("vllm:e2e_request_latency_seconds"),
            queue_s=sums.get("nv_inference_queue_duration_us", 0) / executed / 1e6 if executed else None,
            kv_cache=most.get("vllm:kv_cache_usage_perc"),
            gpu_memory=sums.get("nv_gpu_memory_used_bytes"),
            gpu_memory_total=sums.get("nv_gpu_memory_total_bytes"),
            host_memory=most.get("nv_cpu_memory_used_bytes"),
            host_memory_total=most.get("nv_cpu_memory_total_bytes"),
        )

    def told(self) -> list[tuple[str, str]]:
        """Name and value of each figure that the server reports, in words."""
        rows = [
            ("requests answered", _count(self.succeeded)),
            ("requests failed", _count(self.failed)),
            ("running now", _count(self.running)),
            ("waiting in the engine", _count(self.waiting)),
            ("tokens read", _count(self.prompt_tokens)),
            ("tokens generated", _count(self.generated_tokens)),
            ("time to first token, mean", _seconds(self.first_token_s)),
            ("latency, mean", _seconds(self.latency_s)),
            ("in Triton's queue, mean", _seconds(self.queue_s)),
            ("KV cache in use", "" if self.kv_cache is None else f"{self.kv_cache:.1%}"),
            ("GPU memory in use", _memory(self.gpu_memory, self.gpu_memory_total)),
            ("host memory in use", _memory(self.host_memory, self.host_memory_total)),
        ]
        return [(name, value) for name, value in rows if value]


def _count(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _memory(used: float | None, total: float | None) -> str:
    if used is None:
        return ""
    return f"{used / GIB:.1f} GiB" + (f" of {total / GIB:.1f} GiB" if total else "")
