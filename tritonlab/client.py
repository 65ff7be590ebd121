"""Talk to a Triton server: over HTTP with `requests`, over gRPC with `tritonclient` where that teaches something."""

from __future__ import annotations

import html
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tritonlab import bodies
from tritonlab.errors import (
    ClientError,
    ModelNotReady,
    RequestRejected,
    RequestTimeout,
    ServerUnreachable,
)

if TYPE_CHECKING:
    import pandas as pd
    import requests

CONNECT_S = 5.0
RETRIES = 2
RETRY_WAIT_S = 0.2
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADER = re.compile(r"[\x20-\x7e\t]*")

# What the server says -> what it means for whoever sent the request.
MEANINGS = (
    (
        "decoupled transaction policy",
        "The model answers in pieces: use generate or stream (POST …/generate, …/generate_stream), not …/infer.",
    ),
    (
        "expects model to produce exactly 1 response",
        "The model answered in pieces, or not at all: use stream (POST …/generate_stream), leave `stream` out, and see "
        "in client.config(model) whether an input is missing.",
    ),
    (
        "unexpected inference input",
        "The request names a tensor that the model's config.pbtxt does not have: compare with client.config(model).",
    ),
    ("API is restricted", "Give the header that the server asks for: Client(url, headers={...})."),
    (
        "not allowed if polling is enabled",
        "Start the server with --model-control-mode=explicit to load and unload models by request.",
    ),
    (
        "failed to load",
        "The server's log has the reason a few lines above that message; server.report() reads it.",
    ),
)


