"""From the lines of a log to what to tell a person: the root cause on top, echoes of it left out.

`findings.toml` is the knowledge base. What a server went on after did not stop it: a hit counts for more the later the
stretch of the start it came in. Within a stretch the first hit is the cause, and the later ones follow from it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tritonlab.logs.events import SPOKEN_OF, Event
from tritonlab.logs.sieve import Sieve
from tritonlab.logs.stages import ECHO, EXCEPTION, Fault, Progress, gist

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS = ("cause", "request", "guess", "stop")
"""How much a hit says of why a server failed, best first."""

_TRACEBACK = re.compile(r" *Traceback \(most recent call last\)")
_FRAME = re.compile(r' +File "[^"]+", line \d+')
_CELL = re.compile(
    r" *(?:-+> ?)?\d+ +(?:raise|return|self\.|el?if|else:|def|for|with|assert|from|import|try:|except|#|f?[\"'])"
)
"""A line of code as IPython shows it in a traceback, with its number."""
_ASSERT = re.compile(r" +assert +\(?(.+)")
_CHAIN = re.compile(r" *(?:During handling of the above exception|The above exception was the direct cause)")
_STUB = re.compile(r"\"?Failed to initialize Python stub: ")
"""Of the level INFO, and it tells why a model fails."""
_MILD = re.compile(r"(?:\S+\.py:\d+: )?\w*Warning: |.{0,300}(?:[Ff]alling back to|for better performance)")
"""Of no level, and yet a warning."""
_HARMLESS = re.compile(r"Failed to import (?:pynvml|Triton kernels)")
"""Of any level, and the program does without."""
_SUM = re.compile(r"failed to load '")
_LONGEST = 4000
_ECHOES, _ECHO = 5, 160


class Rule(NamedTuple):
    """One entry of `findings.toml`; that file says what the fields mean."""

    id: str
    title: str
    means: str
    fix: str
    on: Mapping[str, str]
    match: re.Pattern[str] | None
    guess: re.Pattern[str] | None
    severity: str
    weight: str
    during: str
    docs: str
    example: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What is wrong.

    Attributes:
        id: the name of the cause, the same in every version of the package.
        severity: "error" or "warning".
        title: the cause in one line.
        cause: the log's own words for it.
        means: what has happened.
        fix: what to do.
        evidence: the line that proves it, as it stands in the log.
        line: that line's number.
        docs: the address of a page to read, or "".
        on: what to do beside that on a target: "local", "docker" or "remote" -> text.
        echoes: later lines that only follow from it, as "line 12: text"; the first few.
    """

    id: str
    severity: str
    title: str
    cause: str
    fix: str
    evidence: str
    line: int
    docs: str = ""
    means: str = ""
    on: Mapping[str, str] = field(default_factory=dict)
    echoes: tuple[str, ...] = ()


@cache
def rules() -> tuple[Rule, ...]:
    """The knowledge base, in the order of its file: of two that match one line, the first holds."""
    table = tomllib.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8"))
    return tuple(
        Rule(
            id=name,
            title=entry["title"],
            means=entry["means"],
            fix=entry["fix"],
            on=entry.get("on", {}),
            match=_any(entry.get("match")),
            guess=_any(entry.get("guess")),
            severity=entry.get("severity", "error"),
            weight=entry.get("weight", "cause"),
            during=entry.get("during", ""),
            docs=entry.get("docs", ""),
            example=tuple(entry["example"]),
        )
        for name, entry in table.items()
    )


def causes(words: str = "") -> pd.DataFrame:
    """The knowledge base as a table: what a log says, what it means, what to do; of the entries with all the words."""
    import pandas as pd

    rows = [
        (
            rule.id,
            rule.example[0].splitlines()[-1],
            rule.title,
            " ".join([rule.fix, *(f"On {on}: {what}" for on, what in rule.on.items())]),
        )
        for rule in rules()
        if all(word.lower() in " ".join(map(str, rule)).lower() for word in words.split())
    ]
    return pd.DataFrame(rows, columns=["id", "the log says", "it means", "what to do"])


def _any(patterns: list[str] | None) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None


class _Hit(NamedTuple):
    rule: Rule
    weight: str
    fault: Fault
    stretch: int
    last: bool = False  # of a chain of exceptions


