"""Quantizations by TensorRT-LLM's own names, `quant_algo`, and the GPUs that compute them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tritonlab.servers.command import Advice

DTYPES = {"float16": 16, "bfloat16": 16, "float32": 32}
"""Data types of a checkpoint, with bits."""
ALGORITHMS = (
    "W8A16", "W4A16", "W4A16_AWQ", "W4A8_AWQ", "W4A16_GPTQ", "W8A16_GPTQ",
    "W8A8_SQ_PER_CHANNEL", "W8A8_SQ_PER_TENSOR_PLUGIN", "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN",
    "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN", "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN",
    "W4A8_QSERVE_PER_GROUP", "W4A8_QSERVE_PER_CHANNEL",
    "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_BLOCK_SCALES", "NVFP4", "MIXED_PRECISION", "NO_QUANT",
)  # fmt: skip
"""What `quant_algo` can be (TensorRT-LLM near 0.20, quantization/mode.py; INT8 is one of a KV cache alone)."""
KV_ALGORITHMS = ("FP8", "INT8", "NVFP4")
"""What `kv_cache_quant_algo` can be (the same file; the legacy documentation names the first two)."""
LEAST_CAPABILITY = {
    "NVFP4": (10, 0),
    "FP8": (8, 9),
    "W4A8": (8, 9),
    "W4A16": (8, 0),
    "W8A16": (7, 0),
    "W8A8_SQ": (7, 0),
    "INT8": (7, 0),
}
"""quant_algo begins so -> the least compute capability; TensorRT-LLM's legacy support matrix and precision page."""
BFLOAT16_CAPABILITY = (8, 0)
# No INT8 and INT4 kernels there in TensorRT-LLM 0.20.
WITHOUT_INTEGERS = ((10, 0), (12, 0))
INTEGERS = ("W8A", "W4A16", "INT8")
GENERATIONS = {
    (7, 0): "Volta",
    (7, 5): "Turing",
    (8, 0): "Ampere",
    (8, 9): "Ada Lovelace",
    (9, 0): "Hopper",
    (10, 0): "Blackwell",
}


def algorithm(checkpoint: Mapping[str, Any], field: str = "quant_algo") -> str:
    """The `quant_algo` or `kv_cache_quant_algo` of a checkpoint's config.json; "" for none."""
    quantization = checkpoint.get("quantization")
    return str(quantization.get(field) or "") if isinstance(quantization, Mapping) else ""


def least_capability(quant_algo: str) -> tuple[int, int]:
    """The least compute capability that computes a quantization; (0, 0) where none is known."""
    return next((least for start, least in LEAST_CAPABILITY.items() if quant_algo.startswith(start)), (0, 0))


def weight_bits(quant_algo: str, dtype: str) -> int:
    """Bits of a weight in the layers' matrices, at the least; 0 where that is not known."""
    if quant_algo.startswith(("W4", "NVFP4", "MIXED_PRECISION")):
        return 4
    if quant_algo.startswith(("W8", "FP8")):
        return 8
    return DTYPES.get(dtype, 0) if quant_algo in ("", "NO_QUANT") else 0


def is_refused(quant_algo: str, capability: tuple[int, int]) -> bool:
    """Whether TensorRT-LLM 0.20 refuses a quantization on GPUs that are new enough for it otherwise."""
    first, after = WITHOUT_INTEGERS
    return first <= capability < after and quant_algo.startswith(INTEGERS)


def generation(capability: tuple[int, int]) -> str:
    """A compute capability with its generation: "8.9, Ada Lovelace"."""
    names = [name for least, name in GENERATIONS.items() if least <= capability]
    return f"{written(capability)}, {names[-1]}" if names else written(capability)


def written(capability: tuple[int, int]) -> str:
    """A compute capability as NVIDIA writes it: "8.9"."""
    return ".".join(map(str, capability))


def on_gpu(checkpoint: Mapping[str, Any], capability: tuple[int, int] | None) -> Iterator[Advice]:
    """What of a checkpoint a GPU cannot compute.

    Args:
        checkpoint: the content of the checkpoint's config.json.
        capability: the GPU's compute capability, such as (8, 9); None if it is not known.
    """
    if capability is None or not checkpoint:
        return
    weights, name = algorithm(checkpoint), written(capability)
    if checkpoint.get("dtype") == "bfloat16" and capability < BFLOAT16_CAPABILITY:
        yield Advice(
            "dtype bfloat16", f"A GPU of compute capability {name} has no bfloat16.", "Ampere, 8.0, was the first.",
            "convert_checkpoint.py --dtype float16",
        )  # fmt: skip
    yield from _too_old("quant_algo", weights, capability, "Choose another quantization, or another GPU.")
    yield from _too_old(
        "kv_cache_quant_algo", algorithm(checkpoint, "kv_cache_quant_algo"), capability,
        "Leave the KV cache unquantized, or choose another GPU.",
    )  # fmt: skip
    if is_refused(weights, capability):
        yield Advice(
            f"quant_algo {weights}", f"TensorRT-LLM 0.20 refuses it on compute capability {name}.",
            "It has no INT8 and INT4 kernels for that generation.", "FP8 or NVFP4.",
        )  # fmt: skip


def _too_old(field: str, quant_algo: str, capability: tuple[int, int], fix: str) -> Iterator[Advice]:
    least = least_capability(quant_algo)
    if capability < least:
        yield Advice(
            f"{field} {quant_algo}", f"A GPU of compute capability {written(capability)} cannot compute it.",
            f"It begins with {written(least)}.", fix,
        )  # fmt: skip
