"""Lines of a log -> events: who said what, when, by which clock.

`PREFIXES` holds what wrappers put before a line, `FORMATS` what the writers do: the first that matches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

UNKNOWN_YEAR = 1904
"""Triton and vLLM write no year. Where docker gives none either, dates are put in this leap year."""
HALF_A_YEAR = 6

LEVELS = {
    "I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL", "V": "VERBOSE", "CRITICAL": "FATAL",
}  # fmt: skip
SPOKEN_OF = {"INFO", "DEBUG", "VERBOSE"}
"""The levels of lines that report no trouble."""

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]| ?\[\d{1,3}(?:;\d{1,3})*m(?!\])")
"""Colours; where a log was pasted, often without the character that begins them."""
GLUED = re.compile(r"(?=[A-Z(\[])(?:(?<=(?:it/s|s/it)\])|(?<=\d)(?=\[\d\d/\d\d/\d{4}-\d\d:))")
"""Where the next text follows a progress bar, or TensorRT-LLM 0.8's version, that has no line end."""

JSON_FILE = re.compile(
    r'\{"log":(?P<log>"(?:[^"\\]|\\.)*"),"stream":"\w+"(?:,"attrs":\{[^{}]*\})?,"time":"(?P<time>[^"]+)"\}'
)
"""A line as docker's json-file driver keeps it."""

_ISO = r"(?P<docker>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))"
# Triton's own --log-format=ISO8601 begins with a stamp too, but says its level next.
_STAMP = rf"\ufeff?{_ISO}(?! [IWEFV] \d+ \S+:\d+\])[ \t]?(?:(?:stdout|stderr) [FP] )?"
_POD = r"[a-z0-9.-]+-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}"

# The blanks of an indented log; PowerShell's 2>&1; `gh run view --log`; Docker Desktop's view; Python's logging;
# systemd's journal, short-iso; a stamp, of `docker logs --timestamps`, Kubernetes or GitHub Actions; the journal,
# short and short-precise; `kubectl logs --prefix`; stern; docker compose, where a name without a number has two spaces
# after it; a stamp that stood behind one of these; a quotation in Markdown; a rank of torch's; blanks again.
PREFIXES = tuple(re.compile(pattern, re.A) for pattern in (
    r"[ \t]+(?=[\w.-]+[_-]\d+ +\| |\d{4}-\d\d-\d\d[T ]\d\d:\d\d)",
    r"(?:docker|docker-compose|kubectl|podman|wsl)(?:\.exe)? : ",
    r"[^\t]+\t[^\t]+\t(?=\ufeff?\d{4}-\d\d-\d\dT)",
    r"(?P<docker>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,6}) \| ?",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3,6}(?:[+-]\d\d:\d\d)? - [\w.]+ - [A-Z]+ - ",
    r"(?P<docker>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?=[^|])",
    rf"{_ISO} [\w.-]+ [\w.@-]+\[\d+\]: ",
    _STAMP,
    r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)? [\w.-]+ [\w.@-]+(?:\[\d+\])?: ",
    r"\[pod/[\w./-]+\] ",
    rf"{_POD} [a-z0-9][a-z0-9-]* ",
    r"(?=[\d._-]*[A-Za-z])\w[\w.-]*(?:[_-]\d+ +| {2,})\|(?: |$)",
    _STAMP,
    r"> (?=\S)",
    r"\[rank\d+\]: ?",
    r"[ \t]+(?=[IWEFV]\d{4} \d\d:|\[\d\d/\d\d/\d{4}-\d\d:|\[TensorRT-LLM\]|\[TRT(?:-LLM)?\] \[|"
    r"(?:DEBUG|INFO|WARNING|ERROR) \d\d-\d\d \d\d:|\| \S+ +\| +\S+ +\| +(?:READY|UNAVAILABLE)\b|"
    r"\([\w.-]+ pid=\d)",
))  # fmt: skip
PROCESS_TAG = re.compile(
    r"\((?:(?P<name>[\w.-]+)(?: \w+(?:=\w+)?)*? )?pid=(?P<pid>\d+)[^)]*\) ?(?:\[rank\d+\]: ?)?", re.A
)

