"""A workshop's timetable: the clock for a list of notebooks, parts of notebooks, and breaks, and whether they fit."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tritonlab import course
from tritonlab.errors import CourseError
from tritonlab.workshop import handout

if TYPE_CHECKING:
    import pandas as pd

Item = tuple[str, Sequence[str], int | None]
"""A notebook's digits or a text; the sections taken, all if none; the minutes, the notebook's own if None."""


def timetable(items: Iterable[Item], start: str, limit: int) -> pd.DataFrame:
    """When each item begins, what it is, how long it takes.

    Args:
        items: in their order.
        start: when the first begins, e.g. "09:00".
        limit: the minutes that there are.

    Raises:
        CourseError: a section or notebook does not exist, a section's cells need what one that is left out defines, a
            time cannot be read, the parts of a notebook take longer than the whole, or all takes longer than there is.
    """
    import pandas as pd

    try:
        now = datetime.strptime(start, "%H:%M")
    except ValueError:
        raise CourseError(f"{start!r} is no time of day.", 'Write it so: "09:00".') from None
    rows, parts, total = [], dict[str, int](), 0
    taken = defaultdict[str, set[str]](set)
    for what, sections, given in items:
        minutes, shown = given, what
        if re.fullmatch(r"\d\d", what):
            notebook = course.notebooks([what])[0]
            minutes = _minutes(notebook, sections, given, parts)
            taken[what].update(sections or _sections(notebook))
            _require_what_they_need(notebook, taken[what])
            shown = f"{notebook.stem}: {' · '.join(sections) if sections else 'all of it'}"
        if minutes is None or minutes <= 0:
            raise CourseError(f"{what!r} has no minutes.", "Give it a number of minutes.")
        rows.append({"from": f"{now:%H:%M}", "minutes": minutes, "what": shown})
        now += timedelta(minutes=minutes)
        total += minutes
    if total > limit:
        raise CourseError(f"The plan takes {total} minutes, and there are {limit}.", "Leave a section out.")
    return pd.DataFrame([*rows, {"from": f"{now:%H:%M}", "minutes": total, "what": "in all"}])


def _minutes(notebook: Path, sections: Sequence[str], given: int | None, parts: dict[str, int]) -> int:
    whole = handout.minutes(notebook)
    if unknown := set(sections) - set(_sections(notebook)):
        raise CourseError(f"{notebook.name} has no section {sorted(unknown)[0]!r}.", "Name it as its heading does.")
    minutes = whole if given is None else given
    parts[notebook.name] = parts.get(notebook.name, 0) + minutes
    if parts[notebook.name] > whole:
        raise CourseError(
            f"The plan takes {parts[notebook.name]} minutes for {notebook.name}, and all of it takes {whole}.",
            "Give its parts fewer minutes.",
        )
    return minutes


def _require_what_they_need(notebook: Path, taken: set[str]) -> None:
    """Refuse sections that read a name which only an earlier section defines, one that nobody runs."""
    there, left_out = set[str](), dict[str, str]()
    for section, code in _sections(notebook).items():
        read, defined = _names(code)
        if section and section not in taken:
            left_out = dict.fromkeys(defined, section) | left_out
            continue
        there |= defined
        if missing := sorted(read & set(left_out) - there):
            raise CourseError(
                f"{section!r} of {notebook.name} uses {missing[0]!r}, which {left_out[missing[0]]!r} defines, "
                "and the plan leaves that out.",
                "Take that section too.",
            )


def _names(code: str) -> tuple[set[str], set[str]]:
    """The names that some code reads, and those that it defines."""
    read, defined = set(), set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=alias):
                defined.add(alias or name.partition(".")[0])
    return read, defined


def _sections(notebook: Path) -> dict[str, str]:
    """Each section's code, by its heading; that before the first one by an empty one."""
    found, section = {"": ""}, ""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found[section] += f"{source}\n"
        else:
            for section in re.findall(r"^## (.+)$", source, re.MULTILINE):
                found[section] = ""
    return found
