"""Some of a log's events: by level, component, stage and words, a page at a time, so that a long log stays readable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from tritonlab.errors import LogUnreadable
from tritonlab.logs.events import Event, LineParser
from tritonlab.logs.stages import Stage

NONE = "none"
"""The level, or the component, of a line that has none: a table's, a progress bar's, a traceback's."""
AFTER = "after the last stage"
LOOKED_AT = 100_000
"""Lines that one page looks at: a second's work or two, however long the log is."""
PAGE = 200

Lines = Callable[[int], Iterator[tuple[int, bytes]]]
"""The lines of a log from a number on, each with its number."""


class Page(NamedTuple):
    """Events that were asked for.

    Attributes:
        events: the first of them.
        found: how many there are in the lines that were looked at.
        lines: the first and the last line that were looked at.
        more: the line to go on from; None when the log's end was reached.
    """

    events: list[Event]
    found: int
    lines: tuple[int, int]
    more: int | None

    def __str__(self) -> str:
        first, last = self.lines
        seen = f"lines {first:,} to {last:,}" if last >= first else "no lines"
        if not self.events:
            return f"no such event in {seen}"
        shown = (
            f"the first {len(self.events):,} of {self.found:,}" if self.found > len(self.events) else f"{self.found:,}"
        )
        return f"{shown} {'event' if shown == '1' else 'events'} in {seen}"


def numbered(chunks: Iterator[bytes], first: int, last: int, longest: int) -> Iterator[tuple[int, bytes]]:
    """The lines from one number to another; a line of more than `longest` bytes comes in parts."""
    number, rest = 1, b""
    for chunk in chunks:
        if number + chunk.count(b"\n") < first:  # passed over whole, which is fast
            number += chunk.count(b"\n")
            rest = chunk.rpartition(b"\n")[2] if b"\n" in chunk else rest + chunk[: longest - len(rest)]
            continue
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if number > last:
                return
            if number >= first:
                yield from ((number, part) for part in _parts(line, longest))
            number += 1
        while len(rest) > longest:
            if number >= first:
                yield number, rest[:longest]
            rest = rest[longest:]
    if rest and first <= number <= last:
        yield from ((number, part) for part in _parts(rest, longest))


def events(lines: Iterator[tuple[int, bytes]]) -> Iterator[Event]:
    """The events of lines."""
    parser = LineParser()
    for number, line in lines:
        for event, _ in parser.parse(line.decode(errors="replace"), number):
            yield event


def page(
    lines: Lines,
    within: tuple[int, int],
    *,
    levels: Collection[str] = (),
    components: Collection[str] = (),
    words: str = "",
    start: int = 0,
    most: int = PAGE,
) -> Page:
    """The events within lines that have one of the levels, of the components, and the words; see `LogReport.page`."""
    first, end = max(within[0], start), within[1]
    last = min(end, first + LOOKED_AT - 1)
    found: list[Event] = []
    count, more, wanted = 0, last + 1 if last < end else None, words.casefold()
    for event in events(lines(first)):
        if event.line > last:
            break
        if (
            (levels and (event.level or NONE) not in levels)
            or (components and (event.component or NONE) not in components)
            or (wanted and wanted not in event.message.casefold())
        ):
            continue
        count += 1
        # The events of one line stay together, since a page begins with a line.
        if len(found) < most or event.line == found[-1].line:
            found.append(event)
        elif count == len(found) + 1:
            more = event.line
    return Page(found, count, (first, last), more)


def stage_lines(stages: Sequence[Stage], within: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Where in the log each stage is, by the line that shows it: from the one before it up to its own.

    A stage that was not done goes on to the log's end; behind the last that was, comes what a server says later.
    """
    told = sorted((stage for stage in stages if stage.line), key=lambda stage: stage.line or 0)
    found, begin = {}, within[0]
    for stage in told:
        undone = stage.status != "reached"
        line = within[1] if undone else stage.line or 0
        found[stage.name] = (min(begin, stage.line or 0), line)
        begin = line + 1
    if told and begin <= within[1]:
        found[AFTER] = (begin, within[1])
    return found


def known(name: str, stages: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Where a stage is.

    Raises:
        LogUnreadable: the log has no such stage.
    """
    if name not in stages:
        raise LogUnreadable(f"The log has no stage {name!r}.", f"It has {', '.join(stages) or 'none'}.")
    return stages[name]


def _parts(line: bytes, longest: int) -> list[bytes]:
    return [line[at : at + longest] for at in range(0, len(line), longest)] or [b""]
