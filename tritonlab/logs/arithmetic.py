"""Whether the figures of a log add up."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

BLOCK_TOKENS = 16
"""Tokens in a block of the KV cache on a GPU, unless `--block-size` says otherwise (vLLM's CacheConfig)."""
WEIGHT_BYTES = 2
"""Of a weight, and of a number in the KV cache, in bfloat16 and float16."""
TOLERANCE = 0.01
"""Logs round to two decimals."""

FORMULAS: tuple[tuple[str, str, Callable[..., float]], ...] = (
    ("gpu_memory_usable", "gpu_memory_total x gpu_memory_utilization", operator.mul),
    ("kv_cache", "gpu_memory_usable - weights - non_torch - activations", lambda usable, *used: usable - sum(used)),
    ("max_concurrency", "kv_cache_tokens / concurrency_tokens", operator.truediv),
    ("weights", "parameters x bytes_per_weight", operator.mul),
    ("kv_cache", "kv_cache_tokens x kv_bytes_per_token", operator.mul),
)
"""A figure, how it follows from others, and the same to compute; the names are keys of FACTS, MEMORY or a shape's."""


class Shape(Protocol):
    """What is asked of a model's shape; `tritonlab.vllm.ModelShape` is one."""

    def parameters(self) -> int:
        """The number of weights."""

    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache for a token, at two bytes a number."""


class Check(NamedTuple):
    """A figure that a log states, beside the same as others give it; sizes are in bytes."""

    figure: str
    stated: float
    computed: float
    formula: str
    agrees: bool


def checks(figures: Mapping[str, Any], shape: Shape | None = None) -> list[Check]:
    """Each figure that follows from others of the same log, or from the model's shape, if that is given."""
    known = dict(figures)
    if "kv_cache_gpu_blocks" in known:
        known.setdefault("kv_cache_tokens", known["kv_cache_gpu_blocks"] * known.get("tokens_per_block", BLOCK_TOKENS))
    if shape is not None:
        known |= {
            "parameters": shape.parameters(),
            "bytes_per_weight": WEIGHT_BYTES,
            "kv_bytes_per_token": shape.kv_bytes_per_token(),
        }
    found = []
    for figure, formula, compute in FORMULAS:
        parts = re.split(" [x/-] ", formula)
        if {figure, *parts} <= known.keys() and all(known[part] for part in parts[1:]):
            stated, computed = known[figure], compute(*(known[part] for part in parts))
            agrees = abs(stated - computed) <= TOLERANCE * max(abs(stated), abs(computed))
            found.append(Check(figure, stated, computed, formula, agrees))
    return found
