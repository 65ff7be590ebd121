"""The handle that every target gives: address, readiness, models, log, stop."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from tritonlab import trace
from tritonlab.client import Client
from tritonlab.errors import ClientError, ServerFailed, TritonlabError
from tritonlab.trace import Trace

if TYPE_CHECKING:
    from tritonlab.logs import LogReport, Stage

LOOK_EVERY_S = 0.2
TRACE_WAIT_S = 3.0


class Server:
    """A Triton server and how to reach it.

    Attributes:
        target: "local", "docker" or "remote".
        url, grpc_url, metrics_url: the three services, e.g. "http://127.0.0.1:8000".
        models: the models that `wait_ready` waits for; None waits for all that the server loads.
        client: a `Client` for this server.
    """

    target: str

    def __init__(self, client: Client, models: Iterable[str] | None) -> None:
        self.client = client
        self.models = (models,) if isinstance(models, str) else None if models is None else tuple(models)

    @property
    def url(self) -> str:
        return self.client.url

    @property
    def grpc_url(self) -> str | None:
        return self.client.grpc_url

    @property
    def metrics_url(self) -> str | None:
        return self.client.metrics_url

    def live(self) -> bool:
        """Does the server answer at all?"""
        return self.client.live()

    def ready(self) -> bool:
        """Are the server and every model in `models` ready?"""
        try:
            return self.client.ready() and all(map(self.client.model_ready, self.models or ()))
        except ClientError:
            return False

    def load(self, model: str) -> None:
        """Load or reload a model; raises ClientError with the server's reason when it fails."""
        self.client.load(model)

    def unload(self, model: str) -> None:
        """Unload a model; returns when it has gone."""
        self.client.unload(model)

    def wait_ready(
        self, timeout: float = 600.0, *, quiet: bool = False, watch: Callable[[], object] | None = None
    ) -> Self:
        """Wait until the server and its models are ready, telling what it does meanwhile.

        Args:
            timeout: seconds.
            quiet: print nothing.
            watch: called some times a second while waiting, e.g. to show `stages` and `tail`.

        Raises:
            ServerFailed: it ended, a model failed, or the time ran out; the error says in which stage and why.
        """
        started = time.monotonic()
        while not self.ready():
            self._look(quiet=quiet)
            if watch:
                watch()
            if time.monotonic() - started > timeout:
                raise self._failure(f"The server at {self.url} was not ready after {timeout:g} s.")
            time.sleep(LOOK_EVERY_S)
        self._look(quiet=quiet)
        return self

    def wait(self) -> NoReturn:
        """Block for as long as the server runs, e.g. in a script that serves until Ctrl-C.

        Raises:
            ServerFailed: it has ended by itself.
        """
        while not self._has_ended():
            time.sleep(LOOK_EVERY_S)
        raise self._failure(f"The server at {self.url} has ended.")

    def report(self) -> LogReport:
        """What the server's log says so far."""
        raise NotImplementedError

    def stages(self) -> list[Stage]:
        """How far the start has come; none where the log is not ours to read."""
        return []

    def tail(self) -> list[str]:
        """The log's last lines that say something; none where the log is not ours to read."""
        return []

    @contextmanager
    def trace(self) -> Iterator[Trace]:
        """Follow the requests that are sent within the block through the models.

        Raises:
            TritonlabError: the server was not started with `trace=True`, or is not ours.
        """
        before, found = len(self._trace_text()), Trace()
        self.client.trace_settings(**trace.ON)
        try:
            yield found
        finally:
            self.client.trace_settings(**trace.OFF)
        found.read(self._whole_trace(before)[before:])

    def stop(self) -> None:
        """End the server and what belongs to it; harmless when called again."""
        raise NotImplementedError

    def _trace_text(self) -> str:
        """What Triton has written of its trace so far."""
        raise TritonlabError(
            f"The server at {self.url} writes its trace where it runs.", "Read the file there, and give it to Trace."
        )

    def _whole_trace(self, before: int) -> str:
        """The trace once nothing is added any more: Triton writes a request down a moment after its answer."""
        last, now = "", self._trace_text()
        deadline = time.monotonic() + TRACE_WAIT_S
        while time.monotonic() < deadline and (now != last or len(now) <= before):
            time.sleep(LOOK_EVERY_S)
            last, now = now, self._trace_text()
        return now

    def _look(self, *, quiet: bool) -> None:
        """Called while waiting: tell what is new, raise ServerFailed when waiting has become pointless."""
        if failed := self._failed_models():
            raise self._failure(f"Triton runs, but {', '.join(failed)} failed to load.")

    def _failed_models(self) -> list[str]:
        try:
            index = self.client.index() if self.client.live() else None
        except ClientError:
            index = None  # it answers no more: the next look tells why
        if index is None:
            return []
        failed = index[(index.state == "UNAVAILABLE") & (index.reason != "") & (index.reason != "unloaded")]
        return [name for name in failed.name if self.models is None or name in self.models]

    def _has_ended(self) -> bool:
        return not self.live()

    def _failure(self, what: str) -> ServerFailed:
        return ServerFailed(what)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "ready" if self.ready() else "live" if self.live() else "not answering"
        names = ", ".join(self.models) if self.models else "all that it loads" if self.models is None else "none"
        return f"Server({self.target}, {self.url}, {state}, models: {names})"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"
