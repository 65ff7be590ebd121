"""Whatever bytes come, there is a report; and it does not depend on how they were cut."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tritonlab.logs import LogReader, LogReport, read_log, reader

LOGS = sorted((Path(__file__).parents[2] / "data" / "logs").glob("*.log"))
LINES = sorted({line for path in LOGS for line in path.read_bytes().splitlines(keepends=True)})
VERDICTS = {"ready", "starting", "failed", "stopped", "built", "unknown"}

line = st.sampled_from(LINES)
# A line of a real log with bytes put in at some place: close to what the patterns look for, and wrong.
spoilt = st.builds(
    lambda a, b, at: a[: at % len(a)] + b + a[at % len(a) :], line, st.binary(max_size=8), st.integers(0)
)
log = st.lists(line | spoilt | st.binary(max_size=60), max_size=30).map(b"".join)


def all_of(report: LogReport) -> bytes:
    """Everything that a report says, in a form that can be compared."""
    frames = [frame.to_dict("list") for frame in (report.events, report.stages, report.models)]
    return pickle.dumps((report.verdict, report.kind, report.memory, report.services, report.facts,
                         repr(report.findings), repr(frames)))  # fmt: skip


def check(report: LogReport) -> None:
    assert report.verdict in VERDICTS
    assert report.verdict in repr(report)
    assert report.verdict in report._repr_html_()
    assert {"reached", "running", "failed", "missing"} >= set(report.stages.status)
    assert all(size == int(size) for size in report.memory.values())


@given(st.binary(max_size=400) | log)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_report(data: bytes) -> None:
    check(read_log(data))
    check(read_log(b"\x1f\x8b" + data))


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_a_report(text: str) -> None:
    check(read_log(text + "\n"))


@given(log, st.lists(st.integers(0, 5000), max_size=20))
@settings(max_examples=200, deadline=None)
def test_pieces_give_the_report_of_the_whole(data: bytes, cuts: list[int]) -> None:
    whole, pieces = LogReader(), LogReader()
    whole.feed(data)
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        pieces.feed(data[start:end])
        pieces.report()  # asking in between changes nothing
    assert all_of(pieces.report()) == all_of(whole.report())


def test_long_lines_are_cut_alike(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(reader, "LONGEST_LINE", 16)
    data = b"0123456789abcdef" * 3 + b"x\n" + b"y" * 16 + b"\nz"
    whole, pieces = LogReader(), LogReader()
    whole.feed(data)
    for byte in data:
        pieces.feed(bytes([byte]))
    assert all_of(pieces.report()) == all_of(whole.report())
    assert whole.report().events.line.tolist() == [1, 1, 1, 1, 2, 3]
