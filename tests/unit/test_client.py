"""The client against servers that misbehave: bytes that a real Triton never sends, sent by a real socket."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from tritonlab import Client
from tritonlab.client import Generation
from tritonlab.errors import ClientError, ModelNotReady, RequestRejected, RequestTimeout, ServerUnreachable

SECRET = "s3cret"
INPUTS = re.compile(rb"GET /v2/models/[^/ ]+ ")


@contextmanager
def answering(*answers: bytes, hold: float = 0.0) -> Iterator[str]:
    """A socket that answers each connection with the next of `answers`, then closes it, or holds it open.

    The question for a model's inputs, which comes before the first request to generate, is answered beside them.
    """
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)

        def serve() -> None:
            left = list(answers)
            while left and not done.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    if INPUTS.match(_take_request(connection)):
                        connection.sendall(http(b'{"inputs":[]}'))
                        continue
                    connection.sendall(left.pop(0))
                    done.wait(hold)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def _take_request(connection: socket.socket) -> bytes:
    """Its first line. It is read to its last byte: what is unread when a socket closes resets the connection."""
    with connection.makefile("rb") as request:
        first, length = request.readline(), 0
        while (line := request.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        request.read(length)
    return first


def http(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def events(*lines: bytes, cut: bool = False) -> bytes:
    """Server-sent events in chunks, as Triton sends them; `cut` leaves the last chunk out."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"data: " + line + b"\n\n" for line in lines] + ([] if cut else [b""])
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


@contextmanager
def client_for(*answers: bytes, hold: float = 0.0, timeout: float = 60.0) -> Iterator[Client]:
    with answering(*answers, hold=hold) as url, Client(url, timeout=timeout) as client:
        yield client


@pytest.mark.parametrize(
    "body", [b"", b"<html>proxy</html>", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b"42"], ids=range(8)
)
def test_answers_that_are_no_tritons(body: bytes) -> None:
    with client_for(http(body)) as client, pytest.raises(ClientError, match="no Triton server says"):
        client.generate("m", "hello")
    with client_for(http(body)) as client, pytest.raises(ClientError):
        client.metadata()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http(b'{"error":"nope"}', "400 Bad Request"), RequestRejected, r"HTTP 400\): nope"),
        (http(b'{"error":"Request for unknown model: \'m\' is not found"}', "404 Not Found"), ModelNotReady, "ready"),
        (http(b"<h1>Bad gateway</h1>", "502 Bad Gateway", "text/html"), ClientError, "not as a Triton server does"),
        (http(b"", "503 Unavailable"), ClientError, "not as a Triton server does"),
        (http(b"", "301 Moved\r\nLocation: http://elsewhere/"), ClientError, "HTTP 301"),
        (http(b'data: {"error":"at once"}\n\n', "400 Bad Request"), RequestRejected, "at once"),
        (http(b'{"error":{"deep":1}}', "400 Bad Request"), ClientError, "HTTP 400"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ServerUnreachable, "Nothing answers"),
        (b"", ServerUnreachable, "Nothing answers"),
    ],
)
def test_refusals(answer: bytes, kind: type[ClientError], words: str) -> None:
    with client_for(answer) as client, pytest.raises(kind, match=words):
        client.generate("m", "hello")


def test_stream_of_pieces() -> None:
    pieces = [
        b'{"model_name":"m","text_output":"a","num_output_tokens":1}',
        b'{"text_output":"b","num_output_tokens":2}',
    ]
    with client_for(events(*pieces)) as client:
        stream = client.stream("m", "hello")
        assert list(stream) == ["a", "b"]
        result = stream.result
        assert (result.text, result.num_output_tokens) == ("ab", 3)
        assert result.time_to_first_token is not None
        assert len(result.gaps) == 1
        with pytest.raises(ClientError, match="read already"):
            list(stream)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (events(b'{"text_output":"a"}', b'{"error":"the engine died"}'), RequestRejected, "the engine died"),
        (events(b'{"text_output":"a"}', cut=True), ServerUnreachable, "broke off in the middle"),
        (events(b"nonsense"), ClientError, "no Triton server says"),
        (events(b"[DONE]"), ClientError, "no Triton server says"),
    ],
)
def test_stream_that_fails(answer: bytes, kind: type[ClientError], words: str) -> None:
    with client_for(answer) as client, pytest.raises(kind, match=words):
        list(client.stream("m", "hello"))


def test_silence_ends_in_a_sentence() -> None:
    with (
        client_for(b"", hold=5, timeout=0.3) as client,
        pytest.raises(RequestTimeout, match=r"no answer within 0\.3 s"),
    ):
        client.generate("m", "hello")
    first = events(b'{"text_output":"a"}', cut=True)
    with client_for(first, hold=5, timeout=0.3) as client:
        stream = client.stream("m", "hello")
        with pytest.raises(RequestTimeout):
            list(stream)
        assert stream.result.text == "a"


