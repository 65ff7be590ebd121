"""The parameters of a notebook: what its parameters cell says, and whether a value given for one will do.

A line of that cell reads `name: type = default  # VALUES: meaning`. papermill shows it as help; here it is a check.
VALUES lists, with commas and "or", words as they stand and kinds, which are written in capitals. What follows the words
"as a runbook" is taken only where the notebook runs as one.
"""

from __future__ import annotations

import ast
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tritonlab.course.paths import typed
from tritonlab.errors import ClientError, CourseError

RUNBOOK_ONLY = "as a runbook"
LONGEST_TOLD = 200
SECRET_NAME = re.compile(r"(?i)token(?!s|izer)|secret|password|passwd|credential|api_?key|(^|_)key$")
SECRET_VALUE = re.compile(
    r"\b(?:hf_|nvapi-|sk-|ghp_|github_pat_|glpat-|xox[abp]-|AKIA|eyJ)[\w-]{10,}"
    r"|://\S*@|^[^/\s@]+@[^/\s@]+:\d+$"  # a user's name before a host may be a token, without any password
)


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell.

    Attributes:
        values: the words and kinds that it takes; `runbook_values` are taken besides where the notebook is a runbook.
        meaning: the rest of the comment.
    """

    name: str
    type: str
    default: Any
    values: tuple[str, ...]
    runbook_values: tuple[str, ...]
    meaning: str

    def read(self, text: str, *, as_runbook: bool = True) -> Any:
        """The value that a text stands for; a path becomes absolute, since notebooks run in folders of their own.

        Raises:
            CourseError: it is none of the values that the parameter takes.
        """
        taken = (*self.values, *self.runbook_values) if as_runbook else self.values
        if not taken:
            raise CourseError(
                f"The parameter {self.name!r} is for the notebook as a runbook, and all of its cells were asked for.",
                "Leave out --whole, and name the notebook.",
            )
        if text == self.default:
            return text
        value = self._typed(text)
        faults = []
        for kind in taken:
            if kind not in KINDS:
                if kind == (text.lower() if self.type == "bool" else text):
                    return value
                continue
            if not (fault := KINDS[kind](value)):
                return str(typed(value)) if kind in ("FILE", "FOLDER", "PATH") else value
            faults.append(fault)
        words = [kind for kind in taken if kind not in KINDS]
        if words and (close := difflib.get_close_matches(text, words, n=1)):
            faults.insert(0, f"Did you mean {close[0]!r}?")
        raise CourseError(
            f"{text[:LONGEST_TOLD]!r} will not do for the parameter {self.name!r}. {' '.join(faults)}".strip(),
            f"It takes {_listed(taken)}: {self.meaning}.",
        )

    def _typed(self, text: str) -> Any:
        try:
            return READERS[self.type](text)
        except (KeyError, ValueError):
            raise CourseError(
                f"The parameter {self.name!r} is {ARTICLES.get(self.type, self.type)}, and that is none.",
                f"It is for: {self.meaning}. Its default is {self.default!r}.",
            ) from None

    def __repr__(self) -> str:
        taken = _listed(self.values)
        if self.runbook_values:
            taken = f"{taken}; " * bool(taken) + f"{RUNBOOK_ONLY} {_listed(self.runbook_values)}"
        return f"{self.name} ({self.type}, default {self.default!r}): {taken}\n    {self.meaning}"


def of(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook: name -> parameter.

    Raises:
        CourseError: it cannot be read, or a line of its parameters cell is not as it should be.
    """
    import papermill

    try:
        found = papermill.inspect_notebook(str(notebook))
    except Exception as error:  # whatever a broken file makes nbformat raise
        raise CourseError(
            f"{notebook} cannot be read as a notebook: {type(error).__name__}: {error}", "Take it from the repository."
        ) from None
    return {name: _parameter(notebook, **line) for name, line in found.items()}


def _parameter(notebook: Path, name: str, inferred_type_name: str, default: str, help: str) -> Parameter:
    values, separator, meaning = help.partition(": ")
    try:
        value = ast.literal_eval(default)
    except (ValueError, SyntaxError):
        value = None
    if not separator or inferred_type_name not in TYPES or type(value) is not TYPES[inferred_type_name]:
        raise CourseError(
            f"The parameter {name!r} of {notebook.name} has no type, no literal as default or no comment.",
            f'Write it as `{name}: str = "default"  # VALUES: meaning`.',
        )
    words = [word for word in re.split(r"\s*(?:,|\bor\b)\s*", values) if word]
    at = words.index(RUNBOOK_ONLY) if RUNBOOK_ONLY in words else len(words)
    return Parameter(name, inferred_type_name, value, tuple(words[:at]), tuple(words[at + 1 :]), meaning)


def refuse_secrets(given: Mapping[str, str]) -> None:
    """Raise CourseError for what looks like a secret; the error does not repeat it."""
    for name, value in given.items():
        if SECRET_NAME.search(name) or SECRET_VALUE.search(value) or SECRET_VALUE.search(name):
            told = "A parameter's name" if SECRET_VALUE.search(name) else f"The parameter {name!r}"
            raise CourseError(
                f"{told} looks like a secret. A parameter stands in the process list, in the shell's "
                "history and in every record of the run, so none may be one.",
                "Put a secret into the environment, e.g. HF_TOKEN: servers get it from there. If this one is real, "
                "revoke it.",
            )


def _path(value: str) -> str:
    if not value:
        return "It must not be empty."
    try:
        typed(value)
    except CourseError as error:
        return error.what
    return ""


def _file(value: str) -> str:
    if fault := _path(value):
        return fault
    path = typed(value)
    if path.is_dir():
        return "That is a folder."
    if not path.is_file():
        return "There is no such file."
    return "" if os.access(path, os.R_OK) else "That file may not be read."


def _folder(value: str) -> str:
    return _path(value) or ("" if typed(value).is_dir() else "There is no such folder.")


def _url(value: str) -> str:
    from tritonlab.client import Client

    if not value.startswith(("http://", "https://")):
        return "A URL begins with http://."
    try:
        Client(value)
    except ClientError as error:
        return error.what
    parts = urlsplit(value)
    return "" if parts.path in ("", "/") and not parts.query else "A server's URL ends with its port."


def _address(value: str) -> str:
    return "" if re.fullmatch(r"([\w.-]+|\[[\da-fA-F:]+\]):\d{1,5}", value) else "An address is host:port."


def _names(value: str) -> str:
    return next((fault for name in value.split(",") if (fault := _name(name))), "")


def _name(value: str) -> str:
    return "" if re.fullmatch(r"[\w.][\w.+-]*", value) else f"{value!r} is no model's name."


def _count(value: float) -> str:
    return "" if value >= 1 else "It must be 1 or more."


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


KINDS: Mapping[str, Callable[[Any], str]] = {
    "ADDRESS": _address,
    "COUNT": _count,
    "FILE": _file,
    "FOLDER": _folder,
    "NAME": _name,
    "NAMES": _names,
    "NUMBER": lambda value: "",
    "PATH": _path,
    "TEXT": lambda value: "",
    "URL": _url,
}
"""What each kind wants: a function that says what is wrong with a value, or nothing. NAMES are parted by commas."""
TYPES: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
READERS: Mapping[str, Callable[[str], Any]] = {"str": str, "int": int, "float": _finite, "bool": _truth}
ARTICLES = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def _listed(values: tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(values[:-1]), *values[-1:]]))
