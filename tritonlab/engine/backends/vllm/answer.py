"""The answer to one request, and the sentence for a client that asked for something impossible."""

import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class BadRequest(ValueError):
    """The client's mistake, in a sentence for the client."""


class Answer:
    """The responses to a request. One of them is the last; what comes after it is dropped."""

    def __init__(self, triton_request):
        self._sender = triton_request.get_response_sender()
        self._ended = False

    def send(self, response, *, last=False):
        if self._ended:
            return
        self._ended = last
        self._sender.send(response, flags=FINAL if last else 0)

    def fail(self, sentence):
        """End with an error."""
        self.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(sentence)), last=True)

    @property
    def is_unwanted(self):
        """Whether the client has gone."""
        # Asked after the end, of a model that is not decoupled, Triton 2.51 ends with a segmentation fault.
        return not self._ended and self._sender.is_cancelled()

    def let_go(self):
        """Forget the sender: it must go before its server does."""
        self._sender = None