def test_a_get_is_tried_again_and_a_post_is_not() -> None:
    with client_for(b"", http(b'{"name":"triton"}')) as client:
        assert client.metadata()["name"] == "triton"
    with client_for(b"", http(b"{}")) as client, pytest.raises(ServerUnreachable):
        client.generate("m", "hello")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}")
    assert client.live() is False
    assert client.ready() is False
    with pytest.raises(ServerUnreachable, match=f"Nothing answers at http://127.0.0.1:{port}"):
        client.generate("m", "hello")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.generate("m", "x"),
        lambda c: list(c.stream("m", "x")),
        lambda c: c.metadata(),
        lambda c: c.load("m"),
        lambda c: c.metrics(),
    ],
)
def test_no_secret_in_an_error(call: Callable[[Client], object]) -> None:
    with answering(*[http(b"x", "401 Unauthorized")] * 4) as url:
        client = Client(url.replace("//", f"//user:{SECRET}@"), headers={"authorization": SECRET})
        with pytest.raises(ClientError) as caught:
            call(client)
        client.close()
    assert SECRET not in f"{caught.value}{client!r}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "http://"),
        ("ftp://x", "http://"),
        ("http://", "no host"),
        ("http://x:port", "valid host or port"),
        ("http://x:99999", "valid host or port"),
        ("http://[::1", "valid host or port"),
        ("http://x:0", "port 0"),
        ("", "http://"),
    ],
)
def test_urls(url: str, words: str) -> None:
    with pytest.raises(ClientError, match=words):
        Client(url)
    with pytest.raises(ClientError, match=words):
        Client(metrics_url=url or "x")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "soon", None])
def test_times_to_wait(timeout: Any) -> None:
    with pytest.raises(ClientError, match="no time to wait"):
        Client(timeout=timeout)
    if timeout is not None:
        with pytest.raises(ClientError, match="no time to wait"):
            Client().generate("m", "hello", timeout=timeout)


@pytest.mark.parametrize("value", [f"{SECRET}\n", f"{SECRET}\r\nx: y", f"{SECRET}é", None, SECRET.encode()])
def test_header_that_cannot_be_sent(value: Any) -> None:
    with pytest.raises(ClientError, match="'authorization' cannot be sent") as caught:
        Client(headers={"authorization": value})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "sampling", "words"),
    [
        (b"bytes", {}, "type bytes"),
        (None, {}, "type NoneType"),
        ("hello", {"stop": {1, 2}}, "no JSON for the sampling parameters"),
        ("hello", {"temperature": float("nan")}, "no JSON for the sampling parameters"),
    ],
)
def test_requests_that_cannot_be_written(prompt: Any, sampling: dict[str, Any], words: str) -> None:
    for call in (Client().generate, Client().stream, Client().stream_grpc):
        with pytest.raises(ClientError, match=words):
            call("m", prompt, **sampling)


def test_several_texts_do_not_come_as_a_stream() -> None:
    with pytest.raises(ClientError, match="n asks for more"):
        Client().stream("m", "hello", n=3)


def test_numbers_of_numpy_are_numbers() -> None:
    with client_for(http(b'{"text_output":"a"}')) as client:
        assert client.generate("m", "hello", max_tokens=np.int64(3), temperature=np.float32(0)).text == "a"


def test_nobody_accepts_the_connection() -> None:
    """A full backlog: the connection is neither refused nor made."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ServerUnreachable, match="Nothing answers"):
            client.generate("m", "hello")


def test_nothing_listens_on_the_grpc_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for _ in range(5):  # the refusal and the request race
        with pytest.raises(ServerUnreachable, match="over gRPC"):
            list(Client(grpc_url=f"127.0.0.1:{port}").stream_grpc("m", "hello"))


def test_addresses_follow_from_the_url() -> None:
    client = Client("http://[::1]:8000/")
    assert client.url == "http://[::1]:8000"
    assert client.grpc_url == "[::1]:8001"
    assert client.metrics_url == "http://[::1]:8002/metrics"


def test_model_names_are_quoted() -> None:
    refusal = http(b'{"error":"Request for unknown model: x is not found"}', "404 Not Found")
    with client_for(refusal) as client, pytest.raises(ModelNotReady):
        client.generate("../../v2/repository/index?x#y", "hello")


def test_metrics_keep_the_names_of_the_page() -> None:
    page = (
        b'# TYPE nv_inference_request_success counter\nnv_inference_request_success{model="m"} 3\n'
        b"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total 5\n# TYPE up gauge\nup 1\n"
    )
    with answering(http(page, kind="text/plain")) as url, Client(url, metrics_url=f"{url}/metrics") as client:
        metrics = client.metrics()
    assert list(metrics.name) == ["nv_inference_request_success", "vllm:prompt_tokens_total", "up"]
    assert list(metrics.value) == [3, 5, 1]


@pytest.mark.parametrize("page", [b"<html><body>hello</body></html>", b"a{b 1", b"\xff\xfe"])
def test_a_page_without_metrics(page: bytes) -> None:
    with (
        answering(http(page, kind="text/html")) as url,
        Client(url, metrics_url=url) as client,
        pytest.raises(ClientError, match="no Triton server says"),
    ):
        client.metrics()


def test_generation_shows_itself_safely() -> None:
    generation = Generation("<b>bold</b>", "stop", 3, 4, 2.0)
    assert "<b>" not in generation._repr_html_()
    assert generation.tokens_per_second == 2.0
    assert Generation("x").tokens_per_second is None
