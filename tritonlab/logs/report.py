"""Read a log into a report: `read_log` for what is there, `LogReader` for what is still coming."""

from __future__ import annotations

import codecs
import gzip
import html
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tritonlab.errors import LogUnreadable
from tritonlab.logs import stages as tables
from tritonlab.logs.events import Event, EventParser

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

EVENT_COLUMNS = ("time", "clock", "level", "component", "source", "pid", "message", "line")
STAGE_COLUMNS = ("stage", "status", "start", "seconds", "evidence", "line")
QUARTER_HOUR = 900

_STOPPED = re.compile(r"^Signal \(\d+\) received|Shutting down|Waiting for in-flight requests")
_LAST_WORD = re.compile(r"error: creating server: |^EngineCore failed to start|EngineDeadError|the vLLM engine of model \S+ has died")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(?P<kind>[A-Z]\w*(?:Error|Exception)): (?P<text>.+)")
_ECHO = re.compile(r"Engine core initialization failed|EngineDeadError|UnicodeEncodeError")
_BUILD = re.compile(r"Set gpt_attention_plugin to|Build TensorRT engine|Engine generation completed")
_CPU = re.compile(r"CUDA memory pool disabled|cpu_worker|platform cpu")


@dataclass(frozen=True)
class Finding:
    """Something wrong in a log. `severity` is "error" or "warning"; `line` is the evidence's number."""

    id: str
    severity: str
    title: str
    cause: str
    fix: str
    evidence: str
    line: int
    docs: str = ""


@dataclass
class Stage:
    """A stage as far as it came: "missing", "running", "reached" or "failed"; `seconds` None when it cannot be told."""

    name: str
    status: str = "missing"
    start: datetime | None = None
    seconds: float | None = None
    evidence: str = ""
    line: int | None = None
    rule: Any = field(default=None, repr=False)


