"""Reads a log, whole or as it is written.

Most lines of a long log say nothing that the report tells: a request came, a block was freed. A line that differs only
in its numbers from one that said nothing is passed over unread, a whole chunk at a time where no line says anything.
So is a line of a statement of the server's source that has never said anything, however its texts differ.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tritonlab.logs.events import SPOKEN_OF, Event, LineParser
from tritonlab.logs.findings import Diagnosis
from tritonlab.logs.report import LogReport
from tritonlab.logs.selection import numbered
from tritonlab.logs.sources import Kept, Source, as_bytes, chunks, growth, lasts
from tritonlab.logs.stages import DIGITS_TELL, Progress, Stage

LONGEST_LINE = 1 << 20
"""A line of more bytes is read as several."""
VARYING = b"0123456789abcdef"
"""What differs between two lines that say the same: times, numbers, addresses, ids."""
MOST_SHAPES, LONGEST_SHAPE = 20_000, 4096
MOST_RUNS = 500
PROGRESS = 1 << 22
"""Bytes after which a caller that waits is told how far the reading is."""

STATEMENT = re.compile(
    rb"(?:\d{4}-\d\d-\d\d[T ]\S+ (?:\| )?)?(?:\([\w -]+pid=\d+\) )?"
    rb"(?:I\d{4} \S+ +\d+ ([^\]\s]+:\d+)\]|(?:INFO|DEBUG) \d\d-\d\d \S+ \[?([^\]\s]+:\d+)\])"
)
"""What names the statement that wrote a line which reports no trouble: the place in Triton's or vLLM's source."""
OFTEN_ENOUGH = 64
"""So many lines of a statement must have said nothing before the next is passed over."""


class LogReader:
    """Reads a log that is still being written.

    Feed it text or bytes as they come, cut anywhere: the report is that of the whole.
    """

    def __init__(self, again: Callable[[], Iterator[bytes]] | None = None) -> None:
        """`again` gives the text a second time, for `LogReport.events`; without it the reader keeps what it is fed."""
        self._kept: Kept | None = None
        if again is None:
            self._kept = Kept()
            again = self._kept.chunks
        self._again = again
        self._parser = LineParser()
        self._progress = Progress()
        self._diagnosis = Diagnosis()
        self._runs: list[LogReport] = []
        self._first = 1
        self._lines = 0
        self._ruled = 0
        self._rest = b""
        # The shapes of lines that say nothing; of these, the ones that bear a time; the last such line.
        self._silent: set[bytes] = set()
        self._timed: set[bytes] = set()
        self._passed: tuple[bytes, int] | None = None
        # How often each statement has said nothing; less than nothing: it has said something.
        self._statements: dict[bytes, float] = {}

    def feed(self, chunk: str | bytes) -> None:
        """Take the next piece of the log."""
        data = as_bytes(chunk)
        if self._kept:
            self._kept.add(data)
        block, end, rest = data.rpartition(b"\n")
        if end:
            self._block(self._rest + block)
            self._rest = rest
        else:
            self._rest += data
        while len(self._rest) > LONGEST_LINE:
            self._line(self._rest[:LONGEST_LINE], self._lines + 1)
            self._rest = self._rest[LONGEST_LINE:]

    @property
    def stages(self) -> list[Stage]:
        """The stages as far as the lines that are complete tell; cheap enough to ask after every piece."""
        return self._progress.stages()

    def report(self) -> LogReport:
        """What the log says so far; a last line without an end counts."""
        unfinished = copy.copy(self)
        state = copy.deepcopy((self._parser, self._progress, self._diagnosis))
        unfinished._parser, unfinished._progress, unfinished._diagnosis = state
        for name in ("_runs", "_silent", "_timed", "_statements"):
            setattr(unfinished, name, getattr(self, name).copy())
        if self._rest:
            unfinished._line(self._rest, self._lines + 1)
        unfinished._catch_up()
        return unfinished._run_report(self._lines + bool(self._rest), unfinished._runs)

    def _block(self, block: bytes) -> None:
        lines, shapes = block.split(b"\n"), block.translate(None, VARYING).split(b"\n")
        if self._silent.issuperset(shapes):
            for back, shape in enumerate(reversed(shapes)):
                if shape in self._timed:
                    self._passed = (lines[-1 - back], self._lines + len(lines) - back)
                    break
        else:
            for number, (line, shape) in enumerate(zip(lines, shapes, strict=True), self._lines + 1):
                if shape in self._silent:
                    if shape in self._timed:
                        self._passed = (line, number)
                elif self._statements.get(_statement(line), 0) >= OFTEN_ENOUGH:
                    self._passed = (line, number)
                else:
                    self._line(line, number)
        self._lines += len(lines)

    def _line(self, line: bytes, number: int) -> None:
        self._catch_up()
        events = []
        told = False
        for start in range(0, len(line), LONGEST_LINE):
            part = line[start : start + LONGEST_LINE].decode(errors="replace")
            for event, text in self._parser.parse(part, number):
                events.append(event)
                told |= self._event(event, text)
        if told or len(events) > 1:
            if statement := _statement(line):
                self._statements[statement] = -math.inf
        elif not events or (events[0].level in SPOKEN_OF and not DIGITS_TELL.search(events[0].message)):
            self._pass_over(line, timed=bool(events and events[0].time))

    def _event(self, event: Event, text: str) -> bool:
        """Take one event; whether it said anything."""
        if self._progress.begins_anew(event):
            # The banner's title stands under a rule, which belongs to it.
            first = event.line - (self._ruled == event.line - 1)
            if len(self._runs) < MOST_RUNS:
                self._runs.append(self._run_report(first - 1, []))
            self._progress, self._diagnosis, self._first = Progress(), Diagnosis(), first
            self._silent.clear()
            self._timed.clear()
            self._statements.clear()
        if set(event.message) == {"="}:
            self._ruled = event.line
        told = self._progress.take(event, text)
        self._diagnosis.take(event, text, self._progress)
        return told

    def _pass_over(self, line: bytes, *, timed: bool) -> None:
        """From now on, lines like this one."""
        if statement := _statement(line):
            self._statements[statement] = self._statements.get(statement, 0) + 1
        if len(line) > LONGEST_SHAPE:
            return
        if max(len(self._silent), len(self._statements)) >= MOST_SHAPES:
            self._silent.clear()
            self._timed.clear()
            self._statements.clear()
        shape = line.translate(None, VARYING)
        self._silent.add(shape)
        if timed:
            self._timed.add(shape)

    def _catch_up(self) -> None:
        """What a line that was passed over still tells: how late it is."""
        if self._passed:
            line, number = self._passed
            self._passed = None
            for event, _ in self._parser.parse(line.decode(errors="replace"), number):
                self._progress.clocks(event)

    def _run_report(self, last: int, earlier: list[LogReport]) -> LogReport:
        again = self._again
        return LogReport(
            self._progress,
            self._diagnosis,
            earlier,
            (self._first, last),
            lambda start: numbered(again(), start, last, LONGEST_LINE),
        )


def _statement(line: bytes) -> bytes:
    found = STATEMENT.match(line)
    return found[found.lastindex or 0] if found else b""


def read_log(source: Source, told: Callable[[int], None] | None = None) -> LogReport:
    """Read a log: a path, its text, its bytes, a list of its lines, an open stream, a server or a container; gzip too.

    A string is a path when it is one line and names a file. Whatever the log holds, there is a report. Of several runs
    in one log it tells the last, and has the earlier ones in `runs`.

    Args:
        source: any of these.
        told: is told now and then how many bytes have been read, of a long log.

    Raises:
        LogUnreadable: the path cannot be opened, or the source is none of these.
    """
    reader = LogReader(again=(lambda: chunks(source)) if lasts(source) else None)
    read, say = 0, PROGRESS
    for chunk in chunks(source):
        reader.feed(chunk)
        read += len(chunk)
        if told and read >= say:
            told(read)
            say = read + PROGRESS
    return reader.report()


def follow(source: Path | IO[bytes], every_s: float = 0.5) -> Iterator[LogReport]:
    """Reports on a file that is being written or on a stream, one whenever more has come.

    A stream ends with its writer; on a file it goes on until the caller stops. A file that has become shorter has been
    begun anew, and so is the reading.

    Raises:
        LogUnreadable: the path cannot be opened.
    """
    reader = LogReader()
    for chunk in growth(source, every_s):
        if chunk is None:
            yield reader.report()
        elif chunk:
            reader.feed(chunk)
        else:
            reader = LogReader()
