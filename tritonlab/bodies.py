"""What a request to generate holds: for a model of the vllm backend, or for one that takes a tensor for each setting."""

from __future__ import annotations

import difflib
import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from tritonlab.errors import ClientError

RETURNS = ("finish_reason", "num_input_tokens", "num_output_tokens")
NUMPY = {"BOOL": "bool", "FP32": "float32"}  # and an integer's type has its own name


class Tensor(NamedTuple):
    """An input as the server describes it: Triton's data type, and the shape with the batch's dimension, if any."""

    datatype: str
    shape: tuple[int, ...]


def body(prompt: str, sampling: Mapping[str, Any], inputs: Mapping[str, Tensor], *, stream: bool) -> dict[str, Any]:
    """The JSON object for a model with these inputs; empty `inputs` stand for the vllm backend's.

    Raises:
        ClientError: a setting has no JSON form, or the model has no such input.
    """
    if not isinstance(prompt, str):
        raise ClientError(f"The prompt is of type {type(prompt).__name__}.", "Give a text.")
    given = {name: value for name, value in sampling.items() if value is not None}
    if not inputs or "sampling_parameters" in inputs:
        return _of_vllm(prompt, given, stream=stream)
    return _of_tensors(prompt, given, inputs, stream=stream)


def _of_vllm(prompt: str, given: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"text_input": prompt, "stream": stream, "exclude_input_in_output": True}
    found |= {f"return_{name}": True for name in RETURNS}
    for name in ("return_logprobs", "return_cumulative_logprob"):
        if name in given:
            found[name] = given.pop(name)
    if given:
        found["sampling_parameters"] = dumps(given, "the sampling parameters")
    if stream and json.loads(found.get("sampling_parameters", "{}")).get("n", 1) != 1:
        raise ClientError("A stream gives one text, and n asks for more.", "Use generate(..., n=...) instead.")
    return found


def _of_tensors(prompt: str, given: dict[str, Any], inputs: Mapping[str, Tensor], *, stream: bool) -> dict[str, Any]:
    """The form of the ensemble, of tensorrt_llm_bls and of the LLM API model: an input for each setting."""
    for name in given:
        if name not in inputs:
            # Triton takes an unknown name for a parameter of the request, and nobody reads it.
            near = difflib.get_close_matches(name, inputs, 1)
            raise ClientError(
                f"The model has no input {name!r}.",
                f"Did you mean {near[0]}?" if near else f"It has {', '.join(sorted(inputs))}.",
            )
    ours = {
        # Pieces of one stream are told from another's by this id.
        "id": uuid.uuid4().hex,
        "text_input": prompt,
        "stream": stream,
        "streaming": stream,
        "exclude_input_in_output": True,
        "sampling_param_exclude_input_from_output": True,
    }
    found = {name: value for name, value in ours.items() if name in inputs or name == "id"}
    return json.loads(dumps({**found, **given}, "the inputs"))  # type: ignore[no-any-return]


def grpc_inputs(body: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> list[Any]:
    """The same as tensors of `tritonclient.grpc`."""
    import numpy as np
    import tritonclient.grpc as grpc

    found = []
    for name, value in body.items():
        if name == "id":
            continue
        values = value if isinstance(value, list) else [value]
        datatype, shape = inputs.get(name, Tensor("BOOL" if isinstance(value, bool) else "BYTES", (1,)))
        if datatype == "BYTES":
            array = np.array([str(text).encode() for text in values], dtype=object)
        else:
            array = np.array(values, NUMPY.get(datatype, datatype.lower()))
        array = array.reshape((1,) * (len(shape) - 1) + (-1,))
        tensor = grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def dumps(value: Any, what: str) -> str:
    """JSON; a number of numpy counts as a number."""
    try:
        return json.dumps(value, allow_nan=False, default=lambda number: number.item())
    except (TypeError, ValueError, AttributeError):
        raise ClientError(f"There is no JSON for {what}: {value!r}.", "Give texts, finite numbers and lists.") from None
