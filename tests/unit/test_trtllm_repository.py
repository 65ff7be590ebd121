"""The five models' files: what the official template has, and what changes when one is exchanged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.test_trtllm_engine import CONFIG, folder
from tritonlab import ModelRepository
from tritonlab.errors import DockerError, RepositoryError
from tritonlab.repository import render
from tritonlab.servers.docker import engine_image
from tritonlab.trtllm import InflightBatcherLlm, parameters

# Mandatory and optional inputs, and outputs, of TensorRT-LLM 0.20 (tensorrtllm_backend at c2e65b88).
COUNTS = {
    "preprocessing": (2, 11, 20),
    "tensorrt_llm": (2, 58, 19),
    "postprocessing": (2, 0, 1),
    "ensemble": (2, 32, 17),
    "tensorrt_llm_bls": (2, 38, 17),
}


def added(path: Path, **settings: Any) -> ModelRepository:
    repository = ModelRepository(path)
    for model in InflightBatcherLlm("/tokenizer", **settings):
        repository.add(model)
    return repository


@pytest.mark.parametrize(
    "settings", [{"engine": "/engines/llama"}, {"vllm": {"model": "/model"}}], ids=["engine", "vllm"]
)
def test_the_tensors_are_those_of_the_template(tmp_path: Path, settings: dict[str, Any]) -> None:
    repository = added(tmp_path / "models", **settings)
    for name, (mandatory, optional, outputs) in COUNTS.items():
        config = repository[name].config
        assert sum(not tensor.optional for tensor in config.input) == mandatory, name
        assert sum(tensor.optional for tensor in config.input) == optional, name
        assert len(config.output) == outputs, name
    steps = repository["ensemble"].config.ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["preprocessing", "tensorrt_llm", "postprocessing"]
    assert steps[1].input_map["runtime_top_k"] == "top_k"


def test_only_the_engine_is_exchanged(tmp_path: Path) -> None:
    here = added(tmp_path / "here", vllm={"model": "/model"})
    there = added(tmp_path / "there", engine="/engines/llama")
    differing = [name for name in COUNTS if render(here[name].config) != render(there[name].config)]
    assert differing == ["tensorrt_llm"]
    assert sorted(path.name for path in (here.path / "tensorrt_llm" / "1").iterdir()) == ["model.json", "model.py"]
    assert not list((there.path / "tensorrt_llm" / "1").iterdir())
    assert there["tensorrt_llm"].config.parameters["gpt_model_path"].string_value == "/engines/llama"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "need an engine"),
        ({"engine": "/e", "vllm": {"model": "m"}}, "not both"),
        ({"engine": "/e", "max_batch_size": 0}, "1 or more"),
        ({"engine": "/e", "max_batch_size": True}, "1 or more"),
        ({"engine": "/e", "max_queue_size": -1}, "0 or more"),
        ({"engine": "/e", "instances": {"postprocessing": "4"}}, "instances of postprocessing is '4'"),
        ({"engine": Path("/e")}, "no place for a value"),
        ({"vllm": {"model": Path("/m")}}, "no place for a value"),
        ({"engine": "/e", "logits_datatype": "FP32"}, "TYPE_FP32"),
        ({"vllm": {"model": "m"}, "parameters": {"kv_cache_free_gpu_mem_fraction": 0.5}}, "There are REPORT_CUSTOM"),
        (
            {"engine": "/e", "parameters": {"kv_cache_free_gpu_memory_fraction": 0.5}},
            "mean kv_cache_free_gpu_mem_fraction",
        ),
        ({"engine": "/e", "parameters": {"REPORT_CUSTOM_METRICS": True}}, "no parameter 'REPORT_CUSTOM_METRICS'"),
        ({"engine": "/e", "instances": {"tensorrt_llm": 2}}, "no number of instances"),
    ],
)
def test_what_the_files_have_no_place_for(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RepositoryError, match=words):
        InflightBatcherLlm("/tokenizer", **settings)


def test_every_parameter_is_told() -> None:
    table = parameters()
    assert dict(zip(table.parameter, table["in the template"], strict=True))["gpt_model_type"] == "batching_strategy"
    assert (table["what it does"].str.len() > 5).all()
    assert table.parameter.is_unique


def docker(*, has_gpus: bool) -> Any:
    return cast(Any, SimpleNamespace(has_gpus=has_gpus))


def test_a_compiled_engine_gets_the_image_of_its_version(tmp_path: Path) -> None:
    assert engine_image(docker(has_gpus=False), added(tmp_path / "cpu", vllm={"model": "m"}).path) is None
    (tmp_path / "engine").mkdir()
    engine = folder(tmp_path / "engine", {**CONFIG, "version": "1.1.0"})
    old = added(tmp_path / "old", engine=str(engine))
    assert engine_image(docker(has_gpus=True), old.path) == "nvcr.io/nvidia/tritonserver:26.02-trtllm-python-py3"
    unknown = added(tmp_path / "unknown", engine="/nowhere")
    assert engine_image(docker(has_gpus=True), unknown.path) == "nvcr.io/nvidia/tritonserver:25.06-trtllm-python-py3"
    with pytest.raises(DockerError, match="no NVIDIA GPU"):
        engine_image(docker(has_gpus=False), old.path)
