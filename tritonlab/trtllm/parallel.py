"""How a checkpoint is split over GPUs, and which splits cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tritonlab.servers.command import Advice


def mapping(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `mapping` of a checkpoint's config.json; empty if it has none that can be read."""
    found = checkpoint.get("mapping")
    return found if isinstance(found, Mapping) else {}


def size(checkpoint: Mapping[str, Any], name: str) -> int:
    """A size of the mapping, e.g. "tp_size"; 1 without it (legacy documentation, architecture/checkpoint)."""
    return number(mapping(checkpoint), name) or 1


def number(table: Mapping[str, Any], name: str) -> int:
    """A whole number above zero; 0 if there is none."""
    value = table.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def kv_heads(checkpoint: Mapping[str, Any]) -> int:
    """The KV heads: as many as attention heads unless the config.json says otherwise; 0 if it says neither."""
    return number(checkpoint, "num_key_value_heads") or number(checkpoint, "num_attention_heads")


def check(checkpoint: Mapping[str, Any]) -> Iterator[Advice]:
    """Which of the splits that a checkpoint's config.json states cannot be.

    Tensor parallelism gives each GPU whole heads, and copies KV heads where there are fewer of them than GPUs
    (`dup_kv_weight` of the convert scripts). Pipeline parallelism gives each stage whole layers.
    """
    yield from _heads(checkpoint)
    layers, stages = number(checkpoint, "num_hidden_layers"), size(checkpoint, "pp_size")
    if layers and stages > layers:
        yield Advice(
            f"pp_size {stages}", f"The model has {layers} layers only.", "Each stage of a pipeline needs one.",
            f"Take at most {layers}.",
        )  # fmt: skip


def _heads(checkpoint: Mapping[str, Any]) -> Iterator[Advice]:
    heads, kv, tensor = number(checkpoint, "num_attention_heads"), kv_heads(checkpoint), size(checkpoint, "tp_size")
    if heads and heads % tensor:
        yield Advice(
            f"tp_size {tensor}", f"{heads} attention heads cannot be split over {tensor} GPUs.",
            "Tensor parallelism gives each GPU the same number of whole heads.", _divisors(heads),
        )  # fmt: skip
    elif kv and max(kv, tensor) % min(kv, tensor):
        yield Advice(
            f"tp_size {tensor}", f"{kv} KV heads cannot be split over {tensor} GPUs.",
            "Each GPU gets the same number of KV heads, or the same copy of one.",
            f"Take a tp_size that divides {kv}, or that {kv} divides.",
        )  # fmt: skip


def _divisors(heads: int) -> str:
    return f"Take one of {', '.join(str(n) for n in range(1, min(heads, 64) + 1) if heads % n == 0)}."
