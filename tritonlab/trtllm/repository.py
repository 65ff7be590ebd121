"""The model repository of TensorRT-LLM's Triton backend: five models, and the map that joins them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.errors import RepositoryError
from tritonlab.schema import ModelConfig, schema

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
MODELS = ("preprocessing", "tensorrt_llm", "postprocessing", "ensemble", "tensorrt_llm_bls")
BATCHING = ("inflight_fused_batching", "inflight_batching", "V1", "v1")
TENSOR = re.compile(r"(?P<name>\w+) (?P<type>\S+?)\[(?P<dims>[-\d,]+)\](?P<marks>[ \w]*)")
# The backend reads these three without asking whether they are there, and takes the unfilled text for nothing.
MUST_EXIST = ("tokenizer_dir", "guided_decoding_backend", "xgrammar_tokenizer_info_path")


@dataclass(frozen=True)
class InflightBatcherLlm:
    """The five models of NVIDIA's `inflight_batcher_llm` repository, of TensorRT-LLM 0.20.

        for model in InflightBatcherLlm("google/gemma-2b-it", engine="/engines/gemma"):
            repository.add(model)

    Attributes:
        tokenizer: the tokenizer's folder or Hugging Face id, as the server sees it.
        engine: the folder of the compiled engine, as the server sees it.
        vllm: instead of an engine, vLLM's engine arguments. `tensorrt_llm` is then a Python model with the same
            tensors that runs on a processor; all else stays as it is. It knows the parameters
            exclude_input_in_output, and REPORT_CUSTOM_METRICS of the vllm backend.
        max_batch_size: requests in a batch at the most, of all five; not above the engine's.
        decoupled: several responses to a request, which streams need.
        instances: how many of "preprocessing", "postprocessing" and "tensorrt_llm_bls" run side by side.
        max_queue_delay_microseconds: how long a request waits for others to share its batch.
        max_queue_size: requests that wait at the most; 0 is any number.
        parameters: more parameters of `tensorrt_llm`; `parameters()` lists them.
        accumulate_tokens: whether each response of tensorrt_llm_bls holds the whole text so far.
        logits_datatype: "TYPE_FP32" or "TYPE_FP16".
    """

    tokenizer: str
    engine: str = ""
    vllm: Mapping[str, Any] = field(default_factory=dict)
    max_batch_size: int = 64
    decoupled: bool = True
    instances: Mapping[str, int] = field(default_factory=dict)
    max_queue_delay_microseconds: int = 0
    max_queue_size: int = 0
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    accumulate_tokens: bool = False
    logits_datatype: str = "TYPE_FP32"

    def __post_init__(self) -> None:
        """Refuse what the files have no place for.

        Raises:
            RepositoryError: says what, and what to write.
        """
        if bool(self.engine) == bool(self.vllm):
            raise RepositoryError(
                "The five models need an engine, or vLLM's arguments in its place, and not both.",
                'Give engine="/engines/llama" on a GPU host, or vllm={"model": "…"} on a processor.',
            )
        for name, number, least in (
            ("max_batch_size", self.max_batch_size, 1),
            ("max_queue_size", self.max_queue_size, 0),
            ("max_queue_delay_microseconds", self.max_queue_delay_microseconds, 0),
            *((f"the number of instances of {name}", number, 1) for name, number in self.instances.items()),
        ):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise RepositoryError(f"{name} is {number!r}.", f"Give a whole number, {least} or more.")
        known = {entry["name"] for entry in table()["parameter"] if entry["model"] == "tensorrt_llm"}
        if self.vllm:
            known = {"exclude_input_in_output", "REPORT_CUSTOM_METRICS"}
        for names, allowed, what in (
            (self.parameters, known, "parameter"),
            (self.instances, {"preprocessing", "postprocessing", "tensorrt_llm_bls"}, "number of instances"),
        ):
            for name in names:
                if name not in allowed:
                    raise RepositoryError(f"There is no {what} {name!r} here.", _nearest(name, allowed))
        try:
            for model in self:
                model.config(), model.files()
        except (TypeError, ValueError) as error:
            raise RepositoryError(
                f"The files of the five models have no place for a value: {error}.",
                "Folders and names are texts, decoupled and accumulate_tokens are True or False, logits_datatype is "
                "TYPE_FP32 or TYPE_FP16.",
            ) from None

    def __iter__(self) -> Iterator[TemplateModel]:
        return (TemplateModel(name, self) for name in MODELS)


@dataclass(frozen=True)
class TemplateModel:
    """One of the five models."""

    name: str
    settings: InflightBatcherLlm
    version: int = 1

    def config(self) -> ModelConfig:
        """The configuration, complete."""
        settings, entry = self.settings, table()[self.name]
        config = schema().ModelConfig(name=self.name, max_batch_size=settings.max_batch_size)
        types = {"logits_datatype": settings.logits_datatype, "encoder_input_features_data_type": "TYPE_FP16"}
        for line in entry["inputs"].splitlines():
            _add_tensor(config.input, line, types)
        for line in entry["outputs"].splitlines():
            _add_tensor(config.output, line, types)
        if self.name == "ensemble":
            _add_steps(config)
            return config
        config.backend = "tensorrtllm" if self.name == "tensorrt_llm" and settings.engine else "python"
        if self.name in ("tensorrt_llm", "tensorrt_llm_bls"):
            config.model_transaction_policy.decoupled = settings.decoupled
        config.instance_group.add(
            count=settings.instances.get(self.name, 1), kind=schema().ModelInstanceGroup.Kind.Value("KIND_CPU")
        )
        self._add_batching(config)
        for name, value in self._parameters().items():
            config.parameters[name].string_value = value
        return config

    def files(self) -> dict[str, str]:
        """The files of the version folder: name -> text."""
        source = HERE / "models" / self.name / "model.py"
        if self.name == "ensemble" or (self.name == "tensorrt_llm" and self.settings.engine):
            return {}
        files = {"model.py": source.read_text(encoding="utf-8")}
        if self.name == "tensorrt_llm":
            files["model.json"] = json.dumps(dict(self.settings.vllm), indent=2, allow_nan=False) + "\n"
        return files

    def _add_batching(self, config: ModelConfig) -> None:
        if self.name == "tensorrt_llm_bls":
            return
        batching = config.dynamic_batching
        batching.SetInParent()
        if self.name == "postprocessing":
            return
        batching.preferred_batch_size.append(self.settings.max_batch_size)
        batching.max_queue_delay_microseconds = self.settings.max_queue_delay_microseconds
        batching.default_queue_policy.max_queue_size = self.settings.max_queue_size

    def _parameters(self) -> dict[str, str]:
        settings = self.settings
        if self.name == "preprocessing":
            return {"tokenizer_dir": settings.tokenizer, "add_special_tokens": "true"}
        if self.name == "postprocessing":
            return {"tokenizer_dir": settings.tokenizer, "skip_special_tokens": "true"}
        if self.name == "tensorrt_llm_bls":
            return {"accumulate_tokens": _text(settings.accumulate_tokens), "tensorrt_llm_model_name": "tensorrt_llm"}
        given = {name: _text(value) for name, value in settings.parameters.items()}
        if settings.vllm:
            return given
        fixed = {e["name"]: e["fixed"] for e in table()["parameter"] if e["model"] == self.name and "fixed" in e}
        unfilled = {name: f"${{{name}}}" for name in MUST_EXIST}
        engine = {"gpt_model_type": BATCHING[0], "gpt_model_path": settings.engine}
        return {**unfilled, **fixed, **engine, **given}


def parameters(model: str = "tensorrt_llm") -> pd.DataFrame:
    """The parameters of one of the five models: name, its name in the official template, default, what it does."""
    import pandas as pd

    rows = [
        (entry["name"], entry.get("placeholder", entry["name"]), entry["default"], entry["does"])
        for entry in table()["parameter"]
        if entry["model"] == model
    ]
    return pd.DataFrame(rows, columns=["parameter", "in the template", "default", "what it does"])


def _add_tensor(tensors: Any, line: str, types: Mapping[str, str]) -> None:
    found = TENSOR.fullmatch(line)
    assert found, line
    data_type = types.get(found["type"].strip("${}"), f"TYPE_{found['type']}")
    tensor = tensors.add(name=found["name"], data_type=schema().DataType.Value(data_type))
    tensor.dims.extend(int(dim) for dim in found["dims"].split(","))
    marks = found["marks"].split()
    if "optional" in marks:
        tensor.optional = True
    if "ragged" in marks:
        tensor.allow_ragged_batch = True
    if "scalar" in marks:
        tensor.reshape.SetInParent()


def _add_steps(config: ModelConfig) -> None:
    config.platform = "ensemble"
    for entry in table()["step"]:
        step = config.ensemble_scheduling.step.add(model_name=entry["model"], model_version=-1)
        for role, tensors in (("inputs", step.input_map), ("outputs", step.output_map)):
            for line in entry[role].splitlines():
                theirs, _, ours = line.partition(" = ")
                tensors[theirs] = ours or theirs


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nearest(name: str, allowed: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, allowed, 1)
    return f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(allowed))}."


@cache
def table() -> dict[str, Any]:
    """The content of `templates.toml`; that file says what it holds."""
    return tomllib.loads((HERE / "templates.toml").read_text(encoding="utf-8"))
