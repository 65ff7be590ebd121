"""A model that TensorRT-LLM's LLM API serves: from a Hugging Face model, with no engine to build first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tritonlab.errors import RepositoryError
from tritonlab.schema import ModelConfig, schema
from tritonlab.vllm import check_name

VERSIONS = ("0.20", "1.x")
# The tensors of all_models/llmapi (tensorrtllm_backend at c2e65b88): name, type, dims; all inputs but the first are
# optional.
INPUTS = (
    ("text_input", "STRING", -1),
    ("streaming", "BOOL", 1),
    ("sampling_param_best_of", "INT32", 1),
    ("sampling_param_temperature", "FP32", 1),
    ("sampling_param_top_k", "INT32", 1),
    ("sampling_param_top_p", "FP32", 1),
    ("sampling_param_frequency_penalty", "FP32", 1),
    ("sampling_param_presence_penalty", "FP32", 1),
    ("sampling_param_max_tokens", "INT32", 1),
    ("sampling_param_stop", "STRING", -1),
    ("sampling_param_seed", "UINT64", 1),
    ("sampling_param_exclude_input_from_output", "BOOL", 1),
    ("return_finish_reason", "BOOL", 1),
    ("return_stop_reason", "BOOL", 1),
    ("return_cumulative_logprob", "BOOL", 1),
)
OUTPUTS = (
    ("text_output", "STRING", -1),
    ("finish_reason", "STRING", -1),
    ("stop_reason", "STRING", -1),
    ("cumulative_logprob", "FP32", -1),
)


class LlmApiModel:
    """NVIDIA's `llmapi` model: config.pbtxt and model.yaml; `validate` tells how to bring its model.py.

        repository.add(LlmApiModel(model="google/gemma-2b-it", kv_cache_config={"free_gpu_memory_fraction": 0.5}))

    It came with 0.19, and is the only model of TensorRT-LLM on Triton since the engine path left its main branch
    (July 2026). A request's limit is the input sampling_param_max_tokens.

    Args:
        name: the model's name on the server and its folder's name.
        model: a Hugging Face id, or a folder as the server sees it.
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: groups of GPUs that share the layers out.
        max_batch_size: Triton's; 0, since model.py takes a request for one prompt.
        decoupled: several responses to a request, which streams need.
        tensorrt_llm: "0.20" or "1.x", the TensorRT-LLM that is to serve it.
        version: the version folder, 1 or more.
        llm_arguments: further arguments of `LLM(...)`, passed on as they are. With "1.x" the content of
            pytorch_backend_config goes to the top level, since 1.0 has no such argument.

    Raises:
        RepositoryError: the name would not be a folder inside the repository, or a value has no form in the files.
    """

    def __init__(
        self,
        name: str = "tensorrt_llm",
        *,
        model: str,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        max_batch_size: int = 0,
        decoupled: bool = False,
        tensorrt_llm: str = "0.20",
        version: int = 1,
        **llm_arguments: Any,
    ) -> None:
        self.name = check_name(name)
        if tensorrt_llm not in VERSIONS:
            raise RepositoryError(f"tensorrt_llm is {tensorrt_llm!r}.", f"It can be {' or '.join(VERSIONS)}.")
        sizes = {"tensor_parallel_size": tensor_parallel_size, "pipeline_parallel_size": pipeline_parallel_size}
        for key, value, least in (
            *((key, value, 1) for key, value in sizes.items()),
            ("max_batch_size", max_batch_size, 0),
            ("version", version, 1),
        ):
            if type(value) is not int or value < least:
                raise RepositoryError(f"{key} is {value!r}.", f"Give a whole number, {least} or more.")
        self.version = version
        self.max_batch_size = max_batch_size
        self.decoupled = bool(decoupled)
        more = llm_arguments if tensorrt_llm == "0.20" else _flat(llm_arguments)
        self.arguments = {"model": model, "backend": "pytorch", **sizes, **more}
        try:
            self.model_yaml()
        except (TypeError, ValueError) as error:
            raise RepositoryError(f"An argument of {name!r} has no form in model.yaml: {error}.") from None

    def model_yaml(self) -> str:
        """The text of model.yaml: a line for each argument, its value as JSON, which YAML holds too."""
        triton = {"max_batch_size": self.max_batch_size, "decoupled": self.decoupled}
        content = {**self.arguments, "triton_config": triton}
        return "".join(f"{name}: {json.dumps(value, allow_nan=False)}\n" for name, value in content.items())

    def files(self) -> dict[str, str]:
        """The files of the version folder: name -> text."""
        return {"model.yaml": self.model_yaml()}

    def config(self) -> ModelConfig:
        """The configuration, complete.

        It repeats `triton_config` of model.yaml: NVIDIA's launch line switches off the completion that reads it there.
        """
        config = schema().ModelConfig(name=self.name, backend="python", max_batch_size=self.max_batch_size)
        config.model_transaction_policy.decoupled = self.decoupled
        for tensors, known in ((config.input, INPUTS), (config.output, OUTPUTS)):
            for name, data_type, size in known:
                tensors.add(name=name, data_type=schema().DataType.Value(f"TYPE_{data_type}"), dims=[size])
        for tensor in config.input[1:]:
            tensor.optional = True
        config.instance_group.add(count=1, kind=schema().ModelInstanceGroup.Kind.Value("KIND_CPU"))
        return config

    def __repr__(self) -> str:
        return f"LlmApiModel({self.name!r}, {', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


def _flat(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as 1.x takes them.

    Raises:
        RepositoryError: pytorch_backend_config holds what has no place at the top level.
    """
    flat = dict(arguments)
    nested = flat.pop("pytorch_backend_config", None) or {}
    if not isinstance(nested, Mapping):
        raise RepositoryError(f"pytorch_backend_config is {nested!r}.", 'Give a mapping: {"…": …}.')
    flat = {**nested, **flat}
    # TensorRT-LLM's pull requests 4603 and 5014: the options moved up, and no cuda_graph_config means no graphs.
    if "use_cuda_graph" in flat:
        flat.setdefault("cuda_graph_config", {} if flat["use_cuda_graph"] else None)
        del flat["use_cuda_graph"]
    return flat
