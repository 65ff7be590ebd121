"""What is kept of a run: a folder with its notebooks, pages and logs, and `result.json`, written at its start and end.

`record.schema.json` beside this module names the keys of `result.json`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tritonlab.errors import CourseError
from tritonlab.files import write_whole

RESULT = "result.json"
NOISE_S = 0.5
EXIT_CODES = {"ok": 0, "failed": 1, "undecided": 3}


@dataclass
class Entry:
    """One notebook of a run.

    Attributes:
        status: "waiting", "running", "done", "interrupted" or "timeout".
        verdict: "ok", "failed" or "undecided"; None until it is done.
        fault: why a cell, or the notebook as a whole, broke off; "" if it did not.
        parameters: every one of its parameters with the value that it ran with.
        steps, findings, versions: what the runbook told; see `tritonlab.course.runbook`.
        executed, html: files of the record.
        taken_from: the id of the earlier run that did this notebook already; "" if this one did.
    """

    name: str
    whole: bool
    parameters: dict[str, Any]
    title: str = ""
    status: str = "waiting"
    verdict: str | None = None
    seconds: float | None = None
    fault: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    executed: str = ""
    html: str = ""
    taken_from: str = ""

    def __repr__(self) -> str:
        if self.taken_from:
            return f"done      before  {self.name} (in {self.taken_from})"
        told = (self.verdict or self.status).ljust(9)
        return f"{told} {self.seconds or 0.0:6.1f} s  {self.name}"


@dataclass
class Record:
    """A run.

    Attributes:
        folder: where it is kept; its name is the run's id.
        given: the parameters as they were given.
        status: "running", "done", "interrupted" or "timeout"; "died" of a run that is gone without a word.
        verdict: the worst of its notebooks'; None until all are done.
        exit_code: what `tritonlab run` ended with.
        started, ended: ISO 8601, UTC.
        resumes: the id of the run that this one goes on with; "" if none.
        versions: of Python, of this package, and of the local engine.
    """

    folder: Path
    notebooks: list[Entry]
    given: dict[str, str]
    whole: bool
    status: str = "running"
    verdict: str | None = None
    exit_code: int | None = None
    started: str = ""
    ended: str | None = None
    seconds: float | None = None
    resumes: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    host: str = ""
    pid: int = 0
    pid_started: float = 0.0

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def what(self) -> str:
        """The notebooks in few words."""
        names = [entry.name for entry in self.notebooks]
        return names[0] if len(names) == 1 else f"{len(names)} notebooks"

    def write(self) -> None:
        """Write `result.json`.

        Raises:
            CourseError: it cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, default=str) + "\n"
        try:
            write_whole(self.folder / RESULT, text.encode("utf-8", errors="replace"))
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def to_dict(self) -> dict[str, Any]:
        """The record as `result.json` holds it."""
        return {"id": self.id, **{key: value for key, value in asdict(self).items() if key != "folder"}}

    def end(self, status: str, exit_code: int | None = None) -> None:
        """Conclude: the verdict of all notebooks, the exit code, the time; written down."""
        verdicts = [entry.verdict for entry in self.notebooks]
        self.status = status
        if status == "done":
            self.verdict = next((worst for worst in ("failed", "undecided") if worst in verdicts), "ok")
            exit_code = EXIT_CODES[self.verdict]
        self.exit_code = exit_code
        self.ended = _now()
        self.seconds = round(_since(self.started), 3)
        self.write()

    def __repr__(self) -> str:
        seen = {name: version for entry in self.notebooks for name, version in entry.versions.items()}
        short = ", ".join(f"{name} {version}" for name, version in seen.items())
        seconds = f"{self.seconds:.1f} s" if self.seconds is not None else ""
        return f"{self.id:44} {self.verdict or '-':9} {self.status:11} {seconds:>9}  {short}"


def new(runs: Path, notebooks: Sequence[Entry], given: dict[str, str], *, whole: bool, resumes: str = "") -> Record:
    """Begin a record: a folder of its own, however many runs begin at this moment.

    Raises:
        CourseError: the folder of the records cannot be written.
    """
    import psutil

    names = [entry.name for entry in notebooks]
    what = names[0] if len(names) == 1 else "-".join(name[:2] for name in names)
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{what[:40]}-{secrets.token_hex(3)}"
    try:
        (runs / name).mkdir(parents=True)
    except OSError as error:
        raise _unwritable(runs, error) from None
    record = Record(
        (runs / name).absolute(),
        list(notebooks),
        given,
        whole,
        started=_now(),
        resumes=resumes,
        versions=_versions(),
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_started=psutil.Process().create_time(),
    )
    record.write()
    return record