_CLOCK = r"(?P<clock>\d\d:\d\d:\d\d(?:\.\d{1,9})?)"
_GLOG = rf"(?P<level>[IWEFV])(?P<month>\d\d)(?P<day>\d\d) {_CLOCK} +(?P<pid>\d+) "
_DATE = rf"\[(?P<month>\d\d)/(?P<day>\d\d)/(?P<year>\d{{4}})-{_CLOCK}\] "
_RANK = r"(?:\[\w+\]\[RANK \d+\] )?"
FORMATS = tuple((component, re.compile(pattern, re.A)) for component, pattern in (
    ("torch", rf"{_GLOG}(?P<source>\S*/\S*\.py:\d+)\] ?"),
    ("triton", rf"{_GLOG}(?P<source>[^\s\]]+:\d+)\] *"),
    ("triton", r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)T(?P<clock>\d\d:\d\d:\d\d)Z (?P<level>[IWEFV]) "
               r"(?P<pid>\d+) (?P<source>[^\s\]]+:\d+)\] *"),
    ("torch", rf"\[(?P<level>[IWEF])(?:(?P<month>\d\d)|\d)(?P<day>\d\d) {_CLOCK} (?P<source>[^\s\]]+:\d+)\] ?"),
    ("vllm", r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<month>\d\d)-(?P<day>\d\d) "
             rf"{_CLOCK} \[?(?P<source>[^\s\]]+:\d+)\] ?"),
    ("vllm", r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d) "
             rf"{_CLOCK} \[?(?P<source>[^\s\]]+:\d+)\] ?"),
    ("nccl", r"[\w.-]+:\d+:\d+ \[\d+\] NCCL (?P<level>INFO) "),
    ("tensorrt-llm", rf"{_DATE}\[TRT-LLM\] (?:\[RANK \d+\] )?\[(?P<level>[IWEFV])\] ?{_RANK}"),
    ("tensorrt", rf"{_DATE}\[TRT\] \[(?P<level>[IWEFV])\] ?"),
    ("tensorrt", rf"{_DATE}\[(?P<level>[IWEFV])\] (?:\[TRT\] )?"),
    ("tensorrt-llm", rf"\[TRT-LLM\] \[(?P<level>[IWEFV])\] ?{_RANK}"),
    ("tensorrt-llm", r"\[TensorRT-LLM\]\[(?P<level>[A-Z]+)\] ?"),
    ("tensorrt-llm", r"\[TensorRT-LLM\] "),
    ("uvicorn", r"(?P<level>INFO|WARNING|ERROR|CRITICAL): {2,}"),
    ("docker", r"(?=(?:docker: )?Error response from daemon)"),
))  # fmt: skip


class Event(NamedTuple):
    """One message of a log.

    `time` is on the clock that `clock` names: "container" (the writer's own) or "docker" (the wrapper's,
    where the line has no other); both are None where it has neither. `docker_time` is docker's stamp.
    """

    time: datetime | None
    clock: str | None
    level: str | None
    component: str | None
    source: str | None
    pid: int | None
    message: str
    line: int
    docker_time: datetime | None


class LineParser:
    """Turns the lines of one log into events; remembers the time, for the year that most lines lack."""

    def __init__(self) -> None:
        self._last: datetime | None = None

    def parse(self, line: str, number: int) -> Iterator[tuple[Event, str]]:
        """The events of one line, each with its text in the log: several where CRs or glue join them."""
        for part in ANSI.sub("", _notebook(line)).split("\r"):
            for text in GLUED.split(part):
                if text.strip():
                    yield self._event(text, number), text.rstrip()

    def _event(self, text: str, number: int) -> Event:
        docker_time, rest = _unwrap(text)
        pid, component = None, None
        while tag := PROCESS_TAG.match(rest):
            pid, component, rest = _number(tag["pid"]), "vllm", rest[tag.end() :]
        fields: dict[str, str | None] = {}
        for name, pattern in FORMATS:
            if found := pattern.match(rest):
                component, fields, rest = name, found.groupdict(), rest[found.end() :]
                break
        time = self._time(fields, docker_time)
        level = fields.get("level")
        return Event(
            time=time or docker_time,
            clock="container" if time else "docker" if docker_time else None,
            level=LEVELS.get(level, level) if level else None,
            component=component,
            source=fields.get("source"),
            pid=_number(fields.get("pid")) or pid,
            message=_unquote(rest.rstrip()),
            line=number,
            docker_time=docker_time,
        )

    def _time(self, fields: dict[str, str | None], docker_time: datetime | None) -> datetime | None:
        month, day, clock = fields.get("month"), fields.get("day"), fields.get("clock")
        if not (month and day and clock):
            return None
        near = docker_time or self._last
        year = int(fields.get("year") or (near.year if near else UNKNOWN_YEAR))
        if near and abs(near.month - int(month)) > HALF_A_YEAR and not fields.get("year"):
            year += 1 if int(month) < near.month else -1
        time = _iso(f"{year:04}-{month}-{day} {clock}")
        self._last = time or self._last
        return time


def _notebook(line: str) -> str:
    """A line of output as a file of JSON keeps it: a notebook's, text in a list; docker's json-file, with its time."""
    bare = line.strip().removesuffix(",")
    if found := JSON_FILE.fullmatch(bare):
        with suppress(ValueError):
            return f"{found['time']} {json.loads(found['log'])}".removesuffix("\n")
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        with suppress(ValueError):
            text = json.loads(bare)
            return text.removesuffix("\n") if isinstance(text, str) else line
    return line


def _unwrap(text: str) -> tuple[datetime | None, str]:
    """Docker's stamp, if any, and the text without what wrappers put before it."""
    time = None
    for prefix in PREFIXES:
        if found := prefix.match(text):
            text = text[found.end() :]
            if stamp := found.groupdict().get("docker"):
                time = _iso(stamp)
    return time, text


def _iso(stamp: str) -> datetime | None:
    """A naive datetime; a stamp with a time zone is turned into UTC."""
    try:
        # Docker writes nine decimals, Python reads six.
        time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp))
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):
        return None


def _number(digits: str | None) -> int | None:
    # No process id has more than ten digits, and int() refuses very long runs of them.
    return int(digits) if digits and len(digits) <= 10 else None


def _unquote(message: str) -> str:
    """Since 2024 Triton puts its messages in quotes, with line ends and quotes escaped."""
    if len(message) < 2 or message[0] != '"' or message[-1] != '"':
        return message
    plain = message[1:-1]
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), plain) if "\\" in plain else plain
