"""A checkpoint folder is read, and what a build would stumble over is told before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tritonlab.errors import TritonlabError
from tritonlab.trtllm import Checkpoint, checkpoint_config, shapes

# A model so small that its weights can be written here: 2 layers, 16 wide, and matrices of 3,584 weights in all.
SMALL = {
    **shapes()["meta-llama/Llama-3.2-1B"],
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": 4,
    "vocab_size": 32,
}
MATRIX_BYTES = 2 * (16 * 4 * 12 + 3 * 16 * 16) * 2
CONFIG = checkpoint_config(SMALL, tp=2)
MAPPING = CONFIG["mapping"]


def safetensors(weights: int, extra: bytes = b"") -> bytes:
    """A file of that format, with bytes of weights in two tensors."""
    half = weights // 2
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "U8", "shape": [half], "data_offsets": [0, half]},
            "b": {"dtype": "U8", "shape": [weights - half], "data_offsets": [half, weights]},
        }
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(weights) + extra


def folder(path: Path, config: Any = CONFIG, ranks: int = 2, weights: int = MATRIX_BYTES) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    for rank in range(ranks):
        (path / f"rank{rank}.safetensors").write_bytes(safetensors(weights))
    return path


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CONFIG.items() if key != name}


def mapped(**sizes: Any) -> dict[str, Any]:
    return {**CONFIG, "mapping": {**MAPPING, **sizes}}


def quantized(**fields: Any) -> dict[str, Any]:
    return {**CONFIG, "quantization": fields}


def parts(path: Path, capability: tuple[int, int] | None = None) -> list[str]:
    found = Checkpoint.read(path).check(capability)
    assert all(all(advice) for advice in found)
    return [advice.part for advice in found]


def test_what_it_holds(tmp_path: Path) -> None:
    checkpoint = Checkpoint.read(folder(tmp_path, quantized(quant_algo="FP8", kv_cache_quant_algo="INT8")))
    facts = checkpoint.facts().set_index("what").value
    assert (facts["architecture"], facts["data type"], facts["layers"]) == ("LlamaForCausalLM", "bfloat16", 2)
    assert (facts["quantization"], facts["KV cache"]) == ("FP8", "INT8")
    assert (facts["GPUs"], facts["tensor parallel"], facts["pipeline parallel"]) == (2, 2, 1)
    size = len(safetensors(MATRIX_BYTES))
    assert (facts["tensors"], facts["bytes on disk"], checkpoint.ranks[1].size) == (4, 2 * size, size)
    assert (checkpoint.mapping["tp_size"], checkpoint.world_size) == (2, 2)
    assert checkpoint.check((8, 9)) == []


@pytest.mark.parametrize(
    ("config", "found"),
    [
        *((without(name), [name]) for name in ("architecture", "dtype", "hidden_size")),
        *((without(name), [name]) for name in ("num_hidden_layers", "num_attention_heads")),
        ({**CONFIG, "num_hidden_layers": "2"}, ["num_hidden_layers"]),
        ({**CONFIG, "num_hidden_layers": True}, ["num_hidden_layers"]),
        ({**CONFIG, "architecture": 7}, ["architecture"]),
        ({**CONFIG, "dtype": "fp16"}, ["dtype fp16"]),
        ({**CONFIG, "mapping": [2]}, ["mapping", "rank1.safetensors"]),
        ({**CONFIG, "quantization": "FP8"}, ["quantization"]),
        ({**CONFIG, "hidden_size": 18}, []),
        ({**without("head_size"), "hidden_size": 18}, ["hidden_size 18"]),
        ({**CONFIG, "num_key_value_heads": 8}, ["num_key_value_heads 8"]),
        ({**CONFIG, "num_attention_heads": 6, "num_key_value_heads": 4}, ["num_key_value_heads 4"]),
        (mapped(world_size=3), ["world_size 3", "rank2.safetensors"]),
        (mapped(world_size=1), ["world_size 1", "rank1.safetensors"]),
        (mapped(tp_size="2"), ["tp_size"]),
        (mapped(cp_size=2, world_size=4), ["rank2.safetensors"]),
        (mapped(tp_size=1, pp_size=2, moe_tp_size=1), []),
        (mapped(moe_ep_size=2), ["moe_tp_size 2"]),
        (mapped(moe_tp_size=-1, moe_ep_size=-1), []),
        (mapped(world_size=10**12, tp_size=1, pp_size=10**12, moe_tp_size=1), ["pp_size 10", "rank2.safetensors"]),
        (quantized(quant_algo="W4A16_AQW"), ["quant_algo W4A16_AQW"]),
        (quantized(quant_algo="INT8"), ["quant_algo INT8"]),
        (quantized(kv_cache_quant_algo="FP4"), ["kv_cache_quant_algo FP4"]),
        (quantized(quant_algo=None, kv_cache_quant_algo="INT8"), []),
        ({**CONFIG, "model_type": "llama"}, []),
        ({**CONFIG, "num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 12}, ["tp_size 2"]),
    ],
)
def test_config_that_is_wrong(tmp_path: Path, config: dict[str, Any], found: list[str]) -> None:
    told = parts(folder(tmp_path, config))
    assert len(told) == len(found), told
    assert all(part.startswith(start) for part, start in zip(told, found, strict=True)), told


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "The file is empty."),
        (b"short", "It has no header"),
        (b"\xff" * 64, "It has no header"),
        ((8).to_bytes(8, "little") + b"[1,2,3] ", "It has no header"),
        ((8).to_bytes(8, "little") + b"not JSON" + bytes(9), "It has no header"),
        (safetensors(MATRIX_BYTES)[:100], "It has no header"),
        (safetensors(MATRIX_BYTES)[:-1], "and its header says"),
        (safetensors(MATRIX_BYTES, b"x"), "and its header says"),
    ],
)
def test_weight_file_that_is_not_whole(tmp_path: Path, content: bytes, what: str) -> None:
    (folder(tmp_path) / "rank1.safetensors").write_bytes(content)
    [advice] = Checkpoint.read(tmp_path).check()
    assert advice.part == "rank1.safetensors"
    assert what in advice.what


@pytest.mark.parametrize(("ranks", "part"), [(0, "rank0"), (1, "rank1"), (3, "rank2")])
def test_weight_files_that_are_missing_or_left(tmp_path: Path, ranks: int, part: str) -> None:
    assert parts(folder(tmp_path, ranks=ranks)) == [f"{part}.safetensors"]


@pytest.mark.parametrize(
    ("quant_algo", "weights", "fits"),
    [
        (None, MATRIX_BYTES // 2, True),
        (None, MATRIX_BYTES // 4, False),
        ("W8A16", MATRIX_BYTES // 4, True),
        ("W8A16", MATRIX_BYTES // 8, False),
        ("W4A16_AWQ", MATRIX_BYTES // 8, True),
        ("W4A16_AWQ", MATRIX_BYTES // 64, False),
    ],
)
def test_files_that_cannot_hold_the_model(tmp_path: Path, quant_algo: str | None, weights: int, fits: bool) -> None:
    path = folder(tmp_path, quantized(quant_algo=quant_algo), weights=weights)
    assert parts(path) == ([] if fits else ["rank0.safetensors"])


def test_model_of_unknown_shape_is_not_measured(tmp_path: Path) -> None:
    assert parts(folder(tmp_path, {**CONFIG, "architecture": "OPTForCausalLM"}, weights=2)) == []


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (shapes()["google/gemma-2b"], "Hugging Face"),
        ({"model_type": "llama"}, "Hugging Face"),
        ({"version": "0.20.0", "pretrained_config": CONFIG, "build_config": {}}, "engine"),
    ],
)
def test_config_of_something_else_is_named(tmp_path: Path, config: dict[str, Any], what: str) -> None:
    [advice] = Checkpoint.read(folder(tmp_path, config, ranks=0)).check()
    assert advice.part == "config.json"
    assert what in advice.what


@pytest.mark.parametrize(
    ("config", "capability", "found"),
    [
        (CONFIG, (7, 5), ["dtype bfloat16"]),
        (quantized(quant_algo="FP8"), (8, 6), ["quant_algo FP8"]),
        (quantized(kv_cache_quant_algo="FP8"), (8, 6), ["kv_cache_quant_algo FP8"]),
        (quantized(quant_algo="FP8", kv_cache_quant_algo="FP8"), (8, 9), []),
    ],
)
def test_what_the_gpu_cannot_compute(
    tmp_path: Path, config: dict[str, Any], capability: tuple[int, int], found: list[str]
) -> None:
    assert parts(folder(tmp_path, config), capability) == found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "There is no"),
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "no table of fields"),
    ],
)
def test_folder_that_is_none_is_refused_in_words(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(TritonlabError, match=told):
        Checkpoint.read(tmp_path)


def test_weight_file_that_cannot_be_opened_is_told_in_words(tmp_path: Path) -> None:
    (folder(tmp_path, ranks=1) / "rank1.safetensors").mkdir()
    with pytest.raises(TritonlabError, match=r"rank1\.safetensors"):
        Checkpoint.read(tmp_path)


def test_facts_of_an_empty_config_are_blank(tmp_path: Path) -> None:
    facts = Checkpoint.read(folder(tmp_path, {}, ranks=0)).facts().set_index("what").value
    assert (facts["architecture"], facts["GPUs"], facts["bytes on disk"]) == ("", 1, 0)
    assert parts(tmp_path) == [
        "architecture", "dtype", "hidden_size", "num_hidden_layers", "num_attention_heads", "rank0.safetensors",
    ]  # fmt: skip
