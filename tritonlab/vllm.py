"""What vLLM needs to be served by Triton: model.json, its engine arguments by version, memory arithmetic."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tritonlab.errors import RepositoryError
from tritonlab.schema import ModelConfig, schema

# The tensors of Triton's vllm backend (r25.06, README and auto_complete_config): name, type, dims, optional.
INPUTS = (
    ("text_input", "TYPE_STRING", (1,), False),
    ("image", "TYPE_STRING", (-1,), True),
    ("stream", "TYPE_BOOL", (1,), True),
    ("sampling_parameters", "TYPE_STRING", (1,), True),
    ("exclude_input_in_output", "TYPE_BOOL", (1,), True),
    ("return_finish_reason", "TYPE_BOOL", (1,), True),
    ("return_cumulative_logprob", "TYPE_BOOL", (1,), True),
    ("return_logprobs", "TYPE_BOOL", (1,), True),
    ("return_num_input_tokens", "TYPE_BOOL", (1,), True),
    ("return_num_output_tokens", "TYPE_BOOL", (1,), True),
)
OUTPUTS = (
    ("text_output", "TYPE_STRING", (-1,)),
    ("finish_reason", "TYPE_STRING", (-1,)),
    ("cumulative_logprob", "TYPE_FP32", (-1,)),
    ("logprobs", "TYPE_STRING", (-1,)),
    ("num_input_tokens", "TYPE_UINT32", (1,)),
    ("num_output_tokens", "TYPE_UINT32", (-1,)),
)
LOCAL_VERSION = "0.32.0"
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "half": 2, "float": 4, "fp8": 1}

NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class VllmModel:
    """A model that Triton's vllm backend serves.

    Args:
        name: the model's name on the server and its folder's name.
        model: a Hugging Face id such as "google/gemma-2b-it", or a folder.
        version: the version folder, 1 or more.
        kind: "KIND_MODEL", or "KIND_GPU" for one GPU.
        count: instances.
        parameters: config.pbtxt's parameters, e.g. {"REPORT_CUSTOM_METRICS": "true"}.
        engine_arguments: vLLM's AsyncEngineArgs, e.g. gpu_memory_utilization=0.90; `validate` checks them.

    Raises:
        RepositoryError: the name would not be a folder inside the repository, or a value has no form in the files.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str,
        version: int = 1,
        kind: str = "KIND_MODEL",
        count: int = 1,
        parameters: Mapping[str, str] | None = None,
        **engine_arguments: Any,
    ) -> None:
        self.name = check_name(name)
        if not isinstance(version, int) or version < 1:
            raise RepositoryError(f"Version {version!r} cannot be a folder of {name!r}.", "Versions are 1, 2, 3 …")
        self.version = version
        self.kind = kind
        self.count = count
        self.parameters = dict(parameters or {})
        self.engine_arguments = {"model": model, **engine_arguments}
        try:
            self.model_json()
        except (TypeError, ValueError) as error:
            raise RepositoryError(f"An engine argument of {name!r} has no JSON form: {error}.") from None
        try:
            self.config()
        except (TypeError, ValueError, AttributeError) as error:
            raise RepositoryError(
                f"config.pbtxt of {name!r} has no place for a value: {error}.",
                f"kind is {', '.join(schema().ModelInstanceGroup.Kind.keys())}; count is a number; parameters are "
                'texts, e.g. {"REPORT_CUSTOM_METRICS": "true"}.',
            ) from None

    def model_json(self) -> str:
        """The text of model.json."""
        return json.dumps(self.engine_arguments, indent=2, allow_nan=False) + "\n"

    def files(self) -> dict[str, str]:
        """The files of the version folder: name -> text."""
        return {"model.json": self.model_json()}

    def config(self) -> ModelConfig:
        """The configuration, complete: the same file serves here and in NVIDIA's vLLM container."""
        config = schema().ModelConfig(name=self.name, backend="vllm", max_batch_size=0)
        config.model_transaction_policy.decoupled = True
        for name, data_type, dims, optional in INPUTS:
            config.input.add(name=name, data_type=schema().DataType.Value(data_type), dims=dims, optional=optional)
        for name, data_type, dims in OUTPUTS:
            config.output.add(name=name, data_type=schema().DataType.Value(data_type), dims=dims)
        config.instance_group.add(count=self.count, kind=schema().ModelInstanceGroup.Kind.Value(self.kind))
        for name, value in self.parameters.items():
            config.parameters[name].string_value = value
        return config

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.engine_arguments.items())
        return f"VllmModel({self.name!r}, {arguments})"


def check_name(name: str) -> str:
    """The name, if it can be a model's folder.

    Raises:
        RepositoryError: it is empty, holds a separator or a sign that URLs and folders do not share, or leads out.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > 200:
        raise RepositoryError(
            f"{name!r} cannot be a model's name: it is a folder in the repository and a part of every URL.",
            "Use letters, digits, '_', '-', '.' and '+', beginning with a letter, a digit or '_'.",
        )
    return name


@cache
def engine_arguments(version: str = LOCAL_VERSION) -> dict[str, str]:
    """Engine argument -> "int", "float", "bool", "str" or "any", of the newest known vLLM not after `version`.

    Read off `AsyncEngineArgs` in vLLM's wheels 0.9.0, 0.24.0 and 0.32.0.
    """
    tables: dict[str, dict[str, str]] = json.loads(
        Path(__file__).with_name("engine_arguments.json").read_text(encoding="utf-8")
    )
    wanted = _numbers(version)
    older = [known for known in tables if _numbers(known) <= wanted] or list(tables)[:1]
    return tables[max(older, key=_numbers)]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


@dataclass(frozen=True)
class ModelShape:
    """What memory arithmetic needs of a Hugging Face config.json; sizes in elements."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied_embeddings: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """The shape in a Llama-like config.json."""
        heads = config["num_attention_heads"]
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        )

    @classmethod
    def parse(cls, text: str) -> ModelShape:
        """The shape in the text of a config.json, as somebody pasted it.

        Raises:
            RepositoryError: it is no JSON object, or lacks a number that is needed.
        """
        fix = "Paste the whole config.json of a Llama-like model, as the Hugging Face Hub shows it."
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RepositoryError(f"This is not JSON: {error}.", fix) from None
        if not isinstance(config, dict):
            raise RepositoryError("This JSON is no object.", fix)
        needed = {name: config.get(name) for name in NEEDED}
        optional = {name: config[name] for name in ("num_key_value_heads", "head_dim") if config.get(name) is not None}
        for name, value in {**needed, **optional}.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 40:
                raise RepositoryError(f"{name} is {value!r} and has to be a number above 0.", fix)
        shape = cls.of(config)
        if shape.head_size < 1:
            raise RepositoryError(f"{shape.heads} heads do not fit into a hidden_size of {shape.hidden}.", fix)
        return shape

    def parameters(self) -> int:
        """The number of weights: embeddings, attention, gated MLP and norms of a Llama."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self.matrices() + self.layers * 2 * self.hidden + self.hidden

    def matrices(self) -> int:
        """The number of weights in the layers' matrices, which is what a quantization narrows."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        mlp = 3 * self.hidden * self.intermediate
        return self.layers * (attention + mlp)

    def kv_bytes_per_token(self, dtype: str = "bfloat16") -> int:
        """Bytes of KV cache for a token: keys and values of every layer's KV heads (PagedAttention, 2309.06180)."""
        return 2 * self.layers * self.kv_heads * self.head_size * DTYPE_BYTES[dtype]
