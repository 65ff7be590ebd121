"""Triton's trace of a request, read and drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonlab.errors import TritonlabError
from tritonlab.trace import Trace


def span(number: int, model: str, start: int, end: int, parent: int = 0) -> list[dict[str, Any]]:
    """The entries of one trace, as Triton 2.51 writes them; times in ms."""
    named = {"id": number, "model_name": model, "model_version": 1} | ({"parent_id": parent} if parent else {})
    times = {"REQUEST_START": start, "QUEUE_START": start, "COMPUTE_START": start + 1, "REQUEST_END": end}
    return [named, *({"id": number, "timestamps": [{"name": n, "ns": ns * 10**6}]} for n, ns in times.items())]


STREAM = [
    *span(4, "postprocessing", 130, 132, parent=1),
    *span(5, "postprocessing", 150, 152, parent=1),
    *span(3, "tensorrt_llm", 105, 110, parent=1),
    *span(2, "preprocessing", 101, 104, parent=1),
    *span(1, "ensemble", 100, 153),
]
TEXT = json.dumps(STREAM) + json.dumps(span(6, "alone", 200, 230)) + "\n"


def read(text: str) -> Trace:
    trace = Trace()
    trace.read(text)
    return trace


def test_the_steps_of_a_request() -> None:
    spans = read(TEXT).spans
    assert list(spans.request) == [0] * 5 + [1]
    first = spans[spans.request == 0]
    assert list(first.model) == ["ensemble", "preprocessing", "tensorrt_llm", "postprocessing", "postprocessing"]
    assert list(first.start) == [0, 1, 5, 30, 50]
    assert list(first.waited) == [1] * 5
    # The engine took the request at 10 ms, and answered for the last time when postprocessing began for the last time.
    assert list(first.until) == [53, 5, 50, 32, 52]


def test_the_figure_has_a_lane_for_each_model() -> None:
    [axes] = read(TEXT).figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("ensemble", "preprocessing", "tensorrt_llm", "postprocessing")
    ]
    assert {text.get_text() for text in axes.texts} == {"53.0 ms", "4.0 ms", "45.0 ms"}


@pytest.mark.parametrize(
    "text", ["[", "{}", '[{"id": 0}]', '[{"id": 1}]', '[{"id": 1, "model_name": "x"}]', "[1]", "trace"]
)
def test_what_is_no_trace(text: str) -> None:
    with pytest.raises(TritonlabError, match="no trace of Triton's"):
        read(text)


def test_a_request_that_was_not_traced() -> None:
    with pytest.raises(TritonlabError, match="no request 2 in this trace of 2"):
        read(TEXT).figure(2)
    assert read("").spans.empty
