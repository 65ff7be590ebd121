"""The tensors of TensorRT-LLM's inflight batcher (0.20, text), computed by vLLM.

Token ids in, token ids out; a response for each prompt of a batch and each returned sequence, and in a stream for each
step. What an engine of one GPU and one beam, without adapters and drafts, cannot do is refused in words.
"""

import stub_environment  # noqa: F401, I001  (first: vLLM and torch need what it sets)

import asyncio
import json
import time
import uuid
from contextlib import aclosing
from functools import partial
from itertools import pairwise, repeat
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from answer import BadRequest
from model import is_set, read_model_json

SEQUENCES = 256  # of a request, at the most
NONE = -1  # no token, and the end of a word list
REFUSED = {
    "draft_input_ids": "there is no draft model here",
    "draft_logits": "there is no draft model here",
    "encoder_input_features": "the model has no encoder",
    "prompt_embedding_table": "the engine has no room for prompt embeddings (max_prompt_embedding_table_size 0)",
    "lora_task_id": "the engine was built without LoRA",
    "lora_weights": "the engine was built without LoRA",
    "lora_config": "the engine was built without LoRA",
    "runtime_top_p_min": "the probabilities of top_p do not decay here",
    "runtime_top_p_decay": "the probabilities of top_p do not decay here",
    "runtime_top_p_reset_ids": "the probabilities of top_p do not decay here",
    "guided_decoding_guide": "guided_decoding_backend is not set",
    "guided_decoding_guide_type": "guided_decoding_backend is not set",
    "lookahead_window_size": "decoding_mode is not lookahead",
    "context_phase_params": "prompts and answers are computed by the same engine here",
}


