"""The fault lab for people: real faults met blind, named from their logs, mended, tried again on the real server."""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritonlab.course.exercises import Reply
from tritonlab.course.paths import data, tutor_model
from tritonlab.docker_faults import DOCKER_FAULTS, DockerFault, provoke
from tritonlab.errors import CourseError, ServerFailed
from tritonlab.faults import FAULTS, Fault
from tritonlab.logs import Rule, read_log, rules
from tritonlab.repository import ModelRepository
from tritonlab.servers.serve import resolved, serve
from tritonlab.vllm import VllmModel

CASES = (
    "model-json-missing", "model-json-broken", "engine-args-nested", "argument-misspelt", "value-unknown",
    "context-too-long", "path-wrong", "quantization-wrong", "architecture-unknown", "weights-of-another", "weights-cut",
    "tokenizer-missing", "tokenizer-cut", "name-differs", "no-version", "backend-unknown", "syntax", "not-decoupled",
    "batch-size",
)  # fmt: skip
"""The faults that lie in the model's folder, where they can be mended."""
DOCKER_CASES = tuple(DOCKER_FAULTS)
"""What Docker refuses, and what ends a container."""
MODEL = "gemma"
SETTINGS: dict[str, Any] = {"dtype": "bfloat16", "enforce_eager": True, "max_model_len": 1024}


def docker_says(name: str, target: str = "auto") -> str:
    """What Docker or a container says of a fault of `tritonlab.docker_faults`.

    It is provoked here and now on the docker target; on any other, what was recorded of it is told.

    Raises:
        CourseError: there is no such fault.
        DockerError: no engine answers.
    """
    from tritonlab.servers import engines, image

    if name not in DOCKER_FAULTS:
        raise CourseError(f"Docker has no fault {name!r} here.", f"There are {', '.join(DOCKER_FAULTS)}.")
    if resolved(target) != "docker":
        return data(f"logs/docker-faults/{name}.log").read_text(encoding="utf-8")
    with engines.connect() as engine:
        image.build(engine)
        return provoke(DOCKER_FAULTS[name], engine, image.NAME)


class FaultLab:
    """Cases to solve, and how many were.

    Attributes:
        folder: where each case gets a folder of its own.
        cases: the cases so far.
    """

    def __init__(
        self, folder: str | os.PathLike[str], seed: int = 0, cases: Sequence[str] = CASES, target: str = "auto"
    ) -> None:
        """`seed` decides which faults come, and in which order; `cases` names those to draw from; `target` is serve's.

        Raises:
            CourseError: there is no such fault, or it does not lie where it can be met.
        """
        if unknown := set(cases) - set(CASES) - set(DOCKER_FAULTS):
            raise CourseError(
                f"The lab has no case {', '.join(sorted(unknown))}.", f"It has {', '.join((*CASES, *DOCKER_CASES))}."
            )
        self.folder = Path(folder)
        self.cases: list[Case] = []
        self._target = target
        self._faults = random.Random(seed).sample(cases, len(cases))

    def next(self) -> Case:
        """The next case: what Docker or a real server said of a fault.

        Raises:
            CourseError: all have been met.
        """
        if not self._faults:
            raise CourseError("You have met every fault of this lab.", "Begin again with another seed.")
        name, folder = self._faults.pop(0), self.folder / f"case-{len(self.cases) + 1}"
        case: Case = (
            DockerCase(DOCKER_FAULTS[name], folder, self._target)
            if name in DOCKER_FAULTS
            else ServerCase(FAULTS[name], folder, self._target)
        )
        self.cases.append(case)
        return case

    def __repr__(self) -> str:
        named = sum(case.named for case in self.cases)
        first = sum(case.named and case.answers == 1 for case in self.cases)
        mended = sum(case.mended for case in self.cases)
        return f"{len(self.cases)} met, {named} named ({first} at the first try), {mended} mended"


