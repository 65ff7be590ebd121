"""The LLM API's model: what Triton and TensorRT-LLM read is written, and what only NVIDIA has is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tritonlab import ModelRepository
from tritonlab.errors import RepositoryError
from tritonlab.trtllm import LlmApiModel


def read_back(model: LlmApiModel) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(model.model_yaml())
    return content


def test_files_are_those_of_the_official_folder(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    model = repository.add(LlmApiModel(model="TinyLlama/TinyLlama-1.1B-Chat-v1.0", decoupled=True))
    assert yaml.safe_load((model.path / "1" / "model.yaml").read_text()) == {
        "model": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "backend": "pytorch",
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "triton_config": {"max_batch_size": 0, "decoupled": True},
    }
    config = model.config
    assert (config.name, config.backend, config.max_batch_size) == ("tensorrt_llm", "python", 0)
    assert config.model_transaction_policy.decoupled
    assert [tensor.name for tensor in config.input if not tensor.optional] == ["text_input"]
    assert (len(config.input), len(config.output)) == (15, 4)


def test_only_nvidias_code_is_missing(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    repository.add(LlmApiModel("llama", model="m"))
    [problem] = repository.validate()
    assert (problem.file, problem.what) == ("llama/1/model.py", "model.py is missing")
    assert "cp -r /app/all_models/llmapi/tensorrt_llm/1/*.py" in problem.fix
    assert "docker run" in problem.fix
    (tmp_path / "llama" / "1" / "model.py").touch()
    assert not repository.validate()


@pytest.mark.parametrize(
    ("release", "given", "written"),
    [
        ("0.20", {"pytorch_backend_config": {"use_cuda_graph": True}},
         {"pytorch_backend_config": {"use_cuda_graph": True}}),
        ("1.x", {"pytorch_backend_config": {"use_cuda_graph": True}}, {"cuda_graph_config": {}}),
        ("1.x", {"pytorch_backend_config": {"use_cuda_graph": False}}, {"cuda_graph_config": None}),
        ("1.x", {"pytorch_backend_config": None}, {}),
        ("1.x", {"kv_cache_config": {"free_gpu_memory_fraction": 0.5}, "x": 'a: "ä" # b'},
         {"kv_cache_config": {"free_gpu_memory_fraction": 0.5}, "x": 'a: "ä" # b'}),
    ],
)  # fmt: skip
def test_arguments_by_release(release: str, given: dict[str, Any], written: dict[str, Any]) -> None:
    plain = read_back(LlmApiModel(model="m"))
    assert read_back(LlmApiModel(model="m", tensorrt_llm=release, **given)) == {**plain, **written}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "../x"}, "cannot be a model's name"),
        ({"tensorrt_llm": "0.9"}, "0.20 or 1.x"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0"),
        ({"max_batch_size": -1}, "0 or more"),
        ({"version": True}, "version is True"),
        ({"x": object()}, "no form in model.yaml"),
        ({"x": float("nan")}, "no form in model.yaml"),
        ({"tensorrt_llm": "1.x", "pytorch_backend_config": 3}, "Give a mapping"),
    ],
)
def test_what_has_no_form_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(RepositoryError) as error:
        LlmApiModel(**{"model": "m", **arguments})
    assert told in str(error.value)