class TritonPythonModel:
    """What Triton's stub calls: `initialize` when the model loads, `execute` for requests, `finalize` at the end."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._name = args["model_name"]
        self._is_decoupled = config["model_transaction_policy"]["decoupled"]
        exclude = config["parameters"].get("exclude_input_in_output", {}).get("string_value", "")
        self._is_input_excluded = exclude.lower() in ("true", "1")
        arguments = read_model_json(Path(args["model_repository"]) / args["model_version"] / "model.json")

        from engine import Engine  # seconds: only now is it sure that the files are right

        metrics = None
        if is_set(config, "REPORT_CUSTOM_METRICS"):
            from metrics import TritonMetrics

            metrics = TritonMetrics(self._name, args["model_version"])
        self._running = {}  # a request's id -> what it waits for
        # Text is the business of pre- and postprocessing: no tokenizer is loaded here.
        own = {"skip_tokenizer_init": True, "disable_log_stats": metrics is None}
        self._engine = Engine(self._name, {**own, **arguments}, metrics)

    def execute(self, requests):
        for triton_request in requests:
            future = self._engine.serve(triton_request, self._read)
            if future and (name := triton_request.request_id()):
                self._running[name] = future
                future.add_done_callback(partial(self._forget, name))

    def _read(self, triton_request, answer):
        stop = _values(triton_request, "stop")
        if stop is None or not stop.any():
            return self._generate(self._sequences(triton_request), answer)
        self._stop(triton_request.request_id())
        answer.send(pb_utils.InferenceResponse([]), last=True)
        return None

    def finalize(self):
        if hasattr(self, "_engine"):
            self._engine.stop()

    def _forget(self, name, future):
        if self._running.get(name) is future:
            del self._running[name]

    def _stop(self, name):
        if not name:
            raise BadRequest("stop needs the id of the request that is to be stopped: send it as this request's id.")
        if future := self._running.get(name):
            future.cancel()

    def _sequences(self, request):
        """What is to be generated: `num_return_sequences` sequences for each prompt of the batch."""
        for name, why in REFUSED.items():
            array = _values(request, name)
            if array is not None and array.size:
                raise BadRequest(f"{name} is given, and {why}.")
        lengths = _values(request, "input_lengths").reshape(-1)
        size = len(lengths)
        if (beams := _numbers(request, "beam_width", size, 1).max()) > 1:
            raise BadRequest(f"beam_width is {beams}, and this engine has one beam (max_beam_width 1).")
        if (
            _flags(request, "return_context_logits", size).any()
            or _flags(request, "return_generation_logits", size).any()
        ):
            raise BadRequest("logits are asked for, and this engine was built without gathering them.")
        counts = _numbers(request, "num_return_sequences", size, 1)
        if counts.min() < 1 or counts.sum() > SEQUENCES:
            raise BadRequest(f"num_return_sequences is {counts.tolist()}; a request gets 1 to {SEQUENCES} in all.")
        prompts = self._prompts(request, lengths)
        for name in ("bad_words_list", "stop_words_list"):
            for row in range(size):
                self._require_known(name, [token for word in _words(request, name, row) for token in word])
        ends = _numbers(request, "end_id", size, NONE)
        self._require_known("end_id", ends[ends != NONE].tolist())
        bias = _values(request, "embedding_bias")
        if bias is not None and bias.shape[-1] > self._engine.vocabulary:
            raise BadRequest(
                f"embedding_bias has {bias.shape[-1]} values, and the model {self._engine.vocabulary} tokens."
            )
        sequences = [
            _Sequence(request, row, size, prompt, index, self._is_input_excluded)
            for row, prompt in enumerate(prompts)
            for index in range(counts[row])
        ]
        if not self._is_decoupled and (len(sequences) > 1 or sequences[0].stream):
            raise BadRequest(
                "this request has more than one response: a batch, several sequences or a stream. "
                "The model must be decoupled for that: model_transaction_policy { decoupled: true }."
            )
        return sequences

    def _prompts(self, request, lengths):
        """The token ids of each prompt, without padding."""
        ids = _values(request, "input_ids")
        if ids is None:
            raise BadRequest("input_ids is missing: there is no prompt.")
        ids = ids.reshape(len(lengths), -1)
        if lengths.min() < 1 or lengths.max() > ids.shape[1]:
            raise BadRequest(f"input_lengths is {lengths.tolist()}, and input_ids has 1 to {ids.shape[1]} for each.")
        prompts = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
        for prompt in prompts:
            self._require_known("input_ids", prompt)
        return prompts

    def _require_known(self, name, ids):
        """vLLM looks at this only with a tokenizer, and an id beyond the vocabulary would end its engine."""
        if ids and (min(ids) < 0 or max(ids) >= self._engine.vocabulary):
            raise BadRequest(
                f"{name} holds {min(ids)} to {max(ids)}, and the model's vocabulary ends at "
                f"{self._engine.vocabulary - 1}: is this the model's own tokenizer?"
            )

    async def _generate(self, sequences, answer):
        left = len(sequences)

        async def one(sequence):
            nonlocal left
            async with aclosing(self._steps(sequence)) as steps:
                async for tensors, is_last in steps:
                    left -= is_last
                    answer.send(pb_utils.InferenceResponse(tensors), last=left == 0)

        for error in await asyncio.gather(*map(one, sequences), return_exceptions=True):
            if error is not None:
                raise error

    async def _steps(self, sequence):
        """The tensors of a sequence's responses, and of each whether it is the last."""
        pace = self._engine.pace
        pace.streams += sequence.stream
        prompt = {"prompt_token_ids": sequence.prompt}
        first = None
        try:
            async with aclosing(self._engine.generate(prompt, sequence.params, uuid.uuid4().hex)) as outputs:
                async for output in outputs:
                    is_last = sequence.take(output)
                    now = time.perf_counter()
                    first = first or now
                    if is_last or sequence.stream:
                        yield sequence.tensors(is_last), is_last
                    if is_last:
                        return
                    if sequence.stream:
                        pace.sent(time.perf_counter() - now)
                        await pace.wait(len(sequence.ids), now - first, sequence.params.max_tokens)
        finally:
            pace.streams -= sequence.stream


