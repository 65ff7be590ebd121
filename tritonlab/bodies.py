"""What a request to generate holds: for the vllm backend, or for a model that has an input for each setting."""

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


def of_vllm(prompt: str, sampling: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """The JSON object for a model of the vllm backend: a text of sampling parameters.

    Raises:
        ClientError: the prompt is no text, or a parameter has no JSON form.
    """
    if not isinstance(prompt, str):
        raise ClientError(f"The prompt is of type {type(prompt).__name__}.", "Give a text.")
    given = _given(sampling)
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


def of_tensors(
    prompt: str, sampling: Mapping[str, Any], inputs: Mapping[str, Tensor], *, stream: bool
) -> dict[str, Any]:
    """The same for the ensemble, tensorrt_llm_bls and the LLM API model, by the inputs that the server describes.

    Raises:
        ClientError: the model has no such input.
    """
    given = _given(sampling)
    for name in given:
        if name not in inputs:
            # Triton takes an unknown name for a parameter of the request, and nobody reads it.
            near = difflib.get_close_matches(name, inputs, 1)
            raise ClientError(
                f"The model has no input {name!r}.",
                f"Did you mean {near[0]}?" if near else f"It has {', '.join(sorted(inputs))}.",
            )
    if stream and given.get("num_return_sequences", 1) != 1:
        raise ClientError(
            "A stream gives one text, and num_return_sequences asks for more.",
            "Read …/generate_stream yourself, and tell the pieces apart by sequence_index.",
        )
    ours = {
        "text_input": prompt,
        "stream": stream,
        "streaming": stream,
        "exclude_input_in_output": True,
        "sampling_param_exclude_input_from_output": True,
    }
    # By the id the pieces of a stream are told from another's.
    found = {"id": uuid.uuid4().hex, **{name: value for name, value in ours.items() if name in inputs}}
    whole: dict[str, Any] = json.loads(dumps({**found, **given}, "the inputs"))
    return whole


def _given(sampling: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sampling.items() if value is not None}


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
