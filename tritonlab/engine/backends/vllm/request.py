"""One request of Triton: its tensors read into a prompt and options, its outputs made into responses."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import triton_python_backend_utils as pb_utils
from answer import BadRequest

_NOTHING = SimpleNamespace(text="", finish_reason=None, cumulative_logprob=None, logprobs=None, token_ids=())
# Options of Triton itself that arrive among a request's parameters.
_TRITONS_OWN = "triton_"


class Request:
    """What a client asked for.

    Attributes:
        prompt: the text.
        stream: answer piece by piece.
        echo: put the prompt before the answer.
        sampling: the sampling parameters as given.
        lora_name: the adapter asked for, or None.
        images: decoded bytes of the images that came along.
        wants: the optional outputs asked for.
    """

    def __init__(self, triton_request):
        self.prompt = _prompt(triton_request)
        self.images = [_image(text) for text in _strings(triton_request, "image")]
        self.stream = _flag(triton_request, "stream", False)
        self.echo = not _flag(triton_request, "exclude_input_in_output", self.stream)
        if self.stream and self.echo:
            raise BadRequest(
                "stream=True with exclude_input_in_output=False is not supported: "
                "a stream sends the generated text only."
            )
        self.wants = {
            name
            for name in (
                "finish_reason",
                "cumulative_logprob",
                "logprobs",
                "num_input_tokens",
                "num_output_tokens",
            )
            if _flag(triton_request, f"return_{name}", False)
        }
        self.sampling = _sampling(triton_request)
        self.lora_name = self.sampling.pop("lora_name", None)

    def response(self, output, n):
        """The response for a `RequestOutput`: the n whole answers, or what has come since the last response."""
        before = self.prompt if self.echo else ""
        came = {part.index: part for part in output.outputs}
        # In a stream not every text grows at every step; each keeps its place all the same.
        parts = [came.get(index, _NOTHING) for index in range(n)]
        tensors = [_text("text_output", [(before + part.text).encode() for part in parts])]
        if "finish_reason" in self.wants:
            tensors.append(_text("finish_reason", [str(part.finish_reason).encode() for part in parts]))
        if "cumulative_logprob" in self.wants:
            sums = [_or_nan(part.cumulative_logprob) for part in parts]
            tensors.append(pb_utils.Tensor("cumulative_logprob", np.array(sums, np.float32)))
        if "logprobs" in self.wants:
            tensors.append(_text("logprobs", [_logprobs(part.logprobs).encode() for part in parts]))
        if "num_input_tokens" in self.wants:
            count = len(output.prompt_token_ids or ())
            tensors.append(pb_utils.Tensor("num_input_tokens", np.array([count], np.uint32)))
        if "num_output_tokens" in self.wants:
            counts = [len(part.token_ids) for part in parts]
            tensors.append(pb_utils.Tensor("num_output_tokens", np.array(counts, np.uint32)))
        return pb_utils.InferenceResponse(tensors)


def _prompt(triton_request):
    texts = _strings(triton_request, "text_input")
    if len(texts) != 1:
        raise BadRequest(
            f"text_input holds {len(texts)} prompts; a request takes one. "
            "Send the others as requests of their own: vLLM batches them by itself."
        )
    return texts[0]


def _strings(triton_request, name):
    tensor = pb_utils.get_input_tensor_by_name(triton_request, name)
    if tensor is None:
        return []
    texts = []
    for value in tensor.as_numpy().reshape(-1):
        try:
            texts.append(value.decode("utf-8") if isinstance(value, bytes) else str(value))
        except UnicodeDecodeError as error:
            raise BadRequest(f"{name} is not UTF-8 (byte {error.start}): {error.reason}.") from None
    return texts


def _flag(triton_request, name, default):
    tensor = pb_utils.get_input_tensor_by_name(triton_request, name)
    if tensor is None:
        return default
    values = tensor.as_numpy().reshape(-1)
    if len(values) != 1:
        raise BadRequest(f"{name} holds {len(values)} values; it takes one.")
    return bool(values[0])


def _image(text):
    try:
        return base64.b64decode(text.partition(",")[2] or text, validate=True)
    except ValueError as error:
        raise BadRequest(f"image is not base64: {error}.") from None


def _sampling(triton_request):
    """The request's parameters, and over them those in the `sampling_parameters` tensor."""
    texts = _strings(triton_request, "sampling_parameters")
    if len(texts) > 1:
        raise BadRequest(f"sampling_parameters holds {len(texts)} texts; it takes one.")
    given = _json_object(triton_request.parameters(), "the request's parameters")
    given = {name: value for name, value in given.items() if not name.startswith(_TRITONS_OWN)}
    if texts and texts[0].strip():
        given.update(_json_object(texts[0], "sampling_parameters"))
    return given


def _json_object(text, name):
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest(f'{name} is JSON but no object; write {{"max_tokens": 64}}, say.')
    return value


def _text(name, values):
    return pb_utils.Tensor(name, np.array(values, dtype=np.object_))


def _or_nan(value):
    return float("nan") if value is None else value


def _logprobs(steps):
    if steps is None:
        return json.dumps(None)
    plain = [
        None
        if step is None
        else {
            token: {"logprob": p.logprob, "rank": p.rank, "decoded_token": p.decoded_token} for token, p in step.items()
        }
        for step in steps
    ]
    return json.dumps(plain)
