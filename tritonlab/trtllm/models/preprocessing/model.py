"""preprocessing: text to token ids, for a compiled engine or for what stands in its place.

It honours the tensors of NVIDIA's inflight_batcher_llm (TensorRT-LLM 0.20) for text. Images are not read.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from transformers import AutoTokenizer, PreTrainedTokenizerFast

NOT_READ = ("DECODER_QUERY", "IMAGE_BYTES", "IMAGE_URL", "VIDEO_BYTES")
NONE = -1  # what the engine reads as no token, and as the end of a word list


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._tokenizer = load_tokenizer(parameters["tokenizer_dir"]["string_value"])
        special = parameters.get("add_special_tokens", {}).get("string_value", "")
        self._add_special_tokens = special.lower() not in ("false", "0", "no", "f", "n")

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            return pb_utils.InferenceResponse(self._tensors(request))
        except Exception as error:  # others share this batch, and are to have their answers
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _tensors(self, request):
        for name in NOT_READ:
            if (array := values(request, name)) is not None and array.size:
                raise ValueError(f"{name} is given, and this preprocessing reads text for models without an encoder.")
        prompts = [row[0] for row in texts(request, "QUERY")]
        size = len(prompts)
        end = numbers(request, "END_ID", size, self._tokenizer.eos_token_id)
        own = self._tokenizer.pad_token_id
        pad = numbers(request, "PAD_ID", size, self._tokenizer.eos_token_id if own is None else own)
        ids = [self._tokenizer.encode(prompt, add_special_tokens=self._add_special_tokens) for prompt in prompts]
        if not all(ids):
            raise ValueError("text_input is empty: there is no token to begin with. Send at least one.")
        return [
            tensor("INPUT_ID", padded(ids, pad[0])),
            tensor("REQUEST_INPUT_LEN", [[len(row)] for row in ids]),
            tensor("DECODER_INPUT_ID", np.zeros((size, 0))),
            tensor("REQUEST_DECODER_INPUT_LEN", np.zeros((size, 1))),
            tensor("REQUEST_OUTPUT_LEN", numbers(request, "REQUEST_OUTPUT_LEN", size).reshape(size, 1)),
            tensor("BAD_WORDS_IDS", self._word_lists(texts(request, "BAD_WORDS_DICT", size))),
            tensor("STOP_WORDS_IDS", self._word_lists(texts(request, "STOP_WORDS_DICT", size))),
            tensor("EMBEDDING_BIAS", self._bias(request, size), np.float32),
            tensor("OUT_END_ID", end.reshape(size, 1)),
            tensor("OUT_PAD_ID", pad.reshape(size, 1)),
            tensor("OUT_PROMPT_TABLE_EXTRA_IDS", np.zeros((size, 0)), np.uint64),
        ]

    def _word_lists(self, rows):
        """Of each row the ids of all words one after another, and below them where each word ends: [size, 2, n]."""
        lists = [[ids for word in row if word for ids in self._spellings(word)] for row in rows]
        flat = padded([[token for ids in words for token in ids] for words in lists], 0)
        ends = padded([np.cumsum([len(ids) for ids in words]) for words in lists], NONE, flat.shape[1])
        return np.stack([flat, ends], axis=1)

    def _spellings(self, word):
        """A word is other tokens at the start of a text than after a space: both are meant."""
        plain = self._tokenizer.encode(word, add_special_tokens=False)
        spaced = self._tokenizer.encode(f" {word.lstrip()}", add_special_tokens=False)
        return [ids for ids in ([plain] if spaced == plain else [plain, spaced]) if ids]

    def _bias(self, request, size):
        words, weights = texts(request, "EMBEDDING_BIAS_WORDS", size), values(request, "EMBEDDING_BIAS_WEIGHTS")
        if not any(map(len, words)):
            return np.zeros((size, 0))
        if weights is None or weights.size != sum(map(len, words)):
            raise ValueError("embedding_bias_words needs embedding_bias_weights of the same length: one for each word.")
        bias = np.zeros((size, len(self._tokenizer)))
        for row, (row_words, row_weights) in enumerate(zip(words, weights.reshape(size, -1), strict=True)):
            for word, weight in zip(row_words, row_weights, strict=True):
                bias[row, sorted({token for ids in self._spellings(word) for token in ids})] += weight
        return bias


def load_tokenizer(folder):
    """The tokenizer of a folder or of the Hugging Face Hub. Most have a tokenizer.json, which loads without torch."""
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    except (OSError, ValueError, TypeError):
        return AutoTokenizer.from_pretrained(folder)


def texts(request, name, size=0):
    """The texts of a tensor, a list for each row; empty lists when the request leaves it out."""
    array = values(request, name)
    if array is None:
        return [[]] * size
    return [[value.decode("utf-8", errors="replace") for value in row] for row in array.reshape(array.shape[0], -1)]


def numbers(request, name, size, default=None):
    """A number for each row; -1 where there is none."""
    array = values(request, name)
    if array is None:
        return np.full(size, NONE if default is None else default)
    return array.reshape(size)


def values(request, name):
    found = pb_utils.get_input_tensor_by_name(request, name)
    return None if found is None else found.as_numpy()


def padded(rows, filling, width=0):
    """Rows of different lengths as one array."""
    array = np.full((len(rows), max(width, *map(len, rows))), filling, np.int32)
    for row, ids in zip(array, rows, strict=True):
        row[: len(ids)] = ids
    return array


def tensor(name, array, kind=np.int32):
    return pb_utils.Tensor(name, np.ascontiguousarray(array, dtype=kind))