@dataclass(frozen=True)
class Generation:
    """What a model generated.

    Attributes:
        text: the generated text, without the prompt.
        finish_reason: "stop", "length" or "abort"; None while a stream runs and when the server does not tell.
        num_input_tokens, num_output_tokens: token counts; None when the server does not tell.
        seconds: from sending the request to the last byte.
        time_to_first_token: seconds to the first text; None when the answer came in one piece.
        gaps: seconds between one event of a stream and the next.
        model, version: as the server names them.
        raw: everything that the server sent, as decoded from JSON.
    """

    text: str
    finish_reason: str | None = None
    num_input_tokens: int | None = None
    num_output_tokens: int | None = None
    seconds: float = 0.0
    time_to_first_token: float | None = None
    gaps: tuple[float, ...] = ()
    model: str = ""
    version: str = ""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens over wall time."""
        return self.num_output_tokens / self.seconds if self.num_output_tokens and self.seconds else None

    def _repr_html_(self) -> str:
        told = f"{self.num_output_tokens} tokens, {self.seconds:.2f} s, finish reason: {self.finish_reason}"
        return f"<blockquote>{html.escape(self.text)}</blockquote><small>{html.escape(told)}</small>"


class Client:
    """A client for one server.

    Args:
        url: the HTTP service, e.g. "http://127.0.0.1:8000".
        timeout: seconds to wait for an answer, and between two events of a stream.
        grpc_url: "host:port" of the gRPC service; by default the HTTP port plus one.
        metrics_url: the metrics page; by default the HTTP port plus two, path /metrics.
        headers: sent with every request, e.g. for a restricted API; never shown.

    Raises:
        ClientError: a URL is not one of an HTTP server, or a header cannot be sent.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout: float = 60.0,
        grpc_url: str | None = None,
        metrics_url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        host, port, scheme = _parts(url)
        bracketed = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{bracketed}:{port}"
        self.grpc_url = grpc_url or f"{bracketed}:{port + 1}"
        self.metrics_url = metrics_url or f"{scheme}://{bracketed}:{port + 2}/metrics"
        _parts(self.metrics_url)
        self.timeout = _seconds(timeout)
        self._headers = _checked(headers or {})
        self._scheme = scheme
        self._loopback = host in LOOPBACK
        self._made: requests.Session | None = None
        self._inputs: dict[str, dict[str, bodies.Tensor]] = {}

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every request. It may hold a secret: do not print it."""
        return dict(self._headers)

    def close(self) -> None:
        """Close the connections; the client opens new ones when it is used again."""
        if self._made is None:
            return
        for prefix in ("http://", "https://"):
            # A pool closes with the last reference to it, and the error of a refused connection may hold one for long.
            adapter: Any = self._made.get_adapter(prefix)
            pools = adapter.poolmanager.pools
            for key in pools.keys():  # noqa: SIM118  (urllib3's container cannot be iterated over)
                pools[key].close()
        self._made.close()
        self._made = None

    # Health and what there is

    def live(self) -> bool:
        """Does the server answer? (GET /v2/health/live)"""
        return self._says_yes("/v2/health/live")

    def ready(self) -> bool:
        """Is the server ready for requests? (GET /v2/health/ready)"""
        return self._says_yes("/v2/health/ready")

    def model_ready(self, model: str, version: str | int | None = None) -> bool:
        """Is the model ready? (GET /v2/models/MODEL/ready)"""
        return self._says_yes(f"{_model(model, version)}/ready")

    def metadata(self) -> dict[str, Any]:
        """The server's name, version and extensions. (GET /v2)"""
        return self._get("/v2")

    def model_metadata(self, model: str) -> dict[str, Any]:
        """The model's inputs and outputs. (GET /v2/models/MODEL)"""
        return self._get(_model(model))

    def config(self, model: str) -> dict[str, Any]:
        """The model's configuration as the server completed it. (GET /v2/models/MODEL/config)"""
        return self._get(f"{_model(model)}/config")

    def index(self) -> pd.DataFrame:
        """Every model in the repository: name, version, state, reason. (POST /v2/repository/index)"""
        import pandas as pd

        # A POST that changes nothing: it may be tried again.
        response = self._send("POST", "/v2/repository/index", json={}, retries=RETRIES)
        columns = ["name", "version", "state", "reason"]
        rows = [[model.get(column, "") for column in columns] for model in _json(response.text, response.url, list)]
        return pd.DataFrame(rows, columns=columns)

    def load(
        self,
        model: str,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        *,
        timeout: float = 600.0,
    ) -> None:
        """Load or reload a model and wait until that is done. (POST /v2/repository/models/MODEL/load)

        Args:
            model: its name.
            config: a model configuration to use in place of config.pbtxt.
            files: with `config`: path such as "1/model.json" -> content, in place of the repository's files.
            timeout: seconds.

        Raises:
            ClientError: it failed; the message holds the server's reason.
        """
        import base64

        parameters: dict[str, Any] = {}
        if config is not None:
            parameters["config"] = bodies.dumps(config, "the configuration")
        for path, content in (files or {}).items():
            if not isinstance(content, bytes):
                raise ClientError(f"The content of {path} is {type(content).__name__}.", "Give bytes: text.encode().")
            parameters[f"file:{path}"] = base64.b64encode(content).decode()
        body = {"parameters": parameters} if parameters else {}
        self._inputs.pop(model, None)  # they may be others now
        self._send("POST", f"/v2/repository{_model(model)[3:]}/load", json=body, timeout=timeout)

    def unload(self, model: str, *, unload_dependents: bool = False, timeout: float = 60.0) -> None:
        """Unload a model and wait until it has gone. (POST /v2/repository/models/MODEL/unload)

        Raises:
            RequestTimeout: it is still there after `timeout` seconds.
        """
        body = {"parameters": {"unload_dependents": unload_dependents}}
        self._send("POST", f"/v2/repository{_model(model)[3:]}/unload", json=body)
        deadline = time.monotonic() + timeout
        while self._is_loaded(model):
            if time.monotonic() > deadline:
                raise RequestTimeout(
                    f"Model {model} was told to unload and has not gone after {timeout:g} s.",
                    "It waits for requests in flight: cancel them, or wait longer.",
                )
            time.sleep(0.1)

    def statistics(self, model: str | None = None) -> pd.DataFrame:
        """Counts and nanoseconds of every model, or of one. (GET /v2/models/stats)"""
        import pandas as pd

        path = f"{_model(model)}/stats" if model else "/v2/models/stats"
        return pd.json_normalize(self._get(path)["model_stats"])

    def metrics(self) -> pd.DataFrame:
        """The metrics page as rows: name, labels (a dict), value, type, help."""
        import pandas as pd
        from prometheus_client.parser import text_string_to_metric_families as parse

        def name(parsed: str) -> str:
            # The parser gives every counter OpenMetrics' ending; Triton's counters do not have it.
            return parsed if f"\n{parsed}" in text else parsed.removesuffix("_total")

        text = self._send("GET", self.metrics_url).text
        try:
            rows = [
                (name(sample.name), sample.labels, sample.value, family.type, family.documentation)
                for family in parse(text)
                for sample in family.samples
            ]
        except (ValueError, KeyError, IndexError):
            raise _strange(self.metrics_url, text) from None
        return pd.DataFrame(rows, columns=["name", "labels", "value", "type", "help"])

    def log_settings(self, **changes: Any) -> dict[str, Any]:
        """The server's log settings, changed first if any are given, e.g. log_verbose_level=1. (/v2/logging)"""
        return self._post("/v2/logging", changes, 10.0) if changes else self._get("/v2/logging")

    def trace_settings(self, **changes: Any) -> dict[str, Any]:
        """The server's trace settings, changed first if any are given, e.g. trace_level=["OFF"]. (/v2/trace/setting)"""
        return self._post("/v2/trace/setting", changes, 10.0) if changes else self._get("/v2/trace/setting")

    # Generating

    def generate(self, model: str, prompt: str, *, timeout: float | None = None, **sampling: Any) -> Generation:
        """Generate an answer in one piece. (POST /v2/models/MODEL/generate)

        Args:
            model: its name.
            prompt: the text, sent as it is.
            timeout: seconds, in place of the client's.
            sampling: vLLM's sampling parameters, e.g. max_tokens=64, temperature=0.7, seed=1, stop=["."].
                With n=3 the result is the first of three texts, and `raw["text_output"]` has them all.
                A model of TensorRT-LLM has an input for each setting: max_tokens=64, top_k=5, stop_words=["."].

        Raises:
            ClientError: one of its kinds, with what the server said.
        """
        patience = self._patience(timeout)
        body = self.body(model, prompt, sampling, stream=False)
        started = time.monotonic()
        raw = self._post(f"{_model(model)}/generate", body, patience)
        return _generation(raw, time.monotonic() - started)

    def stream(self, model: str, prompt: str, *, timeout: float | None = None, **sampling: Any) -> GenerationStream:
        """Generate an answer piece by piece: iterate over the result. (POST /v2/models/MODEL/generate_stream)

        The arguments are those of `generate`; the request is sent when the first piece is asked for.

        Raises:
            ClientError: n is above 1: the pieces of several texts would come mixed.
        """
        path, patience = f"{_model(model)}/generate_stream", self._patience(timeout)
        body = self.body(model, prompt, sampling, stream=True)
        return GenerationStream(lambda: self._events(path, body, patience))

    def stream_grpc(
        self, model: str, prompt: str, *, timeout: float | None = None, **sampling: Any
    ) -> GenerationStream:
        """The same over gRPC, with `tritonclient`. (ModelStreamInfer)"""
        patience, body = self._patience(timeout), self.body(model, prompt, sampling, stream=True)
        return GenerationStream(lambda: self._grpc_events(model, body, patience))

    def body(self, model: str, prompt: str, sampling: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
        """What `generate` and `stream` send: the JSON object, as the model's own inputs want it.

        Raises:
            ClientError: a setting has no JSON form, or the model has no such input.
        """
        # First what no model would take: that needs no server.
        plain = bodies.of_vllm(prompt, sampling, stream=stream)
        inputs = self._inputs_of(model)
        if not inputs or "sampling_parameters" in inputs:
            return plain
        return bodies.of_tensors(prompt, sampling, inputs, stream=stream)

    # What the above is made of

    def _inputs_of(self, model: str) -> Mapping[str, bodies.Tensor]:
        """A model's inputs, asked for once; none when the server does not tell: then its refusal will be of use."""
        if model not in self._inputs:
            try:
                answer = self._send("GET", _model(model), timeout=self.timeout, retries=0)
                described = _json(answer.text, answer.url)["inputs"]
                self._inputs[model] = {
                    tensor["name"]: bodies.Tensor(tensor["datatype"], tuple(map(int, tensor["shape"])))
                    for tensor in described
                }
            except RequestTimeout:
                raise
            except (ClientError, KeyError, TypeError, ValueError):
                return {}
        return self._inputs[model]

    def _events(self, path: str, body: dict[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
        """The JSON objects of a server-sent event stream; leaving the loop closes the connection."""
        response = self._send("POST", path, json=body, timeout=timeout, stream=True)
        try:
            for line in _lines(response, timeout):
                if line.startswith("data: "):
                    event = _json(line[6:], response.url)
                    if "error" in event:
                        raise _rejected(str(event["error"]))
                    yield event
        finally:
            response.close()

    def _grpc_events(self, model: str, body: dict[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
        import queue

        import tritonclient.grpc as grpc
        from tritonclient.utils import InferenceServerException

        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        # A proxy set for the wide world cannot reach this machine's loopback.
        direct = [("grpc.enable_http_proxy", 0)] if self._loopback else None
        client = grpc.InferenceServerClient(self.grpc_url, ssl=self._scheme == "https", channel_args=direct)
        lowered = {name.lower(): value for name, value in self._headers.items()}
        finished = False
        try:
            client.start_stream(lambda result, error: answers.put((result, error)), headers=lowered)
            client.async_stream_infer(
                str(model),
                bodies.grpc_inputs(body, self._inputs_of(model)),
                request_id=body.get("id", ""),
                enable_empty_final_response=True,
            )
            while not finished:
                result, error = answers.get(timeout=timeout)
                if error is not None:
                    raise error
                finished = result.get_response().parameters["triton_final_response"].bool_param
                event = _grpc_event(result)
                if "text_output" in event:
                    yield event
        except queue.Empty:
            raise _timed_out(self.grpc_url, timeout, generating=True) from None
        except InferenceServerException as error:
            raise _grpc_error(error, self.grpc_url) from None
        finally:
            # A finished stream is closed politely: cancelling would leave gRPC's sending thread waiting for ever.
            client.stop_stream(cancel_requests=not finished)
            client.close()

    def _says_yes(self, path: str) -> bool:
        try:
            self._send("GET", path, retries=0)
        except ClientError:
            return False
        return True

    def _is_loaded(self, model: str) -> bool:
        """Is there a version of the model that is ready, or on its way in or out?"""
        index = self.index()
        return bool((~index[index.name == model].state.isin(("UNAVAILABLE", ""))).any())

    def _patience(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else _seconds(timeout)

    def _get(self, path: str) -> dict[str, Any]:
        response = self._send("GET", path)
        answer: dict[str, Any] = _json(response.text, response.url)
        return answer

    def _post(self, path: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        response = self._send("POST", path, json=body, timeout=timeout)
        answer: dict[str, Any] = _json(response.text, response.url)
        if "error" in answer:  # when there is no answer, or more than one, Triton says so with status 200
            raise _rejected(str(answer["error"]))
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: float = 10.0,
        retries: int | None = None,
        **more: Any,
    ) -> requests.Response:
        """One request; connection errors of a GET are tried again, since nothing was asked to change."""
        import requests

        url = path if path.startswith("http") else f"{self.url}{path}"
        tries = 1 + ((RETRIES if method == "GET" else 0) if retries is None else retries)
        for attempt in range(tries):
            try:
                response = self._session.request(
                    method, url, timeout=(CONNECT_S, timeout), allow_redirects=False, **more
                )
                if response.status_code != 200:
                    raise _refused(response)
                return response
            except requests.exceptions.ConnectionError as error:
                # requests calls it a connection error when the time runs out in the middle of an answer.
                if "Read timed out" in str(error):
                    raise _timed_out(url, timeout, generating="/generate" in url) from None
                if attempt + 1 == tries:
                    raise _unreachable(url) from None
                time.sleep(RETRY_WAIT_S * 2**attempt)
            except requests.exceptions.Timeout:
                raise _timed_out(url, timeout, generating="/generate" in url) from None
            except requests.exceptions.RequestException as error:
                # Its text may hold what was sent, and so a header.
                raise ClientError(f"The request to {_bare(url)} failed: {type(error).__name__}.") from None
        raise AssertionError

    @property
    def _session(self) -> requests.Session:
        made = self._made
        if made is None:
            import requests

            made = requests.Session()
            made.headers.update(self._headers)
            # A proxy set for the wide world cannot reach this machine's loopback.
            made.trust_env = not self._loopback
            self._made = made  # when it is whole: another thread may be asking, or closing
        return made


class GenerationStream:
    """The pieces of an answer as they come. Iterate once; `close` early and the server stops generating."""

    def __init__(self, connect: Any) -> None:
        self._connect = connect
        self._events: Any = None
        self._pieces: list[str] = []
        self._times: list[float] = []
        self._started = 0.0
        self._last: dict[str, Any] = {}
        self._tokens: int | None = None

    def __iter__(self) -> Iterator[str]:
        if self._events is not None:
            raise ClientError("This stream was read already.", "Ask for another with client.stream(...).")
        self._started = time.monotonic()
        self._events = self._connect()
        try:
            for event in self._events:
                self._times.append(time.monotonic())
                self._last = event
                self._pieces.append(_one(event.get("text_output", "")))
                if (count := _one(event.get("num_output_tokens"))) is not None:
                    self._tokens = (self._tokens or 0) + int(count)
                yield self._pieces[-1]
        finally:
            self.close()

    def close(self) -> None:
        """End the stream; the server cancels what it has not generated yet."""
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def result(self) -> Generation:
        """What has come so far."""
        times = [self._started, *self._times]
        raw = {**self._last, "text_output": "".join(self._pieces), "num_output_tokens": self._tokens}
        gaps = tuple(later - earlier for earlier, later in itertools.pairwise(times[1:]))
        first = times[1] - times[0] if self._times else None
        return _generation(raw, times[-1] - times[0], first, gaps)

    def __repr__(self) -> str:
        return f"GenerationStream({len(self._pieces)} pieces so far)"


def _generation(
    raw: dict[str, Any], seconds: float, first: float | None = None, gaps: tuple[float, ...] = ()
) -> Generation:
    reason = _one(raw.get("finish_reason"))
    return Generation(
        text=_one(raw.get("text_output", "")),
        finish_reason=None if reason in (None, "None") else str(reason),
        num_input_tokens=_one(raw.get("num_input_tokens")),
        num_output_tokens=_one(raw.get("num_output_tokens")),
        seconds=seconds,
        time_to_first_token=first,
        gaps=gaps,
        model=raw.get("model_name", ""),
        version=raw.get("model_version", ""),
        raw=raw,
    )


def _one(value: Any) -> Any:
    """Triton gives a tensor of one element as the element, and of several as a list: the first of them."""
    return value[0] if isinstance(value, list) and value else value


def _parts(url: str) -> tuple[str, int, str]:
    wanted = 'Write it as "http://host:8000".'
    try:
        parts = urlsplit(str(url))
        port = {"http": 80, "https": 443}.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError:
        raise ClientError("The server's URL has no valid host or port.", wanted) from None
    if parts.scheme not in ("http", "https"):
        raise ClientError("The server's URL does not begin with http:// or https://.", wanted)
    if not parts.hostname:
        raise ClientError("The server's URL names no host.", wanted)
    if port == 0:
        raise ClientError("The server's URL has port 0, which no server listens on.", wanted)
    return parts.hostname, port, parts.scheme


def _seconds(timeout: float) -> float:
    if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise ClientError(f"{timeout!r} is no time to wait.", "Give seconds, more than 0.")
    return float(timeout)


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(value, str) or not HEADER.fullmatch(value) or not HEADER.fullmatch(str(name)):
            # Without its value, which may be secret.
            raise ClientError(
                f"The header {name!r} cannot be sent: its value is no line of ASCII text.",
                "Look for a line break or a missing variable where the value comes from.",
            )
    return dict(headers)


def _model(model: str, version: str | int | None = None) -> str:
    from urllib.parse import quote

    path = f"/v2/models/{quote(str(model), safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _lines(response: requests.Response, timeout: float) -> Iterator[str]:
    import requests

    try:
        for line in response.iter_lines(chunk_size=None):
            yield line.decode("utf-8", errors="replace")
    except requests.exceptions.RequestException as error:
        if "timed out" in str(error).lower():
            raise _timed_out(response.url, timeout, generating=True) from None
        raise ServerUnreachable(
            f"The connection to {_bare(response.url)} broke off in the middle of the answer.",
            "See whether the server still runs; its log's last lines say why if it does not.",
        ) from None


def _json(text: str, url: str, kind: type = dict) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise _strange(url, text)
    return value


def _strange(url: str, text: str) -> ClientError:
    return ClientError(
        f"{_bare(url)} answered with something that no Triton server says: {text[:80]!r}.",
        "See whether another program listens there.",
    )


def _refused(response: requests.Response) -> ClientError:
    said = response.text[:2000]
    with suppress(ValueError, TypeError, KeyError):
        # A stream that fails at once says so as an event, with an error's status.
        said = str(json.loads(said.removeprefix("data: "))["error"])
    status = response.status_code
    if "unknown model" in said or "is not found" in said or "is not ready" in said:
        return ModelNotReady(
            f"The server has no such model ready (HTTP {status}): {said}",
            "client.index() lists the models and why one is not ready; client.load(name) loads one.",
        )
    if said.lstrip().startswith("<") or (not said and status not in (400, 404)):
        return ClientError(
            f"{_bare(response.url)} answered HTTP {status}, and not as a Triton server does.",
            "See whether another program, or a proxy, listens there.",
        )
    return _rejected(said or "(nothing)", status)


def _rejected(said: str, status: int | None = None) -> RequestRejected:
    code = f" (HTTP {status})" if status else ""
    fix = next((meaning for pattern, meaning in MEANINGS if pattern in said), "")
    return RequestRejected(f"The server refused the request{code}: {said}", fix)


def _grpc_error(error: Any, where: str) -> ClientError:
    said, status = error.message(), str(error.status())
    if "UNAVAILABLE" in status or "no longer in valid state" in said:
        return ServerUnreachable(f"Nothing answers at {where} over gRPC.", "See client.grpc_url.")
    if "unknown model" in said or "is not found" in said or "is not ready" in said:
        return ModelNotReady(f"The server has no such model ready: {said}", "client.index() lists them.")
    return _rejected(said)


def _grpc_event(result: Any) -> dict[str, Any]:
    response = result.get_response()
    event: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    for output in response.outputs:
        array = result.as_numpy(output.name).reshape(-1)
        values = [value.decode() if isinstance(value, bytes) else value.item() for value in array]
        event[output.name] = values[0] if len(values) == 1 else values  # as over HTTP
    return event


def _unreachable(url: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"Nothing answers at {_bare(url)}.",
        "Is the server started, and is that its address? A server opens its ports only when its models are loaded.",
    )


def _timed_out(url: str, timeout: float, *, generating: bool = False) -> RequestTimeout:
    busy = "See the server's log for what it is busy with, or give it longer."
    queued = "Ask for fewer tokens or give a longer timeout; client.metrics() shows whether requests queue."
    return RequestTimeout(f"{_bare(url)} gave no answer within {timeout:g} s.", queued if generating else busy)


def _bare(url: str) -> str:
    """The URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    if not parts.hostname:
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
