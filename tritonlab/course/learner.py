"""What a learner has done of the exercises, kept in their tritonlab folder: one JSON file a learner.

The same form is exported, for a teacher to collect (`progress.schema.json`):

    {"learner": "ada", "exported": "2026-11-20T09:30:00+00:00",
     "exercises": {"02.3": {"tries": 2, "hints": 1, "solution": false, "solved": "2026-11-20T09:12:44+00:00"}}}

`tries` counts the answers up to the first right one; `hints` the hints that were told; `solution` says whether the
solution was shown before; `solved` is when the first right answer came, or null.

The learner is `$TRITONLAB_LEARNER`, or who is logged in. `TRITONLAB_PROGRESS=off` keeps nothing beyond this process,
for runs that are not a learner's work.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tritonlab.errors import CourseError
from tritonlab.files import write_whole
from tritonlab.home import home

VARIABLE = "TRITONLAB_LEARNER"
SWITCH = "TRITONLAB_PROGRESS"
LOCK_S = 10


@dataclass(frozen=True)
class Record:
    """What a learner did of one exercise."""

    tries: int = 0
    hints: int = 0
    solution: bool = False
    solved: str | None = None


Records = dict[str, Record]
_here: Records = {}  # what is not kept in a file: for this process


def name() -> str:
    """Who learns: `$TRITONLAB_LEARNER`, or the login name."""
    import getpass

    if given := os.environ.get(VARIABLE, "").strip():
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "learner"


def tried(exercise: str, right: bool) -> str:
    """Count an answer; returns what there is to say about the keeping, usually nothing."""

    def count_it(record: Record) -> Record:
        if record.solved:
            return record
        return replace(record, tries=record.tries + 1, solved=_now() if right else None)

    return _change(exercise, count_it)[1]


def hinted(exercise: str, most: int) -> tuple[int, str]:
    """Count a hint of so many; the number of the hint to tell."""
    record, note = _change(exercise, lambda record: replace(record, hints=min(record.hints + 1, most)))
    return record.hints, note


def gave_up(exercise: str) -> tuple[bool, str]:
    """Whether the solution may be shown: after a try."""

    def show_it(record: Record) -> Record:
        return replace(record, solution=True) if record.tries and not record.solved else record

    record, note = _change(exercise, show_it)
    return record.tries > 0, note


@dataclass(frozen=True)
class Progress:
    """What a learner has done, as a table.

    Attributes:
        learner: who.
        records: by the exercises' numbers; one that was not tried is not in it.
        note: what there is to say about the keeping.
    """

    learner: str
    records: Mapping[str, Record] = field(default_factory=dict)
    note: str = ""

    def rows(self) -> list[tuple[str, int, int, int, int]]:
        """For each notebook: its name, exercises solved, exercises, tries, hints."""
        from tritonlab.course.exercises import exercises
        from tritonlab.course.paths import notebooks

        names: dict[str, str] = {}
        with suppress(CourseError):  # the command runs outside of a checkout too
            names = {path.name[:2]: path.stem for path in notebooks()}
        found = []
        for number in sorted({exercise[:2] for exercise in exercises()}):
            mine = [exercise for exercise in exercises() if exercise[:2] == number]
            records = [self.records.get(exercise, Record()) for exercise in mine]
            solved = sum(record.solved is not None for record in records)
            tries, hints = sum(record.tries for record in records), sum(record.hints for record in records)
            found.append((names.get(number, number), solved, len(mine), tries, hints))
        return found

    def to_dict(self) -> dict[str, Any]:
        """The export, as `progress.schema.json` describes it."""
        return {**_as_dict(self.learner, self.records), "exported": _now()}

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the export to a file.

        Raises:
            CourseError: it cannot be written.
        """
        try:
            _write(Path(path), self.to_dict())
        except OSError as error:
            raise CourseError(f"{path} cannot be written: {error.strerror}.", "Choose a folder of yours.") from None
        return Path(path)

    def reset(self) -> Progress:
        """Forget all of it.

        Raises:
            CourseError: the file cannot be written.
        """
        _here.clear()
        if _is_kept():
            try:
                with _locked(self.learner):
                    _write(_file(self.learner), _as_dict(self.learner, {}))
            except OSError as error:
                raise CourseError(
                    _not_kept(error), "Make that folder writable, or move it with TRITONLAB_HOME."
                ) from None
        return Progress(self.learner)

    def __repr__(self) -> str:
        rows = self.rows()
        wide = max(len(row[0]) for row in rows)
        lines = [f"{'notebook':{wide}}  solved  tries  hints"]
        lines += [
            f"{name:{wide}}  {f'{done} of {all_}':6}  {tries:5}  {hints:5}" for name, done, all_, tries, hints in rows
        ]
        total = f"{sum(row[1] for row in rows)} of {sum(row[2] for row in rows)} exercises solved"
        return "\n".join([*lines, f"{self._who()}{total}", *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        rows = self.rows()
        heads = "".join(f'<th scope="col" style="text-align:left">{head}</th>'
                        for head in ("notebook", "solved", "tries", "hints"))  # fmt: skip
        body = "".join(
            f"<tr><td style='text-align:left'>{html.escape(name)}</td><td style='text-align:left'>"
            f"<progress value='{done}' max='{all_}' aria-hidden='true'></progress> {done} of {all_}</td>"
            f"<td>{tries}</td><td>{hints}</td></tr>"
            for name, done, all_, tries, hints in rows
        )
        total = f"{self._who()}{sum(row[1] for row in rows)} of {sum(row[2] for row in rows)} exercises solved"
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<table><caption>{html.escape(total)}</caption><thead><tr>{heads}</tr></thead>{body}</table>{note}"

    def _who(self) -> str:
        return f"{self.learner}: " if _is_kept() else ""


def progress(learner: str = "") -> Progress:
    """What a learner has done: a table, with `export(path)` and `reset()`."""
    who = learner or name()
    if not _is_kept():
        return Progress(who, dict(_here), f"Nothing is kept: {SWITCH} is off.")
    try:
        with _locked(who):
            records, note = _read(who)
    except OSError as error:
        return Progress(who, dict(_here), _not_kept(error))
    return Progress(who, records, note)


def _change(exercise: str, change: Callable[[Record], Record]) -> tuple[Record, str]:
    """Change the record of an exercise, and keep it; the record, and what there is to say about the keeping."""
    note = ""
    if _is_kept():
        who = name()
        try:
            with _locked(who):
                records, note = _read(who)
                before = records.get(exercise, Record())
                after = change(before)
                if after != before:
                    _write(_file(who), _as_dict(who, {**records, exercise: after}))
            return after, note
        except OSError as error:
            note = _not_kept(error)
    _here[exercise] = change(_here.get(exercise, Record()))
    return _here[exercise], note


def _is_kept() -> bool:
    return os.environ.get(SWITCH, "").lower() not in {"off", "0", "no", "false"}


def _not_kept(error: OSError) -> str:
    return f"Your progress is not kept: {error.filename or home()}: {error.strerror or error}."


def _file(learner: str) -> Path:
    # Any text may be a name, and none leads out of the folder.
    return home() / "progress" / f"{quote(learner, safe=' @+')[:200]}.json"


def _locked(learner: str) -> Any:
    import filelock

    path = _file(learner)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its Timeout is an OSError too.
    return filelock.FileLock(path.with_suffix(".lock"), timeout=LOCK_S)


def _read(learner: str) -> tuple[Records, str]:
    """What is kept; a file that cannot be understood is put aside, which the note says."""
    path = _file(learner)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {exercise: _record(entry) for exercise, entry in kept["exercises"].items()}, ""
    except FileNotFoundError:
        return {}, ""
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        aside = next(p for n in count(1) if not (p := path.with_suffix(f".broken-{n}")).exists())
        path.replace(aside)
        return {}, f"The file with your progress could not be understood. It is now {aside}, and a new one begins."


def _record(entry: Mapping[str, Any]) -> Record:
    record = Record(**entry)
    counts = all(type(number) is int and number >= 0 for number in (record.tries, record.hints))
    if not counts or type(record.solution) is not bool or not isinstance(record.solved, str | None):
        raise ValueError(f"{entry} is no record")
    return record


def _as_dict(learner: str, records: Mapping[str, Record]) -> dict[str, Any]:
    return {"learner": learner, "exercises": {exercise: asdict(records[exercise]) for exercise in sorted(records)}}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