class _Sequence:
    """One prompt, how to go on from it, and what has come.

    Attributes:
        prompt: its token ids.
        stream: a response at each step.
        params: vLLM's `SamplingParams`.
        ids: the tokens that came.
    """

    def __init__(self, request, row, size, prompt, index, is_input_excluded):
        def number(name, default):
            return _numbers(request, name, size, default)[row].item()

        def flag(name):
            return bool(_flags(request, name, size)[row])

        self.prompt = prompt
        self.stream = flag("streaming")
        self.ids, self._logprobs, self._sent = [], [], 0
        self._size, self._row, self._index = size, row, index
        self._has_index = _values(request, "num_return_sequences") is not None
        self._wants_logprobs, self._wants_times = flag("return_log_probs"), flag("return_perf_metrics")
        excluded = _numbers(request, "exclude_input_in_output", size, is_input_excluded)[row]
        self._echo = not self.stream and not excluded
        self._end = number("end_id", NONE)
        self._stops = _words(request, "stop_words_list", row)
        self._times = {"arrival_time_ns": time.monotonic_ns()}
        self.params = self._sampling(request, row, number)

    def _sampling(self, request, row, number):
        import compat

        # TensorRT-LLM is greedy unless top_k or top_p says otherwise, whatever the temperature is.
        top_k, top_p, temperature = number("runtime_top_k", 0), number("runtime_top_p", 0.0), number("temperature", 1.0)
        is_greedy = top_k == 1 or (top_k == 0 and top_p <= 0)
        given = {
            "max_tokens": number("request_output_len", 0),
            "temperature": 0.0 if is_greedy else temperature,
            "top_k": 0 if is_greedy else top_k,
            "top_p": 1.0 if is_greedy or top_p <= 0 else top_p,
            # Two requests alike give the same text there: the seed is 0 unless the request says otherwise.
            "seed": (number("seed", 0) + self._index) % 2**63,
            "repetition_penalty": number("repetition_penalty", 1.0),
            "presence_penalty": number("presence_penalty", 0.0),
            "frequency_penalty": number("frequency_penalty", 0.0),
            "min_tokens": number("min_tokens", 0),
            "stop_token_ids": [] if self._end == NONE else [self._end],
            "ignore_eos": True,  # the request's end_id decides
            "detokenize": False,
            "logprobs": 0 if self._wants_logprobs else None,
        }
        bias = _values(request, "embedding_bias")
        if bias is not None and bias.size:
            bias = bias.reshape(-1, bias.shape[-1])[row]
            given["logit_bias"] = {int(token): float(bias[token]) for token in np.flatnonzero(bias)}
        params = compat.sampling_params(given, stream=self.stream or bool(self._stops))
        return compat.forbid(params, _words(request, "bad_words_list", row))

    def take(self, output):
        """Add what a step brought; True when nothing more will come."""
        part, is_stopped = output.outputs[0], False
        for token, found in zip(part.token_ids, part.logprobs or repeat(None), strict=False):
            self.ids.append(token)
            if found:
                self._logprobs.append(found[token].logprob)
            if is_stopped := any(self.ids[-len(word) :] == word for word in self._stops):
                break
        is_last = output.finished or is_stopped
        now = time.monotonic_ns()
        self._times.setdefault("first_token_time_ns", now)
        self._times["last_token_time_ns"] = now
        if is_last and self.ids[-1:] == [self._end]:
            del self.ids[-1:], self._logprobs[-1:]  # the token that ends an answer is not part of it
        return is_last

    def tensors(self, is_last):
        """The response: what has come since the last one, which without a stream is everything."""
        new = self.ids[self._sent :]
        ids = self.prompt + new if self._echo else new
        found = [
            _tensor("output_ids", [[ids]], np.int32),
            _tensor("sequence_length", [[len(ids)]], np.int32),
        ]
        if self._wants_logprobs:
            found.append(_tensor("output_log_probs", [[self._logprobs[self._sent :]]], np.float32))
            found.append(_tensor("cum_log_probs", [[sum(self._logprobs)]], np.float32))
        if self._size > 1:
            found.append(_tensor("batch_index", [[self._row]], np.int32))
        if self._has_index:
            found.append(_tensor("sequence_index", [[self._index]], np.int32))
        if self._wants_times and is_last:
            found += [_tensor(name, [[time]], np.int64) for name, time in self._times.items()]
        self._sent = len(self.ids)
        return found


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _numbers(request, name, size, default):
    """A number for each prompt of the batch."""
    array = _values(request, name)
    if array is None:
        return np.full(size, default)
    if array.size != size:
        raise BadRequest(f"{name} holds {array.size} values for {size} prompts; it takes one for each.")
    return array.reshape(size)


def _flags(request, name, size):
    return _numbers(request, name, size, False)


def _words(request, name, row):
    """Words as token ids, from the form of TensorRT-LLM: ids one after another, and below them where each word ends."""
    array = _values(request, name)
    if array is None or not array.size:
        return []
    ids, ends = array.reshape(-1, 2, array.shape[-1])[row].tolist()
    ends = [end for end in ends if end != NONE]
    words = [ids[start:end] for start, end in pairwise([0, *ends])]
    if not all(words) or any(not 0 < end <= len(ids) for end in ends):
        raise BadRequest(f"{name} is no word list: the ends in its second row, {ends}, do not rise within the first.")
    return words


def _tensor(name, array, kind):
    return pb_utils.Tensor(name, np.array(array, dtype=kind))