def _unwritable(folder: Path, error: OSError) -> CourseError:
    return CourseError(
        f"The record of this run cannot be written to {folder}: {error.strerror}.",
        "Make room there, or name another folder with --runs.",
    )


def listed(runs: Path) -> list[Record]:
    """Every record in a folder, the newest first; what cannot be read as one is left out."""
    found = []
    for file in runs.glob(f"*/{RESULT}"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            found.append(_read(file))
    return sorted(found, key=lambda record: (record.started, record.id), reverse=True)


def find(runs: Path, name: str) -> Record:
    """A record by its id, by a part of that which no other has, or "last".

    Raises:
        CourseError: there is none, or more than one.
    """
    every = listed(runs)
    found = every[:1] if name == "last" else [r for r in every if r.id == name] or [r for r in every if name in r.id]
    if len(found) != 1:
        what = f"{len(found)} runs have {name!r} in their id" if found else f"There is no run {name!r} in {runs}"
        raise CourseError(f"{what}.", "`tritonlab runs` lists them; --runs names another folder.")
    return found[0]


def compared(one: Record, other: Record) -> dict[str, Any]:
    """What differs from one run to another: parameters, versions, verdicts, seconds, findings that are new or gone."""
    result: dict[str, Any] = {
        "runs": [one.id, other.id],
        "verdicts": [one.verdict, other.verdict],
        "seconds": [one.seconds, other.seconds],
        "versions": _differing(one.versions, other.versions),
        "notebooks": {},
    }
    mine, theirs = ({entry.name: entry for entry in record.notebooks} for record in (one, other))
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs:
            result["notebooks"][name] = {"only_in": one.id if name in mine else other.id}
            continue
        a, b = mine[name], theirs[name]
        before, after = ({found["id"] for found in entry.findings} for entry in (a, b))
        result["notebooks"][name] = {
            "verdicts": [a.verdict, b.verdict],
            "seconds": [a.seconds, b.seconds],
            "parameters": _differing(a.parameters, b.parameters, without="workspace_folder"),
            "versions": _differing(a.versions, b.versions),
            "steps": {what: pair for what, pair in _differing(_steps(a), _steps(b)).items() if not _are_alike(*pair)},
            "new_findings": sorted(after - before),
            "gone_findings": sorted(before - after),
        }
    return result


def _steps(entry: Entry) -> dict[str, Any]:
    return {step["what"]: [step["status"], step["seconds"]] for step in entry.steps}


def _are_alike(one: list[Any] | None, other: list[Any] | None) -> bool:
    """Whether a step went the same way, and took as long but for what any machine's noise is."""
    return one is not None and other is not None and one[0] == other[0] and abs(one[1] - other[1]) < NOISE_S


def _differing(one: dict[str, Any], other: dict[str, Any], without: str = "") -> dict[str, list[Any]]:
    keys = [*one, *(key for key in other if key not in one)]
    return {key: [one.get(key), other.get(key)] for key in keys if one.get(key) != other.get(key) and key != without}


def _read(file: Path) -> Record:
    content = json.loads(file.read_text(encoding="utf-8"))
    known = {wanted.name for wanted in fields(Record)}
    entries = [Entry(**entry) for entry in content["notebooks"]]
    record = Record(**{key: value for key, value in content.items() if key in known} | {"notebooks": entries},
                    folder=file.parent.absolute())  # fmt: skip
    if record.status == "running" and record.host == socket.gethostname() and not _lives(record):
        record.status = "died"
    return record


def _lives(record: Record) -> bool:
    import psutil

    try:
        # A number is given anew when its process has gone; the time tells them apart.
        return abs(psutil.Process(record.pid).create_time() - record.pid_started) < 1
    except psutil.Error:
        return False


def _versions() -> dict[str, str]:
    import platform

    import tritonlab
    from tritonlab.engine import Engine
    from tritonlab.errors import EngineError

    versions = {"python": platform.python_version(), "tritonlab": tritonlab.__version__}
    with suppress(EngineError):  # a run on another target needs none
        versions |= {f"engine's {name}": version for name, version in Engine.find().versions.items()}
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _since(started: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
