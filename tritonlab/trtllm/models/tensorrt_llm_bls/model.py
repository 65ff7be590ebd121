"""tensorrt_llm_bls: preprocessing, tensorrt_llm and postprocessing called one after the other from Python.

It does what the ensemble does, and each piece of an answer passes through here: a place for code of your own. It
honours the tensors of NVIDIA's inflight_batcher_llm (TensorRT-LLM 0.20) for text. Each stream has an id of its own on
its way, so that postprocessing can put together a character whose bytes come in two pieces. A client that has left is
noticed with the engine's next response: at once in a stream, and else at its end.
"""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
# The other model's input <- the input of this one.
TO_PREPROCESSING = {
    "QUERY": "text_input",
    "DECODER_QUERY": "decoder_text_input",
    "REQUEST_OUTPUT_LEN": "max_tokens",
    "BAD_WORDS_DICT": "bad_words",
    "STOP_WORDS_DICT": "stop_words",
    "EMBEDDING_BIAS_WORDS": "embedding_bias_words",
    "EMBEDDING_BIAS_WEIGHTS": "embedding_bias_weights",
    "END_ID": "end_id",
    "PAD_ID": "pad_id",
    "PROMPT_TABLE_EXTRA_ID": "prompt_table_extra_id",
}
TO_ENGINE = {
    "runtime_top_k": "top_k",
    "runtime_top_p": "top_p",
    "len_penalty": "length_penalty",
    "streaming": "stream",
    **{
        name: name
        for name in (
            *("temperature", "repetition_penalty", "min_tokens", "presence_penalty", "frequency_penalty", "seed"),
            *("return_log_probs", "return_context_logits", "return_generation_logits", "return_perf_metrics"),
            *("num_return_sequences", "beam_width", "exclude_input_in_output", "prompt_embedding_table"),
            *("prompt_vocab_size", "lora_task_id", "lora_weights", "lora_config"),
            *("guided_decoding_guide_type", "guided_decoding_guide"),
        )
    },
}
# The engine's input <- the output of preprocessing.
BETWEEN = {
    "input_ids": "INPUT_ID",
    "decoder_input_ids": "DECODER_INPUT_ID",
    "input_lengths": "REQUEST_INPUT_LEN",
    "decoder_input_lengths": "REQUEST_DECODER_INPUT_LEN",
    "request_output_len": "REQUEST_OUTPUT_LEN",
    "end_id": "OUT_END_ID",
    "pad_id": "OUT_PAD_ID",
    "stop_words_list": "STOP_WORDS_IDS",
    "bad_words_list": "BAD_WORDS_IDS",
    "embedding_bias": "EMBEDDING_BIAS",
    "prompt_table_extra_ids": "OUT_PROMPT_TABLE_EXTRA_IDS",
}
NOT_READ = (
    *("image_input", "image_bytes_input", "image_url_input", "video_bytes_input"),
    *("num_draft_tokens", "use_draft_logits"),
)
PASSED_ON = (
    *("cum_log_probs", "output_log_probs", "batch_index", "sequence_index"),
    *("kv_cache_alloc_new_blocks", "kv_cache_reused_blocks", "kv_cache_alloc_total_blocks"),
    *("arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns"),
    *("acceptance_rate", "total_accepted_draft_tokens", "total_draft_tokens"),
)


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        given = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._is_decoupled = config["model_transaction_policy"]["decoupled"]
        self._accumulates = given.get("accumulate_tokens", "").lower() in ("true", "1")
        self._engine = given.get("tensorrt_llm_model_name", "tensorrt_llm")
        # A call to another model waits for its answer. In threads the requests do not wait for each other.
        self._threads = ThreadPoolExecutor(max(config["max_batch_size"], 1))

    def execute(self, requests):
        for request in requests:
            self._threads.submit(self._serve, request, request.get_response_sender())

    def finalize(self):
        self._threads.shutdown()

    def _serve(self, request, sender):
        try:
            for response in self._responses(request, sender):
                if not self._is_decoupled:  # it answers once, and must not be asked about its client after that
                    sender.send(response, flags=FINAL)
                    return
                sender.send(response)
            if not self._is_decoupled:
                raise RuntimeError(f"{self._engine} gave no answer")
        except Exception as error:  # whatever went wrong, the client gets an answer
            failure = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
            sender.send(failure, flags=FINAL)
        else:
            sender.send(flags=FINAL)

    def _responses(self, request, sender):
        """A response for each of the engine's."""
        for given in NOT_READ:
            if pb_utils.get_input_tensor_by_name(request, given) is not None:
                raise ValueError(f"{given} is given, and this model knows neither images nor a draft model.")
        name = uuid.uuid4().hex
        size = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().shape[0]
        prepared = call("preprocessing", renamed(request, TO_PREPROCESSING, size), BETWEEN.values())
        tensors = [pb_utils.Tensor(ours, prepared[theirs].as_numpy()) for ours, theirs in BETWEEN.items()]
        tensors += renamed(request, TO_ENGINE, size)
        before = {}  # of each sequence the text so far
        for found in stream(self._engine, tensors, ("output_ids", "sequence_length", *PASSED_ON), name):
            if sender.is_cancelled():
                stop(self._engine, name)
                raise RuntimeError("the request was cancelled")
            sequence = "-".join(str(first(found, place)) for place in ("batch_index", "sequence_index"))
            tokens = [
                pb_utils.Tensor("TOKENS_BATCH", found["output_ids"].as_numpy()),
                pb_utils.Tensor("SEQUENCE_LENGTH", found["sequence_length"].as_numpy()),
            ]
            text = call("postprocessing", tokens, ["OUTPUT"], f"{name}-{sequence}")["OUTPUT"].as_numpy()
            if self._accumulates:
                before[sequence] = before.get(sequence, b"") + text[0, 0]
                text = np.array([[before[sequence]]], dtype=np.object_)
            output = pb_utils.Tensor("text_output", text)
            yield pb_utils.InferenceResponse([output, *(found[place] for place in PASSED_ON if place in found)])


