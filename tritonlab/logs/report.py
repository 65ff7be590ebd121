"""`read_log` and `LogReader`: a whole log, or one that is still being written, as a `LogReport`."""

from __future__ import annotations

import codecs
import copy
import html
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tritonlab.errors import LogUnreadable
from tritonlab.logs.events import Event, LineParser
from tritonlab.logs.findings import Diagnosis, Finding
from tritonlab.logs.stages import MEMORY, Progress, Stage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CHUNK = 1 << 16
LONGEST_LINE = 1 << 20
"""A line of more bytes is read as several."""
LONGEST_PATH = 4096
GZIP = b"\x1f\x8b"
GIB = 2**30
COLORS = {"reached": "#3b82c4", "running": "#e0a030", "failed": "#c0392b"}

Source = str | bytes | os.PathLike[str] | IO[str] | IO[bytes] | Iterable[str | bytes]


class LogReport:
    """What a log says.

    Attributes:
        verdict: "ready", "starting", "failed", "stopped", "built" or "unknown".
        kind: what wrote it: "triton-vllm", "triton-vllm-cpu", "triton-tensorrtllm", "triton", "vllm",
            "vllm-cpu", "trtllm-build" or "unknown".
        memory: bytes by use, under the keys of `tritonlab.logs.MEMORY`; what the log does not say is absent.
        services: "grpc", "http" and "metrics" -> "host:port".
        facts: other figures; `tritonlab.logs.FACTS` has the keys with their units.
        findings: the root cause of a failure first, then warnings, which a healthy log may have too.
    """

    def __init__(self, events: list[Event], progress: Progress, diagnosis: Diagnosis) -> None:
        self._events = events
        self._stages = progress.stages()
        self._models = list(progress.models.values())
        self.verdict: str = progress.verdict
        if self.verdict in {"unknown", "starting", "ready"} and diagnosis.proves_failure(progress):
            self.verdict = "failed"
        self.kind: str = progress.kind
        self.memory: dict[str, int] = {key: progress.memory[key] for key in MEMORY if key in progress.memory}
        self.services: dict[str, str] = dict(progress.services)
        self.facts: dict[str, Any] = {**progress.facts, **progress.clock_facts()}
        self.findings: list[Finding] = diagnosis.findings(progress, self.verdict)

    @property
    def events(self) -> pd.DataFrame:
        """Every message: time, clock, level, component, source, pid, message, line, docker_time.

        A line bears up to two times: its writer's (clock "container") and docker's. `time` is the writer's
        where there is one. Without a year in the log it is in 1904.
        """
        import pandas as pd

        frame = pd.DataFrame(self._events, columns=list(Event._fields))
        times = {name: pd.to_datetime(frame[name], errors="coerce") for name in ("time", "docker_time")}
        return frame.assign(**times, pid=frame["pid"].astype("Int64"))

    @property
    def stages(self) -> pd.DataFrame:
        """The stages that ought to come: stage, status, start, seconds, evidence, line (see `Stage`)."""
        import pandas as pd

        frame = pd.DataFrame(
            [astuple(stage) for stage in self._stages],
            columns=["stage", "status", "start", "seconds", "evidence", "line"],
        )
        start = pd.to_datetime(frame["start"], errors="coerce")
        return frame.assign(start=start, seconds=frame["seconds"].astype(float), line=frame["line"].astype("Int64"))

    @property
    def models(self) -> pd.DataFrame:
        """The models that Triton spoke of: name, version, status (READY, LOADING or UNAVAILABLE), reason."""
        import pandas as pd

        rows = [(model.name, model.version, model.status, model.reason) for model in self._models]
        return pd.DataFrame(rows, columns=["name", "version", "status", "reason"])

    def timeline(self) -> Figure:
        """A bar per stage, at its time and as long as it took; a stage without a time has no bar."""
        from matplotlib import pyplot as plt

        timed = [(stage, stage.start, stage.seconds or 0.0) for stage in self._stages if stage.start]
        first = min((start for _, start, _ in timed), default=None)
        figure: Figure
        figure, axes = plt.subplots(figsize=(9, 1.2 + 0.36 * max(len(timed), 1)), layout="constrained")
        for row, (stage, start, seconds) in enumerate(timed):
            left = (start - first).total_seconds() if first else 0.0
            axes.barh(row, seconds, left=left, color=COLORS[stage.status], height=0.6, linewidth=1.5,
                      edgecolor=COLORS[stage.status])  # fmt: skip
            axes.annotate(_seconds(seconds), (left + seconds, row), (5, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(timed)), [stage.name for stage, _, _ in timed])
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("seconds since the first stage began")
        axes.set_title(f"Where the time went ({self.verdict})", loc="left")
        plt.close(figure)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; `report.schema.json` beside this module names the keys."""
        stages = [{**asdict(stage), "start": stage.start and stage.start.isoformat()} for stage in self._stages]
        models = [{"name": m.name, "version": m.version, "status": m.status, "reason": m.reason} for m in self._models]
        return {
            "verdict": self.verdict,
            "kind": self.kind,
            "stages": stages,
            "memory": self.memory,
            "models": models,
            "services": self.services,
            "facts": self.facts,
            "findings": [asdict(found) for found in self.findings],
        }

    def __repr__(self) -> str:
        lines = [f"LogReport: {self.verdict} ({self.kind}, {len(self._events)} messages{self._span()})"]
        for heading, rows in self._sections():
            lines.append(f"{heading}:")
            widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{self.verdict}</b>: {self.kind}, {len(self._events)} messages{self._span()}</p>"]
        for heading, rows in self._sections():
            cells = "".join(
                "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            )
            parts.append(f"<table><caption style='text-align:left'><b>{heading}</b></caption>{cells}</table>")
        return "".join(parts)

    def _span(self) -> str:
        told = {"elapsed_seconds": "from first to last", "startup_seconds": "to the last service"}
        texts = [f", {self.facts[key]:.1f} s {what}" for key, what in told.items() if key in self.facts]
        if offset := self.facts.get("clock_offset_seconds"):
            texts.append(f", docker's clock is {offset} s ahead of the container's")
        return "".join(texts)

    def _sections(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """The report as tables of text: (heading, rows); empty ones are left out."""
        found: list[tuple[str, ...]] = [(f.id, f"line {f.line}", f"{f.title}: {f.cause}", f.fix) for f in self.findings]
        models: list[tuple[str, ...]] = [(m.name, m.version, m.status, m.reason) for m in self._models]
        stages: list[tuple[str, ...]] = [
            (s.name, s.status, _seconds(s.seconds), f"line {s.line}" if s.line else "") for s in self._stages
        ]
        memory: list[tuple[str, ...]] = [
            (use, f"{size / GIB:.4g} GiB", MEMORY[use]) for use, size in self.memory.items()
        ]
        services: list[tuple[str, ...]] = [*self.services.items()]
        headings = ("findings", "models", "services", "stages", "memory")
        for heading, rows in zip(headings, (found, models, services, stages, memory), strict=True):
            if rows:
                yield heading, rows


class LogReader:
    """Reads a log that is still being written.

    Feed it text or bytes as they come, cut anywhere: the report is that of the whole.
    """

    def __init__(self) -> None:
        self._parser = LineParser()
        self._progress = Progress()
        self._diagnosis = Diagnosis()
        self._events: list[Event] = []
        self._rest = b""
        self._lines = 0

    def feed(self, chunk: str | bytes) -> None:
        """Take the next piece of the log."""
        *lines, rest = _as_bytes(chunk).split(b"\n")
        for line in lines:
            self._take(self._rest + line)
            self._rest = b""
            self._lines += 1
        self._rest += rest
        while len(self._rest) > LONGEST_LINE:
            self._take(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]

    @property
    def stages(self) -> list[Stage]:
        """The stages as far as the lines that are complete tell; cheap enough to ask after every piece."""
        return self._progress.stages()

    def report(self) -> LogReport:
        """What the log says so far; a last line without an end counts."""
        unfinished = copy.copy(self)
        parts = copy.deepcopy((self._parser, self._progress, self._diagnosis))
        unfinished._parser, unfinished._progress, unfinished._diagnosis = parts
        unfinished._events = self._events.copy()
        unfinished._take(self._rest)
        return LogReport(unfinished._events, unfinished._progress, unfinished._diagnosis)

    def _take(self, line: bytes) -> None:
        for start in range(0, len(line), LONGEST_LINE):
            part = line[start : start + LONGEST_LINE].decode(errors="replace")
            for event, text in self._parser.parse(part, self._lines + 1):
                self._events.append(event)
                self._progress.take(event, text)
                self._diagnosis.take(event, text, self._progress)


def read_log(source: Source) -> LogReport:
    """Read a log: a path, its text, its bytes, a list of its lines or an open stream; gzip too.

    A string is a path when it is one line and names a file. Whatever the log holds, there is a report.

    Raises:
        LogUnreadable: the path cannot be opened, or the source is none of these.
    """
    reader = LogReader()
    for chunk in _utf8(_unzipped(_chunks(source))):
        reader.feed(chunk)
    return reader.report()


def follow(path: Path, every_s: float = 0.5) -> Iterator[LogReport]:
    """Reports on a file that is being written, one whenever it has grown; ends never, the caller does.

    A file that has become shorter has been begun anew, and so is the reading.

    Raises:
        LogUnreadable: the path cannot be opened.
    """
    reader, read = LogReader(), 0
    while True:
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < read:
                    reader, read = LogReader(), 0
                file.seek(read)
                grown = False
                while chunk := file.read(CHUNK):
                    reader.feed(chunk)
                    read, grown = read + len(chunk), True
        except OSError as error:
            why = error.strerror or str(error)
            raise LogUnreadable(f"The log {path} cannot be opened: {why}.", "Give the path of a log file.") from error
        if grown:
            yield reader.report()
        time.sleep(every_s)


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, str) and not _is_path(source):
        yield source.encode(errors="replace")
    elif isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            with path.open("rb") as file:
                yield from iter(lambda: file.read(CHUNK), b"")
        except OSError as error:
            why = error.strerror or str(error)
            raise LogUnreadable(f"The log {path} cannot be opened: {why}.", "Give the path of a log file.") from error
    elif hasattr(source, "read"):
        while chunk := source.read(CHUNK):
            yield _as_bytes(chunk)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        for line in source:
            data = _as_bytes(line)
            yield data if data.endswith(b"\n") else data + b"\n"
    else:
        raise LogUnreadable(
            f"A log cannot be read from an object of type {type(source).__name__}.",
            "Give a path, text, bytes, a list of lines or an open file.",
        )


def _as_bytes(piece: object) -> bytes:
    if isinstance(piece, str):
        return piece.encode(errors="replace")
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise LogUnreadable(
        f"A log consists of text or bytes, and this source gives {type(piece).__name__}.",
        "Give a path, text, bytes, a list of lines or an open file.",
    )


def _is_path(text: str) -> bool:
    """Several lines are a log; a single one is a path if it names a file or looks like nothing else."""
    if not 0 < len(text) < LONGEST_PATH or "\n" in text or "\0" in text:
        return False
    looks_like_one = text.endswith((".log", ".txt", ".gz")) or ("/" in text and " " not in text)
    return looks_like_one or Path(text).is_file()


def _unzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks as they are, or unpacked if the first bytes are gzip's; broken gzip ends where it breaks."""
    head = b""
    while len(head) < len(GZIP) and (chunk := next(chunks, b"")):
        head += chunk
    if not head.startswith(GZIP):
        yield head
        yield from chunks
        return
    unpack = zlib.decompressobj(wbits=31)
    data = head
    while data:
        try:
            yield unpack.decompress(data, CHUNK)
        except zlib.error:
            return
        data = unpack.unconsumed_tail
        if unpack.eof:
            data = unpack.unused_data or next(chunks, b"")
            unpack = zlib.decompressobj(wbits=31)
        elif not data:
            data = next(chunks, b"")


def _utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks in UTF-8; PowerShell redirects into UTF-16, and says so in the first two bytes."""
    head = b""
    while len(head) < len(codecs.BOM_UTF8) and (chunk := next(chunks, b"")):
        head += chunk
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        yield decoder.decode(head).encode(errors="replace")
        yield from (decoder.decode(chunk).encode(errors="replace") for chunk in chunks)
    else:
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from chunks


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
