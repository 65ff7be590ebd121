"""Repositories of exercises: laid out, looked over, and loaded on a real server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tritonlab.course.paths import tutor_model
from tritonlab.errors import ServerFailed
from tritonlab.logs import read_log
from tritonlab.repository import ModelRepository
from tritonlab.servers.serve import serve

TUTOR = "{tutor}"
"""Stands for the tutor model's folder."""
LONGEST = 600
"""Characters of a log's line that are told."""


class Tried(NamedTuple):
    """What came of a try: facts that speak against the repository, if any, and a sentence."""

    facts: list[str]
    told: str


def written(files: Mapping[str, str | bool]) -> dict[str, str]:
    """The files that are there, with their texts."""
    return {path: text.replace(TUTOR, tutor_model()) for path, text in files.items() if isinstance(text, str)}


def lay_out(files: Mapping[str, str | bool], folder: Path) -> None:
    """Write the files into a folder."""
    for path, text in written(files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def look(answer: str | os.PathLike[str], models: Sequence[str]) -> Tried:
    """What can be said before a server is started.

    Raises:
        TypeError: the answer is no path.
    """
    repository = ModelRepository(os.fspath(answer))
    problems = [problem for problem in repository.validate() if problem.severity == "error"]
    absent = [f"{name} is not in the repository" for name in models if name not in repository]
    if not problems:
        return Tried([f"problem: {what}" for what in absent], "; ".join(absent))
    told = "".join(f"\n{p.file}{f':{p.line}' if p.line else ''}: {p.what}. {p.why}." for p in problems)
    return Tried([f"problem: {problem.what}" for problem in problems], f"validate says, before any server:{told}")


def load(answer: str | os.PathLike[str], models: Sequence[str], target: str) -> Tried:
    """Start a server that loads the models, and stop it.

    Raises:
        TritonlabError: the target cannot start a server.
    """
    folder = Path(os.fspath(answer))
    log = folder.absolute().with_name(f"{folder.absolute().name}-server.log")
    log.unlink(missing_ok=True)
    with serve(folder, models, target, log=log) as server:
        try:
            server.wait_ready(quiet=True)
        except ServerFailed as failed:
            return _failed(log, str(failed))
    return Tried([], f"A real server loaded {' and '.join(models)}.")


def _failed(log: Path, said: str) -> Tried:
    report = read_log(log)
    came = [
        stage for stage, status in zip(report.stages.stage, report.stages.status, strict=True) if status == "reached"
    ]
    where = f"the start came as far as {came[-1]!r}" if came else "the start reached no stage"
    if not report.findings:
        return Tried(["cause: unknown"], f"The server did not come up: {where}. {said}")
    first = report.findings[0]
    told = f"The server did not come up: {where}. The cause is in line {first.line} of {os.path.relpath(log)}:"
    # Triton writes a message of several lines as one. The whole of it has the value that was refused.
    said = first.evidence.replace("\\n", "\n")
    cause = said if len(said) <= LONGEST else f"{said[:LONGEST]}…"
    return Tried([f"cause: {first.id}"], f"{told}\n{cause}")
