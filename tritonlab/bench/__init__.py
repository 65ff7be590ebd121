"""Measure a model on a server under load, with NVIDIA's AIPerf."""

from tritonlab.bench.benchmark import Benchmark, bench
from tritonlab.bench.comparison import Comparison, compare

__all__ = ["Benchmark", "Comparison", "bench", "compare"]