@dataclass
class Diagnosis:
    """Collects what the rules find while a log is read: `take` each event after `Progress` has."""

    _hits: dict[tuple[str, str, int], _Hit] = field(default_factory=dict)
    _tracebacks: dict[int | None, int] = field(default_factory=dict)
    _chained: set[int | None] = field(default_factory=set)
    _asserted: dict[int | None, str] = field(default_factory=dict)

    def take(self, event: Event, text: str, progress: Progress) -> None:
        """Try the rules on one event; `text` is its line as it stands in the log."""
        if (event.level in SPOKEN_OF and not _STUB.match(event.message)) or self._is_code(event):
            return
        message = event.message[:_LONGEST]
        if message.strip() == "AssertionError" and (asserted := self._asserted.pop(event.pid, None)):
            # It says nothing more: what was asserted stands in the last frame.
            told = f"{message.strip()}: {asserted}"
            message = told if _candidates(told) else message
        mild = event.level == "WARNING" or (event.level is None and _MILD.match(message)) or _HARMLESS.match(message)
        for rule, weight in _candidates(message):
            too_grave = rule.severity == "error" and mild
            too_early = weight != "guess" and rule.during and not progress.is_during(rule.during)
            if not (too_grave or too_early):
                fault = Fault(gist(message).strip(), text[:_LONGEST], event.line)
                self._note(_Hit(rule, weight, fault, progress.stretch), chained=event.pid in self._chained)
                self._chained.discard(event.pid)
                return

    def _note(self, hit: _Hit, *, chained: bool) -> None:
        key = (hit.rule.id, hit.weight, hit.stretch)
        known = self._hits.setdefault(key, hit)
        # The sum of it comes last: Triton's line on the model, and the end of a chain of exceptions.
        of_model = _SUM.match(hit.fault.text) and not _SUM.match(known.fault.text)
        if of_model or (chained and not known.last and EXCEPTION.match(hit.fault.text)):
            self._hits[key] = hit._replace(last=chained)

    def proves_failure(self, progress: Progress) -> bool:
        """Whether the log ends in an error that a rule knows, and that nothing went on after."""
        sure = {"cause", "request"} if progress.was_ready else {"cause", "request", "guess"}
        return any(hit.weight in sure for hit in self._errors() if hit.stretch == progress.stretch)

    def broke_off(self, progress: Progress) -> bool:
        """Whether Python was interrupted while the server started; Triton, told to stop, stops in good order."""
        told = (hit.fault.text for hit in self._errors() if hit.weight == "stop")
        return not progress.was_ready and any(text.startswith("KeyboardInterrupt") for text in told)

    def findings(self, progress: Progress, verdict: str) -> list[Finding]:
        """The root cause of a log that failed, or was stopped before it was ready, then warnings; else these alone."""
        seen = {hit.rule.id: hit for hit in reversed(self._hits.values()) if hit.rule.severity == "warning"}
        warnings = [_finding(hit) for hit in sorted(seen.values(), key=lambda hit: hit.fault.line)]
        stopped_early = verdict == "stopped" and not progress.was_ready and any(self._errors())
        if verdict != "failed" and not stopped_early:
            return warnings
        root = self._root(progress)
        # Of two that one line tells, the later is the line itself, the earlier its reason.
        echoes = {fault.line: fault.text for fault in progress.faults.values() if fault.text != root.cause}
        later = sorted(line for line in echoes if root.line < line)
        told = tuple(f"line {line}: {echoes[line][:_ECHO]}" for line in later[:_ECHOES])
        return [replace(root, echoes=told), *warnings]

    def _errors(self) -> Iterator[_Hit]:
        return (hit for hit in self._hits.values() if hit.rule.severity == "error")

    def _root(self, progress: Progress) -> Finding:
        def order(hit: _Hit) -> tuple[int, int, int]:
            survived = progress.stretch - hit.stretch
            return (survived, WEIGHTS.index(hit.weight), hit.fault.line)

        hits = sorted(self._errors(), key=order)
        if hits and hits[0].weight in {"cause", "request"}:
            return _finding(hits[0])
        own = _own_words(progress)
        if hits and (not own or hits[0].stretch == progress.stretch):
            return _finding(hits[0])
        failed = [model.name for model in progress.models.values() if model.failed]
        title = f"Model {', '.join(failed)} failed to load" if failed else "The start failed"
        fault = own or Fault("the log does not say why", "", 0)
        fix = "The line says what to mend; then start again."
        return Finding("model-load-failed", "error", title, fault.text, fix, fault.evidence, fault.line)

    def _is_code(self, event: Event) -> bool:
        """Whether this is a frame of a traceback: the program's source, which quotes errors that did not happen."""
        indent = len(event.message) - len(event.message.lstrip(" "))
        if _TRACEBACK.match(event.message):
            self._tracebacks[event.pid] = indent
            return True
        if _CELL.match(event.message) or event.message.startswith("  [["):
            # So a banner gives the reason why it does without something.
            return True
        if _FRAME.match(event.message):
            # Of a traceback whose head the log lacks.
            self._tracebacks.setdefault(event.pid, indent - 1)
            self._asserted.pop(event.pid, None)
        if asserted := _ASSERT.match(event.message):
            self._asserted[event.pid] = asserted[1]
        if _CHAIN.match(event.message):
            self._chained.add(event.pid)
        if event.pid in self._tracebacks:
            if indent > self._tracebacks[event.pid]:
                return True
            del self._tracebacks[event.pid]
        return False


@lru_cache(1 << 12)
def _candidates(message: str) -> tuple[tuple[Rule, str], ...]:
    """The rules that know the message, those that prove a cause first, each with its weight."""
    proofs, guesses = _sieves()
    return (
        *((rule, rule.weight) for rule in proofs.of(message) if rule.match and rule.match.search(message)),
        *((rule, "guess") for rule in guesses.of(message) if rule.guess and rule.guess.search(message)),
    )


@cache
def _sieves() -> tuple[Sieve[Rule], Sieve[Rule]]:
    """The rules by what proves them, and by what hints at them."""
    return (
        Sieve((rule.match, rule) for rule in rules() if rule.match),
        Sieve((rule.guess, rule) for rule in rules() if rule.guess),
    )


def _own_words(progress: Progress) -> Fault | None:
    """Best an error that nothing followed, and none that only passes another on."""
    faults = list(progress.faults.values())
    faults = faults[progress.survived :] + faults[: progress.survived]
    own = [fault for fault in faults if not ECHO.search(fault.text)]
    return next(iter(own or faults), None)


def _finding(hit: _Hit) -> Finding:
    rule, fault = hit.rule, hit.fault
    return Finding(
        id=rule.id,
        severity=rule.severity,
        title=rule.title,
        cause=fault.text,
        fix=rule.fix,
        evidence=fault.evidence,
        line=fault.line,
        docs=rule.docs,
        means=rule.means,
        on=rule.on,
    )