class Case:
    """One fault, met blind.

    Attributes:
        log: what was said: the log of the server that failed, or of the latest try.
        named, mended: what was achieved.
        answers: how many answers were given.
    """

    def __init__(self, fault: Fault | DockerFault, folder: Path, target: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "server-1.log"
        self.named, self.mended, self.answers = False, False, 0
        self._fault, self._folder, self._target = fault, folder, target

    def answer(self, cause: str | None = None) -> Reply:
        """Name the cause, by its id in `tritonlab logs --list-causes`; says why it is right, or why it is not."""
        name = self._folder.name
        if cause is None:
            return Reply(name, None, 'Name the cause by its id: case.answer("…").')
        known = {rule.id: rule for rule in rules()}
        if cause not in known:
            near = ", ".join(difflib.get_close_matches(str(cause), known, 3, 0.6)) or "see tritonlab logs --list-causes"
            return Reply(name, False, f"No cause has the id {cause!r}. Perhaps: {near}.")
        self.answers += 1
        if cause != self._fault.cause:
            return Reply(name, False, self._why_not(known[cause]))
        self.named = True
        rule = known[cause]
        return Reply(name, True, f"{rule.title}. {self._fault.story} {rule.means} What to do: {rule.fix}")

    def _why_not(self, other: Rule) -> str:
        example = other.example[0].splitlines()[-1]
        return f'"{other.title}" would show as, say: "{example}" Is there such a line in the log?'


class DockerCase(Case):
    """A `docker run` that Docker refused, or whose container ended: to be read and named, and not to be mended.

    Raises:
        DockerError: on the docker target, no engine answers.
    """

    def __init__(self, fault: DockerFault, folder: Path, target: str) -> None:
        super().__init__(fault, folder, target)
        self.log = folder / "docker.log"
        self.log.write_text(docker_says(fault.name, target), encoding="utf-8")

    def __repr__(self) -> str:
        return f"{self._folder.name}: the container does not run. What was said: {self.log}"


class ServerCase(Case):
    """A model repository with a fault in it, and a real server that failed on it.

    Attributes:
        repository: the model repository with the fault in it; mend it there.
    """

    def __init__(self, fault: Fault, folder: Path, target: str) -> None:
        super().__init__(fault, folder, target)
        self.repository = ModelRepository(folder / "model_repository")
        self.repository.add(VllmModel(MODEL, model=tutor_model(), **SETTINGS))
        self._tries = 0
        self._tried: dict[Path, bytes] = {}
        fault.change(self.model)
        self.retry()

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.repository.path / MODEL

    def retry(self) -> Reply:
        """Start a server on the repository as it is now; a fault that is still there fails it again."""
        if self.mended:
            return Reply(self._folder.name, True, "Mended already: the server came up.")
        content = {path: path.read_bytes() for path in sorted(self.model.rglob("*")) if path.is_file()}
        if content == self._tried:
            return Reply(self._folder.name, False, f"Nothing in {self.model} has changed since the last try. Mend it.")
        self._tried = content
        self._tries += 1
        self.log = self._folder / f"server-{self._tries}.log"
        with serve(self.repository, [MODEL], self._target, log=self.log) as server:
            try:
                server.wait_ready(quiet=True)
            except ServerFailed:
                return Reply(self._folder.name, False, f"The server does not come up. Its log: {self.log}")
        self.mended = True
        return Reply(self._folder.name, True, f"The server came up: {MODEL} is ready.")

    def _why_not(self, other: Rule) -> str:
        stages = read_log(self.log).stages
        reached = [stage for stage, status in zip(stages.stage, stages.status, strict=True)
                   if status in {"reached", "failed"}]  # fmt: skip
        return f"{super()._why_not(other)} The start came as far as {reached[-1] if reached else 'its first lines'}."

    def __repr__(self) -> str:
        if self.mended:
            return f"{self._folder.name}: mended, the server came up. Its log: {self.log}"
        lines = len(self.log.read_text(encoding="utf-8", errors="replace").splitlines())
        return f"{self._folder.name}: the server does not come up. Its log: {self.log} ({lines} lines)"