def renamed(request, names, size):
    """The request's tensors under the names of another model, a row for each prompt."""
    found = {theirs: pb_utils.get_input_tensor_by_name(request, ours) for theirs, ours in names.items()}
    arrays = {theirs: tensor.as_numpy() for theirs, tensor in found.items() if tensor is not None}
    return [
        pb_utils.Tensor(theirs, array.reshape(size, *(array.shape[1:] or (1,)))) for theirs, array in arrays.items()
    ]


def call(model, inputs, outputs, name=""):
    """A model's one response, its tensors by name."""
    request = pb_utils.InferenceRequest(
        model_name=model, request_id=name, inputs=inputs, requested_output_names=list(outputs)
    )
    return tensors_of(request.exec())


def stream(model, inputs, outputs, name):
    """The responses of a model, as they come."""
    request = pb_utils.InferenceRequest(
        model_name=model, request_id=name, inputs=inputs, requested_output_names=list(outputs)
    )
    for response in request.exec(decoupled=True):
        if found := tensors_of(response):  # the last one of a stream can be empty
            yield found


def stop(model, name):
    """Ask the engine to end a request."""
    one = np.ones((1, 1), np.int32)
    inputs = [
        pb_utils.Tensor("stop", np.ones((1, 1), np.bool_)),
        *(pb_utils.Tensor(needed, one) for needed in ("input_ids", "input_lengths", "request_output_len")),
    ]
    for _ in stream(model, inputs, ["output_ids"], name):
        pass


def tensors_of(response):
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    return {tensor.name(): tensor for tensor in response.output_tensors()}


def first(tensors, name):
    return tensors[name].as_numpy().reshape(-1)[0] if name in tensors else 0
