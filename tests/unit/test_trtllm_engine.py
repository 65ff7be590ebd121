"""An engine folder is read, and what would fail at its load is told before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tritonlab.errors import TritonlabError
from tritonlab.trtllm import EngineFolder

# The shape of a config.json as TensorRT-LLM 0.20 writes it (its legacy documentation, architecture/workflow).
CONFIG: dict[str, Any] = {
    "version": "0.20.0",
    "pretrained_config": {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None},
    },
    "build_config": {
        "max_batch_size": 64,
        "max_seq_len": 8192,
        "max_num_tokens": 8192,
        "max_beam_width": 1,
        "kv_cache_type": "PAGED",
        "plugin_config": {"gpt_attention_plugin": "auto", "remove_input_padding": True},
    },
}


def folder(path: Path, config: dict[str, Any] = CONFIG, ranks: int = 2) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    for rank in range(ranks):
        (path / f"rank{rank}.engine").write_bytes(b"x" * (rank + 1))
    return path


def changed(**build: Any) -> dict[str, Any]:
    return {**CONFIG, "build_config": {**CONFIG["build_config"], **build}}


def test_what_it_can_do(tmp_path: Path) -> None:
    engine = EngineFolder.read(folder(tmp_path))
    facts = engine.facts().set_index("what").value
    assert (facts["TensorRT-LLM"], facts["GPUs"], facts["requests at once"]) == ("0.20.0", 2, 64)
    assert (facts["quantization"], facts["KV cache"]) == ("FP8", "PAGED, unquantized")
    assert (engine.ranks, facts["bytes on disk"], facts["in-flight batching"]) == ({0: 1, 1: 2}, 3, "yes")
    assert engine.check("25.06", gpus=2) == []
    assert engine.check("25.07", gpus=2) == []


@pytest.mark.parametrize(
    ("config", "ranks", "part"),
    [
        (CONFIG, 1, "rank1.engine"),
        (CONFIG, 3, "rank2.engine"),
        (changed(kv_cache_type="CONTINUOUS"), 2, "kv_cache_type CONTINUOUS"),
        (changed(plugin_config={"gpt_attention_plugin": None}), 2, "gpt_attention_plugin null"),
        (changed(plugin_config={"remove_input_padding": False}), 2, "remove_input_padding false"),
        ({**CONFIG, "version": "1.1.0"}, 2, "version 1.1.0"),
    ],
)
def test_what_would_fail(tmp_path: Path, config: dict[str, Any], ranks: int, part: str) -> None:
    engine = EngineFolder.read(folder(tmp_path, config, ranks))
    [advice] = engine.check("25.06", gpus=2)
    assert advice.part == part
    assert all(advice)
    assert engine.has_inflight_batching is ("batching" not in advice.what)


def test_server_that_cannot_serve_it(tmp_path: Path) -> None:
    engine = EngineFolder.read(folder(tmp_path))
    assert [advice.part for advice in engine.check(gpus=1)] == ["world_size 2"]
    assert [advice.part for advice in engine.check("26.08", gpus=2)] == ["26.08"]
    (tmp_path / "rank1.engine").write_bytes(b"")
    assert [advice.what for advice in EngineFolder.read(tmp_path).check(gpus=2)] == ["The file is empty."]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "There is no"),
        ("{", "cannot be read"),
        ("{}", "lacks 'pretrained_config'"),
        ("[]", "not that of an engine"),
    ],
)
def test_folder_that_is_none_is_refused_in_words(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(TritonlabError, match=told):
        EngineFolder.read(tmp_path)
