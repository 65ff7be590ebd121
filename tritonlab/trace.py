"""Triton's own trace of requests: which model was at work when.

    with serve(repository, trace=True) as server:
        with server.wait_ready().trace() as trace:
            server.client.generate("ensemble", "Hello", max_tokens=16)
        trace.figure()

Triton writes the clock at fixed points of each request, and of each step of an ensemble (its trace extension, level
TIMESTAMPS).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonlab.errors import TritonlabError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ON = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1", "log_frequency": "1"}
OFF = {"trace_level": ["OFF"]}
MS = 1e-6  # of a nanosecond
WAITING, WORKING = "#e0a030", "#3b82c4"


@dataclass(frozen=True)
class Span:
    """A model's part in a request; times in nanoseconds of the server's clock.

    Attributes:
        request: the number of the request, from 0.
        model: the model's name.
        start: Triton had the request.
        compute: the model began.
        end: Triton was done with it. For a decoupled model that is when it took the request, not when it answered.
    """

    request: int
    model: str
    start: int
    compute: int
    end: int


class Trace:
    """What was traced; empty until the `with` block of `server.trace()` ends."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def read(self, text: str) -> None:
        """Take the text of Triton's trace files, one after another.

        Raises:
            TritonlabError: it is none.
        """
        try:
            self._spans += _spans([entry for array in _arrays(text) for entry in array])
        except (ValueError, TypeError, KeyError) as error:
            raise TritonlabError(f"This is no trace of Triton's: {error!r}.", "Give the text of trace.json.") from None

    @property
    def spans(self) -> pd.DataFrame:
        """A row for each model of each request, in milliseconds since the request came.

        Columns: request, model, start, waited (in Triton's queue), until. A step of an ensemble counts until the step
        behind it has begun for the last time, since a decoupled one answers after its `end`.
        """
        import pandas as pd

        rows = [row for number in sorted({span.request for span in self._spans}) for row in self._rows(number)]
        return pd.DataFrame(rows, columns=["request", "model", "start", "waited", "until"])

    def figure(self, request: int = 0) -> Figure:
        """A lane for each model of a request, with a bar while it waits and one while it works.

        Raises:
            TritonlabError: there is no such request.
        """
        from matplotlib import pyplot as plt

        rows = self._rows(request)
        if not rows:
            raise TritonlabError(
                f"There is no request {request} in this trace of {len({s.request for s in self._spans})}.",
                "Send one within the block of server.trace().",
            )
        lanes = list(dict.fromkeys(model for _, model, *_ in rows))
        figure: Figure
        figure, axes = plt.subplots(figsize=(9, 1.2 + 0.45 * len(lanes)), layout="constrained")
        for _, model, start, waited, until in rows:
            lane = lanes.index(model)
            axes.barh(lane, waited, left=start, color=WAITING, height=0.5)
            axes.barh(lane, until - start - waited, left=start + waited, color=WORKING, height=0.5, linewidth=0.6,
                      edgecolor="white")  # fmt: skip
        for lane, model in enumerate(lanes):
            spent = sum(until - start for _, name, start, _, until in rows if name == model)
            last = max(until for _, name, _, _, until in rows if name == model)
            axes.annotate(f"{spent:.1f} ms", (last, lane), (5, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(lanes)), lanes)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("milliseconds since the request came (orange: in Triton's queue)")
        axes.set_title("One request and its models", loc="left")
        plt.close(figure)
        return figure

    def _rows(self, request: int) -> list[tuple[int, str, float, float, float]]:
        spans = sorted((span for span in self._spans if span.request == request), key=lambda span: span.start)
        if not spans:
            return []
        whole, *steps = spans
        models = list(dict.fromkeys(span.model for span in steps))
        rows: list[tuple[int, str, float, float, float]] = []
        for span in spans:
            behind = models[models.index(span.model) + 1 :][:1] if span is not whole else []
            until = max([span.end, *(other.start for other in steps if other.model in behind)])
            times = (span.start - whole.start, span.compute - span.start, until - whole.start)
            began, waited, ended = (round(time * MS, 3) for time in times)
            rows.append((request, span.model, began, waited, ended))
        return rows

    def __repr__(self) -> str:
        return f"Trace({len({span.request for span in self._spans})} requests)"


def options(file: str) -> list[str]:
    """The options for a `tritonserver` that can be told to trace into this file."""
    settings = ("mode=triton", f"triton,file={file}", "triton,log-frequency=1", "level=OFF", "rate=1")
    return [f"--trace-config={setting}" for setting in settings]


def _arrays(text: str) -> Iterator[list[dict[str, Any]]]:
    text = text.lstrip()
    while text:
        array, end = json.JSONDecoder().raw_decode(text)
        if not isinstance(array, list):
            raise TypeError(f"{type(array).__name__}, and not a list")
        yield array
        text = text[end:].lstrip()


def _spans(entries: Iterable[Mapping[str, Any]]) -> Iterator[Span]:
    """The entries of one trace have one id: some name the model, others a time."""
    traces: dict[int, dict[str, Any]] = {}
    for entry in entries:
        trace = traces.setdefault(entry["id"], {"parent": None})
        if "model_name" in entry:
            trace |= {"model": entry["model_name"], "parent": entry.get("parent_id")}
        for stamp in entry.get("timestamps", ()):
            trace[stamp["name"]] = max(stamp["ns"], trace.get(stamp["name"], 0))
    roots = [number for number, trace in sorted(traces.items()) if trace["parent"] not in traces]
    for number, trace in sorted(traces.items()):
        root = number
        while traces[root]["parent"] in traces:
            root = traces[root]["parent"]
        start = trace["REQUEST_START"]
        end = max(trace["REQUEST_END"], trace.get("INFER_RESPONSE_COMPLETE", 0) if root == number else 0)
        yield Span(roots.index(root), trace["model"], start, trace.get("COMPUTE_START", start), end)