class LogReader:
    """Reads a log that comes in pieces of any size; the report is the same as of the whole."""

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = ""
        self._parser = EventParser()
        self._events: list[Event] = []
        self._stages = {rule: Stage(rule.name, rule=rule) for rule in tables.STAGES}
        self._memory: dict[str, int] = {}
        self._facts: dict[str, Any] = {}
        self._exact: dict[str, int] = {}
        self._services: dict[str, str] = {}
        self._models: dict[tuple[str, str], tuple[str, str]] = {}
        self._seen: set[str] = set()
        self._offset: float | None = None
        self._last_exception: Event | None = None
        self._failure: Event | None = None
        self._ready_line = self._stopped_line = self._failed_line = 0

    def feed(self, chunk: str | bytes) -> None:
        """Take the next piece of the log, cut anywhere."""
        text = chunk if isinstance(chunk, str) else self._decode(chunk)
        # A carriage return ends a line too: progress bars are drawn with it.
        lines = re.split(r"\r\n|\n|\r(?!$)", self._rest + text)
        self._rest = lines.pop()
        for line in lines:
            self._take(line)

    @property
    def stages(self) -> list[Stage]:
        """The stages of this kind of log, in order."""
        kind = self._kind()
        return [stage for rule, stage in self._stages.items() if kind in rule.kinds]

    def report(self) -> LogReport:
        """What the log says so far; a last line without its end is read too, on a copy."""
        import copy

        reader = self
        if self._rest.strip("\r"):
            reader = copy.deepcopy(self)
            reader._take(reader._rest.rstrip("\r"))
        return LogReport(reader)

    def _decode(self, chunk: bytes) -> str:
        if self._decoder is None:
            wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
            self._decoder = codecs.getincrementaldecoder(wide.get(chunk[:2], "utf-8"))(errors="replace")
        return self._decoder.decode(chunk)

    def _take(self, line: str) -> None:
        event = self._parser.parse(line)
        self._events.append(event)
        if event.component:
            self._seen.add(event.component)
        if self._offset is None and event.docker_time and event.clock == "container" and event.time:
            apart = (event.docker_time - event.time).total_seconds()
            self._offset = round(apart / QUARTER_HOUR) * QUARTER_HOUR
        message = event.message
        if not message:
            return
        for mark, pattern in (("cpu", _CPU), ("build", _BUILD)):
            if mark not in self._seen and (pattern.search(message) or pattern.search(event.source)):
                self._seen.add(mark)
        if "tensorrtllm" in message or "tensorrt_llm" in message:
            self._seen.add("trtllm-backend")
        self._mark_stages(event)
        self._note_figures(message)
        self._note_models(event)
        self._note_outcome(event)

    def _mark_stages(self, event: Event) -> None:
        for rule, stage in self._stages.items():
            done = rule.done.search(event.message) if rule.done else None
            begun = rule.pattern.search(event.message)
            match = done or begun
            if not match or (stage.status == "reached" and not done):
                continue
            now = self._instant(event)
            took = next((v for v in match.groupdict().values() if v), None)
            if stage.status == "reached" and not took:
                continue
            if stage.status == "missing":
                stage.start = now
            if took and now:
                stage.start = now - timedelta(seconds=tables.seconds(took))
            stage.seconds = tables.seconds(took) if took else _apart(stage.start, now)
            if rule.done is None or done:
                stage.status = "reached"
            else:
                stage.status = "running"
            stage.evidence, stage.line = event.message, event.line

    def _note_figures(self, message: str) -> None:
        for rule in tables.FIGURES:
            match = rule.pattern.search(message)
            if not match:
                continue
            text = match[1]
            if rule.unit == 0:
                self._facts[rule.key] = text
                continue
            value = tables.seconds(text) * rule.unit if text[0] != "-" else -tables.seconds(text[1:]) * rule.unit
            digits = len(text.partition(".")[2])
            if rule.target == "memory":
                # vLLM says some figures twice, once rounded: the one with more digits is kept.
                if digits >= self._exact.get(rule.key, 0):
                    self._memory[rule.key], self._exact[rule.key] = round(value), digits
            else:
                whole = rule.unit > 1 or not digits
                self._facts[rule.key] = round(value) if whole else value

    def _note_models(self, event: Event) -> None:
        for service, pattern in tables.SERVICES:
            if match := pattern.search(event.message):
                self._services[service] = match[1]
        if match := tables.MODEL_ROW.search(event.message):
            reason = (match["reason"] or "").strip()
            self._models[match["name"], match["version"]] = (match["status"], reason)
        elif match := tables.FAILED_MODEL.search(event.message):
            self._models[match["name"], match["version"]] = ("UNAVAILABLE", _first_line(match["reason"]))
        elif match := tables.LOADED_MODEL.search(event.message):
            if not any(name == match["name"] for name, _ in self._models):
                self._models[match["name"], "1"] = ("READY", "")

    def _note_outcome(self, event: Event) -> None:
        message = event.message
        if _EXCEPTION.match(message) and not _ECHO.search(message):
            self._last_exception = event
        if "Started HTTPService at" in message or "Application startup complete" in message:
            self._ready_line = event.line
        if _STOPPED.search(message):
            self._stopped_line = self._stopped_line or event.line
        failed = _LAST_WORD.search(message) or tables.FAILED_MODEL.search(message)
        if failed and not self._stopped_line:
            self._failed_line = event.line
            if self._failure is None or "EngineCore failed" in self._failure.message:
                self._failure = event

    def _instant(self, event: Event) -> datetime | None:
        """The event's time on the container's clock, or on docker's if that is the only one."""
        if event.time and event.clock == "docker" and self._offset:
            return event.time - timedelta(seconds=self._offset)
        return event.time

    def _kind(self) -> str:
        if "triton" not in self._seen:
            if "build" in self._seen or ("tensorrt-llm" in self._seen and "vllm" not in self._seen):
                return tables.BUILD
            return tables.VLLM
        if "vllm" in self._seen:
            return tables.CPU if "cpu" in self._seen else tables.GPU
        return tables.TRTLLM if "trtllm-backend" in self._seen else tables.TRITON


