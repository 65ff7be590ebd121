"""Will it fit? What a model takes of a GPU's memory, under vLLM and under TensorRT-LLM, before anything is downloaded.

    shape = ModelShape.of(json.loads(Path("config.json").read_text()))
    fit = fit_vllm(shape, gpu_memory=16 * GIB)
    fit.longest, fit.concurrent(4096)     # tokens, requests
    fit.figure()

Weights and KV cache follow from the model's shape. What a step computes with does not: the activations are a figure to
be read from a log, and the default is the one of a recorded start of a model of 1.2 billion parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tritonlab.errors import TritonlabError
from tritonlab.vllm import DTYPE_BYTES, ModelShape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIB = 1 << 30
# vLLM 0.9 with Llama 3.2 1B on 16 GiB: "non_torch_memory takes 0.03GiB; PyTorch activation peak memory takes 1.18GiB",
# "Graph capturing finished in 9 secs, took 0.16 GiB" (data/logs/triton-vllm-ready.log).
ACTIVATIONS = int(1.18 * GIB)
OTHER = int(0.03 * GIB)
GRAPHS = int(0.16 * GIB)
WEIGHT_BITS = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.25}
"""Bits of a weight; int4 comes with a scale of 16 bits, and about as much for zero points, for each 128."""
KEPT_WIDE = 16.0  # embeddings, the head and the norms are not quantized


class Answer(NamedTuple):
    """Whether a plan works out, and a sentence that says why."""

    fits: bool
    text: str


@dataclass(frozen=True)
class Fit:
    """How one GPU's memory is split; sizes in bytes.

    Attributes:
        backend: "vllm" or "tensorrtllm".
        gpu_memory: what the GPU has.
        weights, activations, other, graphs, kv_cache: what takes it; `other` are the CUDA context and libraries.
        kv_bytes_per_token: what a token takes of the KV cache on this GPU.
        block: tokens in a block of the KV cache.
        max_positions: the longest text that the model was made for; 0 if that is not known.
    """

    backend: str
    gpu_memory: int
    weights: int
    activations: int
    other: int
    graphs: int
    kv_cache: int
    kv_bytes_per_token: int
    block: int
    max_positions: int = 0

    @property
    def fits(self) -> bool:
        """Whether the model runs at all: something is left for the KV cache."""
        return self.tokens > 0

    @property
    def tokens(self) -> int:
        """Tokens that the KV cache holds, in whole blocks."""
        return max(self.kv_cache, 0) // (self.kv_bytes_per_token * self.block) * self.block

    @property
    def longest(self) -> int:
        """The longest text, prompt and answer together, that memory and model allow one request, in tokens.

        TensorRT-LLM refuses a prompt beyond max_num_tokens of the build, unless it has enable_chunked_context.
        """
        return min(self.tokens, self.max_positions or self.tokens)

    def concurrent(self, length: int) -> int:
        """How many requests of that many tokens the KV cache holds at once.

        Raises:
            TritonlabError: the length is no number of tokens.
        """
        if length < 1:
            raise TritonlabError(f"{length} is no length of a text.", "Give a number of tokens, e.g. 4096.")
        return self.tokens // (math.ceil(length / self.block) * self.block)

    def answer(self, length: int, requests: int) -> Answer:
        """Whether so many requests of so many tokens, prompt and answer together, have room at once.

        Raises:
            TritonlabError: the length is no number of tokens.
        """
        most, left = self.concurrent(length), self.parts()["left"]
        missing = max(-self.kv_cache, -left, 0)
        if missing:
            own = "in its share of the memory, before any KV cache" if self.backend == "vllm" else "before any KV cache"
            what = own if self.kv_cache < 0 else "for what comes on top of the share"
            return Answer(False, f"It does not fit: {missing / GIB:.2f} GiB are missing, {what}.")
        if not self.fits:
            return Answer(False, f"It does not fit: what is left holds no block of {self.block} tokens of KV cache.")
        if length > self.longest:
            why = "the model was made for" if self.longest < self.tokens else "the KV cache has room for"
            return Answer(False, f"Too long: you ask for {length:,} tokens a request, and {why} {self.longest:,}.")
        room = f"{most:,} {'request' if most == 1 else 'requests'} of {length:,} tokens at once"
        if most < requests:
            return Answer(False, f"It starts, but has room for {room}, and you ask for {requests:,}: the rest wait.")
        return Answer(True, f"It fits: room for {room}, and you ask for {requests:,}.")

    def parts(self) -> dict[str, int]:
        """What takes the memory, in the order in which it is taken, and what is left."""
        taken = {
            "weights": self.weights,
            "activations": self.activations,
            "other": self.other,
            "KV cache": max(self.kv_cache, 0),
            "CUDA graphs": self.graphs,
        }
        return {**taken, "left": self.gpu_memory - sum(taken.values())}

    def figure(self) -> Figure:
        """The split as a picture; what is missing stands on the other side of zero."""
        from matplotlib import pyplot as plt

        parts = [(name if size > 0 else "missing", size / GIB) for name, size in self.parts().items() if size]
        figure: Figure
        figure, axes = plt.subplots(figsize=(9, 1.2 + 0.36 * len(parts)), layout="constrained")
        colors = {"KV cache": "#e0a030", "left": "#9aa5b1", "missing": "#c0392b"}
        at = 0.0
        for row, (name, size) in enumerate(parts):
            axes.barh(row, size, left=at, color=colors.get(name, "#3b82c4"), height=0.6)
            at += size
            axes.annotate(
                f"{abs(size):.2f} GiB", (max(at, at - size), row), (5, 0), textcoords="offset points", va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        axes.axvline(self.gpu_memory / GIB, color="#c0392b", linewidth=1)
        axes.set_yticks(range(len(parts)), [name for name, _ in parts])
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("GiB")
        axes.set_title(f"{self.backend} on {self.gpu_memory / GIB:.0f} GiB", loc="left")
        plt.close(figure)
        return figure

    def __repr__(self) -> str:
        lines = [f"{name:12} {size / GIB:8.2f} GiB" for name, size in self.parts().items() if size]
        verdict = (
            f"{self.tokens:,} tokens of KV cache, {self.longest:,} in one request" if self.fits else "does not fit"
        )
        return "\n".join([f"{self.backend} on {self.gpu_memory / GIB:.2f} GiB: {verdict}", *lines])


def fit_vllm(
    shape: ModelShape,
    gpu_memory: int,
    *,
    gpu_memory_utilization: float = 0.9,
    weights: str = "bfloat16",
    kv_cache: str = "bfloat16",
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    activations: int = ACTIVATIONS,
    other: int = OTHER,
    graphs: int = GRAPHS,
    block: int = 16,
    max_positions: int = 0,
) -> Fit:
    """How vLLM splits a GPU: it takes a share of all the memory, and what is left of that becomes KV cache.

    KV cache = gpu_memory x gpu_memory_utilization - weights - activations - other (vLLM 0.9, v1/worker/gpu_worker.py);
    CUDA graphs come on top, out of the rest.

    Args:
        shape: the model's.
        gpu_memory: bytes of one GPU.
        weights: a key of WEIGHT_BITS.
        kv_cache: data type of the KV cache: "bfloat16" or "fp8", say.
        tensor_parallel, pipeline_parallel: over how many GPUs each layer, and the layers, are split.
        activations, other, graphs: bytes, as a log of such a start says.
        block: tokens in a block.
        max_positions: max_position_embeddings of the model.

    Raises:
        TritonlabError: a data type or a number is none.
    """
    _check(gpu_memory, gpu_memory_utilization, tensor_parallel, pipeline_parallel)
    held = weight_bytes(shape, weights) // (tensor_parallel * pipeline_parallel)
    rest = int(gpu_memory * gpu_memory_utilization) - held - activations - other
    per_token = kv_bytes(shape, kv_cache, tensor_parallel, pipeline_parallel)
    return Fit("vllm", gpu_memory, held, activations, other, graphs, rest, per_token, block, max_positions)


def fit_tensorrt_llm(
    shape: ModelShape,
    gpu_memory: int,
    *,
    kv_cache_free_gpu_mem_fraction: float = 0.9,
    weights: str = "bfloat16",
    kv_cache: str = "bfloat16",
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    activations: int = ACTIVATIONS,
    other: int = OTHER,
    block: int = 32,
    max_positions: int = 0,
) -> Fit:
    """How TensorRT-LLM splits a GPU: weights and buffers first, then a share of what is free becomes KV cache.

    KV cache = (gpu_memory - weights - activations - other) x kv_cache_free_gpu_mem_fraction (TensorRT-LLM's
    reference/memory). The fraction is one of what is free, vLLM's one of all. A head that is tied to the embedding is
    counted: conversion writes it out (models' convert.py near 0.20), and an engine of 0.20.0 held it, 326,085,504 bytes
    of weights in float16 for the shape of GPT-2 and its 124 million. Of several GPUs the fullest is told: the embedding
    lies on it whole, since --use_parallel_embedding of the conversion is off unless it is asked for.

    Args:
        shape, gpu_memory, weights, kv_cache, tensor_parallel, pipeline_parallel, max_positions: as for `fit_vllm`.
        activations: bytes of activations, execution context and buffers; max_num_tokens of the build sizes them.
        other: bytes of the CUDA context and libraries.
        block: tokens_per_block of the build.

    Raises:
        TritonlabError: a data type or a number is none.
    """
    _check(gpu_memory, kv_cache_free_gpu_mem_fraction, tensor_parallel, pipeline_parallel)
    whole = weight_bytes(replace(shape, tied_embeddings=False), weights)
    embedding = int(shape.vocabulary * shape.hidden * max(WEIGHT_BITS[weights], KEPT_WIDE) / 8)
    held = embedding + (whole - embedding) // (tensor_parallel * pipeline_parallel)
    rest = int((gpu_memory - held - activations - other) * kv_cache_free_gpu_mem_fraction)
    per_token = kv_bytes(shape, kv_cache, tensor_parallel, pipeline_parallel)
    return Fit("tensorrtllm", gpu_memory, held, activations, other, 0, rest, per_token, block, max_positions)


def weight_bytes(shape: ModelShape, dtype: str = "bfloat16") -> int:
    """Bytes of all weights; a quantization narrows the layers' matrices alone.

    Raises:
        TritonlabError: the data type is unknown.
    """
    if dtype not in WEIGHT_BITS:
        raise TritonlabError(f"There are no weights of {dtype!r} here.", f"There are {', '.join(WEIGHT_BITS)}.")
    bits = WEIGHT_BITS[dtype]
    matrices = shape.matrices()
    return int((matrices * bits + (shape.parameters() - matrices) * max(bits, KEPT_WIDE)) / 8)


def kv_bytes(shape: ModelShape, dtype: str = "bfloat16", tensor_parallel: int = 1, pipeline_parallel: int = 1) -> int:
    """Bytes of KV cache for a token on one GPU: keys and values of its layers and its KV heads.

    2 x layers x KV heads x head size x bytes; KV heads are split, and copied where there are fewer of them than GPUs
    (TensorRT-LLM, kvCacheManager).

    Raises:
        TritonlabError: the data type is unknown.
    """
    if dtype not in DTYPE_BYTES:
        raise TritonlabError(f"There is no KV cache of {dtype!r} here.", f"There are {', '.join(DTYPE_BYTES)}.")
    layers = math.ceil(shape.layers / pipeline_parallel)
    heads = max(1, math.ceil(shape.kv_heads / tensor_parallel))
    return 2 * layers * heads * shape.head_size * DTYPE_BYTES[dtype]


def _check(gpu_memory: int, fraction: float, tensor_parallel: int, pipeline_parallel: int) -> None:
    if not 0 < fraction <= 1:
        raise TritonlabError(f"A share of {fraction} is none.", "Give a number above 0 and up to 1, e.g. 0.9.")
    if min(gpu_memory, tensor_parallel, pipeline_parallel) < 1:
        raise TritonlabError("Memory and numbers of GPUs are counted from 1 up.", "Give memory in bytes: 16 * 2**30.")
