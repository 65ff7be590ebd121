"""The arithmetic of memory, against what logs and documents state."""

from __future__ import annotations

from typing import Any

import pytest

from tritonlab.errors import TritonlabError
from tritonlab.memory import GIB, Fit, fit_tensorrt_llm, fit_vllm, kv_bytes, weight_bytes
from tritonlab.vllm import ModelShape

LLAMA_3_2_1B = ModelShape(16, 2048, 32, 8, 64, 8192, 128_256, tied_embeddings=True)
LLAMA_3_1_8B = ModelShape(32, 4096, 32, 8, 128, 14_336, 128_256, tied_embeddings=False)
LLAMA_2_7B = ModelShape(32, 4096, 32, 32, 128, 11_008, 32_000, tied_embeddings=False)
QWEN_2_5_1_5B = ModelShape(28, 1536, 12, 2, 128, 8960, 151_936, tied_embeddings=True)
TINY_LLAMA = ModelShape(22, 2048, 32, 4, 64, 5632, 32_000, tied_embeddings=False)


def test_recorded_start_of_vllm() -> None:
    """Llama 3.2 1B on 16 GiB: 2.32 GiB of weights, 10.86 GiB of KV cache, 356,016 tokens (triton-vllm-ready.log)."""
    fit = fit_vllm(LLAMA_3_2_1B, 16 * GIB, max_positions=131_072)
    assert fit.weights / GIB == pytest.approx(2.32, rel=0.01)
    assert fit.kv_cache / GIB == pytest.approx(10.86, rel=0.005)
    assert fit.tokens == pytest.approx(356_016, rel=0.005)
    assert fit.kv_bytes_per_token == 32 * 1024
    assert (fit.longest, fit.concurrent(131_072)) == (131_072, 2)
    assert sum(fit.parts().values()) == 16 * GIB


@pytest.mark.parametrize(
    ("shape", "size"),
    [(LLAMA_3_1_8B, 131_072), (LLAMA_2_7B, 524_288), (QWEN_2_5_1_5B, 28_672), (TINY_LLAMA, 22_528)],
)
def test_bytes_of_a_token(shape: ModelShape, size: int) -> None:
    assert kv_bytes(shape) == size
    assert kv_bytes(shape, "fp8") == size // 2


def test_bytes_of_a_token_when_heads_are_fewer_than_gpus() -> None:
    assert kv_bytes(QWEN_2_5_1_5B, tensor_parallel=2) == 28_672 // 2
    assert kv_bytes(QWEN_2_5_1_5B, tensor_parallel=4) == 28_672 // 2
    assert kv_bytes(QWEN_2_5_1_5B, pipeline_parallel=4) == 28_672 // 4


def test_official_sample_of_tensorrt_llm() -> None:
    """70.48 GiB are free, 0.9 of it is KV cache: 259,840 tokens in 4,060 blocks (TensorRT-LLM, reference/memory)."""
    kv_cache = int(70.48 * GIB * 0.9)
    fit = Fit("tensorrtllm", 80 * GIB, 0, 0, 0, 0, kv_cache, kv_bytes_per_token=262_144, block=64)
    assert fit.tokens == pytest.approx(259_840, rel=0.001)


def test_measured_cache_of_qwen() -> None:
    """7.31 GiB hold 273,792 tokens of Qwen 2.5 1.5B."""
    fit = Fit("tensorrtllm", 16 * GIB, 0, 0, 0, 0, int(7.312 * GIB), kv_bytes(QWEN_2_5_1_5B), block=32)
    assert fit.tokens == pytest.approx(273_792, rel=0.001)


def test_fraction_is_of_all_in_vllm_and_of_the_rest_in_tensorrt_llm() -> None:
    one, other = fit_vllm(LLAMA_3_1_8B, 24 * GIB), fit_tensorrt_llm(LLAMA_3_1_8B, 24 * GIB)
    assert one.weights == other.weights
    assert one.kv_cache == int(24 * GIB * 0.9) - one.weights - one.activations - one.other
    assert other.kv_cache == int((24 * GIB - one.weights - one.activations - one.other) * 0.9)


def test_engine_holds_a_tied_head_too() -> None:
    one, other = fit_vllm(LLAMA_3_2_1B, 16 * GIB), fit_tensorrt_llm(LLAMA_3_2_1B, 16 * GIB)
    assert other.weights - one.weights == 2 * 128_256 * 2048


def test_quantization_narrows_the_matrices_alone() -> None:
    full, four = weight_bytes(LLAMA_3_1_8B), weight_bytes(LLAMA_3_1_8B, "int4")
    assert full / GIB == pytest.approx(14.96, rel=0.001)
    assert 4.25 / 16 < four / full < 0.4
    assert weight_bytes(LLAMA_3_1_8B, "float32") == 2 * full


def test_model_that_does_not_fit() -> None:
    fit = fit_vllm(LLAMA_3_1_8B, 8 * GIB)
    assert (fit.fits, fit.tokens, fit.longest, fit.concurrent(10)) == (False, 0, 0, 0)
    assert "does not fit" in repr(fit)
    assert fit_vllm(LLAMA_3_1_8B, 16 * GIB, tensor_parallel=2).fits
    assert fit.parts()["left"] < 0
    assert len(fit.figure().axes) == 1


def test_the_embedding_of_tensorrt_llm_is_on_each_gpu() -> None:
    alone = fit_tensorrt_llm(LLAMA_3_1_8B, 24 * GIB).weights
    embedding = LLAMA_3_1_8B.vocabulary * LLAMA_3_1_8B.hidden * 2
    assert fit_tensorrt_llm(LLAMA_3_1_8B, 24 * GIB, tensor_parallel=2).weights == embedding + (alone - embedding) // 2


def test_blocks_are_whole() -> None:
    fit = Fit("vllm", GIB, 0, 0, 0, 0, kv_cache=1600, kv_bytes_per_token=10, block=16)
    assert (fit.tokens, fit.concurrent(17), fit.concurrent(16)) == (160, 5, 10)


@pytest.mark.parametrize(
    "wrong",
    [{"weights": "bf16"}, {"kv_cache": "int3"}, {"gpu_memory_utilization": 1.2}, {"tensor_parallel": 0}],
)
def test_wrong_values_are_refused_in_words(wrong: dict[str, Any]) -> None:
    with pytest.raises(TritonlabError):
        fit_vllm(LLAMA_3_2_1B, 16 * GIB, **wrong)
    with pytest.raises(TritonlabError, match="no length"):
        fit_vllm(LLAMA_3_2_1B, 16 * GIB).concurrent(0)