class LogReport:
    """What a log says.

    Attributes:
        verdict: "ready", "starting", "failed", "stopped", "built" or "unknown".
        kind: "triton-vllm", "triton-vllm-cpu", "triton-trtllm", "triton", "vllm" or "trtllm-build".
        memory: weights, kv_cache, activations, non_torch, cuda_graphs, pinned_pool, cuda_pool, peak_build in bytes;
            what the log does not say is not in it.
        services: "grpc", "http", "metrics" -> "host:port".
        facts: other figures: seconds under names that end in _seconds, bytes under names that end in _memory,
            versions as text, counts as numbers; clock_offset_seconds is docker's clock minus the container's.
        findings: what is wrong, the cause first.
    """

    def __init__(self, reader: LogReader) -> None:
        self._events = reader._events
        self._models = reader._models
        self.kind = reader._kind()
        self.stage_list = reader.stages
        self.memory = dict(reader._memory)
        self.services = dict(reader._services)
        self.facts = dict(reader._facts)
        if reader._offset is not None:
            self.facts["clock_offset_seconds"] = reader._offset
        times = [t for t in map(reader._instant, self._events) if t]
        if times:
            self.facts["log_seconds"] = (max(times) - min(times)).total_seconds()
        self.verdict = _verdict(reader, self)
        self.findings = _findings(reader) if self.verdict == "failed" else []
        if self.verdict == "failed":
            for stage in self.stage_list:
                if stage.status == "running":
                    stage.status = "failed"

    @property
    def events(self) -> pd.DataFrame:
        """Every line: time, clock, level, component, source, pid, message, line."""
        import pandas as pd

        rows = [[getattr(event, name) for name in EVENT_COLUMNS] for event in self._events]
        return pd.DataFrame(rows, columns=list(EVENT_COLUMNS)).astype({"pid": "Int64"})

    @property
    def stages(self) -> pd.DataFrame:
        """The stages that such a log ought to show: stage, status, start, seconds, evidence, line."""
        import pandas as pd

        rows = [(s.name, s.status, s.start, s.seconds, s.evidence, s.line) for s in self.stage_list]
        return pd.DataFrame(rows, columns=list(STAGE_COLUMNS)).astype({"line": "Int64"})

    @property
    def models(self) -> pd.DataFrame:
        """Every model that the log names as loaded or failed: name, version, status, reason."""
        import pandas as pd

        rows = [(*key, *value) for key, value in self._models.items()]
        return pd.DataFrame(rows, columns=["name", "version", "status", "reason"])

    def timeline(self) -> Figure:
        """A figure: one bar a stage, at its place in time, labelled with its seconds."""
        from matplotlib.figure import Figure

        timed = [stage for stage in self.stage_list if stage.start and stage.seconds is not None]
        figure = Figure(figsize=(9, 0.4 * max(len(timed), 1) + 1.2), layout="constrained")
        axes = figure.subplots()
        if timed:
            zero = min(stage.start for stage in timed if stage.start)
            for row, stage in enumerate(timed):
                left = _apart(zero, stage.start) or 0.0
                axes.barh(row, stage.seconds or 0.0, left=left, color="#0969da", height=0.6)
                axes.plot([left], [row], marker="|", color="#24292f", markersize=14)
                axes.annotate(
                    f" {stage.seconds:.2f} s",
                    (left + (stage.seconds or 0.0), row),
                    va="center",
                    fontsize=9,
                )
            axes.set_yticks(range(len(timed)), [stage.name for stage in timed])
            axes.invert_yaxis()
            axes.margins(x=0.12)
        axes.set_xlabel("seconds since the first stage")
        axes.set_title(f"Where the time went: {self.kind}, {self.verdict}")
        return figure

    def __repr__(self) -> str:
        lines = [f"{self.verdict}: a log of kind {self.kind}, {len(self._events)} lines"]
        for stage in self.stage_list:
            took = f"{stage.seconds:8.2f} s" if stage.seconds else f"{'':10}"
            lines.append(f"  {stage.status:8} {took}  {stage.name}")
        for (name, version), (status, reason) in self._models.items():
            lines.append(f"  model {name}:{version} {status}{': ' + reason if reason else ''}")
        for service, address in self.services.items():
            lines.append(f"  {service} at {address}")
        for name, size in self.memory.items():
            lines.append(f"  {name}: {_size(size)}")
        for finding in self.findings:
            lines.append(f"  {finding.severity}, line {finding.line}: {finding.title}: {finding.cause}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def read_log(source: str | bytes | os.PathLike[str] | Iterable[str] | IO[Any]) -> LogReport:
    """Read a log: a path, its text, its bytes, its lines, or an open stream; gzip is unpacked.

    A text of one line is taken for a path if a file of that name exists or if it looks like one.

    Raises:
        LogUnreadable: the path cannot be opened, or the source is of no such kind.
    """
    reader = LogReader()
    for chunk in _chunks(source):
        reader.feed(chunk)
    return reader.report()


def _chunks(source: Any) -> Iterable[str | bytes]:
    if isinstance(source, str) and _is_path(source):
        source = Path(source)
    if isinstance(source, os.PathLike):
        source = _file_bytes(Path(source))
    if isinstance(source, bytes):
        return [_unpacked(source)]
    if isinstance(source, str):
        return [source]
    if hasattr(source, "read"):
        return iter(lambda: source.read(1 << 20), type(source.read(0))())
    if isinstance(source, Iterable):
        return (line if line.endswith("\n") else f"{line}\n" for line in source)
    raise LogUnreadable(
        f"A log cannot be read from {type(source).__name__}.", "Give a path, text, bytes, lines or an open file."
    )


def _is_path(text: str) -> bool:
    if "\n" in text or not text or len(text) > 4096 or "\0" in text:
        return False
    looks = text.endswith((".log", ".txt", ".gz")) or (("/" in text or "\\" in text) and " " not in text)
    return looks or Path(text).is_file()


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LogUnreadable(f"There is no file {path}.", "Check the path; `tritonlab logs -` reads a pipe.") from None
    except OSError as error:
        raise LogUnreadable(f"{path} cannot be read: {error.strerror}.", "Give a file that you may read.") from None


def _unpacked(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError):
            return data
    return data


def _verdict(reader: LogReader, report: LogReport) -> str:
    names = {stage.name: stage.status for stage in report.stage_list}
    unavailable = any(status == "UNAVAILABLE" for status, _ in reader._models.values())
    if reader._failed_line or unavailable:
        return "failed"
    if reader._stopped_line > reader._ready_line:
        return "stopped"
    if reader._ready_line:
        return "ready"
    if report.kind == tables.BUILD and names.get("engine is saved") == "reached":
        return "built"
    if any(status in ("reached", "running") for status in names.values()):
        return "starting"
    return "unknown"


def _findings(reader: LogReader) -> list[Finding]:
    """The failure that the log ends with, told by its cause: the last exception that is no echo of another."""
    failed = [(key, value) for key, value in reader._models.items() if value[0] == "UNAVAILABLE"]
    evidence = reader._failure
    line = evidence.line if evidence else 0
    cause = failed[0][1][1] if failed else (evidence.message if evidence else "")
    if (not cause or _ECHO.search(cause)) and reader._last_exception:
        cause, line = reader._last_exception.message, reader._last_exception.line
    names = ", ".join(name for (name, _), _ in failed)
    title = f"{names} failed to load" if names else "the engine died"
    kind = "model-load-failed" if names else "engine-core-died"
    return [Finding(kind, "error", title, _first_line(cause), "", evidence.message if evidence else "", line)]


def _first_line(text: str) -> str:
    return text.split("\\n")[0].split("\n")[0].strip().rstrip(";")


def _apart(earlier: datetime | None, later: datetime | None) -> float | None:
    return (later - earlier).total_seconds() if earlier and later else None


def _size(size: int) -> str:
    return f"{size / tables.GIB:.2f} GiB" if abs(size) >= tables.GIB / 100 else f"{size} bytes"
