"""postprocessing: token ids to text, for a whole answer or for a piece of a stream.

It honours the tensors of NVIDIA's inflight_batcher_llm (TensorRT-LLM 0.20). A piece of a stream can end in the middle
of a character. What is incomplete waits here for the next piece of the same stream, which is told by the request's id;
at the end of an answer it is dropped. A request without an id gets its pieces as they are. A stream of several
sequences has one id for all of them: ask tensorrt_llm_bls for that, which makes an id for each.
"""

import json
import re
from collections import OrderedDict

import numpy as np
import triton_python_backend_utils as pb_utils
from transformers import AutoTokenizer, PreTrainedTokenizerFast

BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character
LONGEST_CHARACTER = 4  # bytes in UTF-8, and so tokens at the most
STREAMS = 4096  # of which an incomplete character is kept


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._tokenizer = load_tokenizer(parameters["tokenizer_dir"]["string_value"])
        skip = parameters.get("skip_special_tokens", {}).get("string_value", "")
        self._skip_special_tokens = skip.lower() not in ("false", "0", "no", "f", "n")
        # Some decoders drop a space at the start of a text. Behind this token a piece is never at the start.
        self._anchor = self._tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._before = len(self._decode(self._anchor))
        self._incomplete = OrderedDict()  # of each stream the tokens that are no whole character yet

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            return pb_utils.InferenceResponse([self._texts(request)])
        except Exception as error:  # others share this batch, and are to have their answers
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"the tokens are no text: {error}"))

    def _texts(self, request):
        tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        rows = [
            [
                self._piece((request.request_id(), row, beam), [int(token) for token in ids[:length]]).encode()
                for beam, (ids, length) in enumerate(zip(tokens[row], lengths[row], strict=True))
            ]
            for row in range(len(tokens))
        ]
        return pb_utils.Tensor("OUTPUT", np.array(rows, dtype=np.object_))

    def _piece(self, stream, ids):
        """The text of what is complete; the rest is kept for the next piece of the stream."""
        if not stream[0]:  # whoever gives no id may be anybody
            return self._text(ids)
        together = self._incomplete.pop(stream, []) + ids
        # What is still incomplete is this sign alone, once or for each byte. With more behind it the bytes do not
        # belong together: the earlier stream of this id ended there.
        if not re.match(f"{BROKEN}+[^{BROKEN}]", self._text(together)):
            ids = together
        whole = self._whole(ids)
        if whole < len(ids):
            self._incomplete[stream] = ids[whole:]
            while len(self._incomplete) > STREAMS:
                self._incomplete.popitem(last=False)
        return self._text(ids[:whole])

    def _whole(self, ids):
        """How many of the tokens end with a whole character."""
        for whole in range(len(ids), max(-1, len(ids) - LONGEST_CHARACTER), -1):
            if not self._text(ids[:whole]).endswith(BROKEN):
                return whole
        return len(ids)

    def _text(self, ids):
        if not ids or ids[0] in self._tokenizer.all_special_ids:
            return self._decode(ids)
        return self._decode(self._anchor + ids)[self._before :]

    def _decode(self, ids):
        return self._tokenizer.decode(
            ids, skip_special_tokens=self._skip_special_tokens, clean_up_tokenization_spaces=False
        )


def load_tokenizer(folder):
    """The tokenizer of a folder or of the Hugging Face Hub. Most have a tokenizer.json, which loads without torch."""
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    except (OSError, ValueError, TypeError):
        return AutoTokenizer.from_pretrained(folder)
