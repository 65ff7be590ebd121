"""What this machine can run, found out before anything is started."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from tritonlab.errors import TritonlabError

MEMORY_GB = 4.0  # tritonserver with vLLM, the tutor model and 1 GiB of KV cache took 2.6 GB
COMMAND_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `status` is "ok", "warning" or "FAIL"; `fix` says what to do unless it is "ok"."""

    status: str
    what: str
    found: str
    fix: str = ""


class Report(Sequence[Finding]):
    """What `doctor` found, with a table for notebooks and lines for a terminal."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = tuple(findings)

    @property
    def healthy(self) -> bool:
        """Nothing failed."""
        return all(finding.status != "FAIL" for finding in self)

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def __repr__(self) -> str:
        lines = []
        for finding in self:
            lines.append(f"{finding.status:8} {finding.what}: {finding.found}")
            if finding.fix:
                lines.append(f"{'':8} -> {finding.fix}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><b>{html.escape(f.status)}</b></td><td>{html.escape(f.what)}</td>"
            f"<td style='text-align:left'>{html.escape(f.found)}"
            f"{'<br><i>' + html.escape(f.fix) + '</i>' if f.fix else ''}</td></tr>"
            for f in self
        )
        return f"<table><thead><tr><th>status</th><th>what</th><th>found</th></tr></thead>{rows}</table>"


def doctor() -> Report:
    """Look at what the targets need: the local engine, its machine, and what the others would use.

    Never raises, and takes a second or two.
    """
    return Report([look() for look in (_machine, _engine, _memory, _gpu, _docker)])


def _machine() -> Finding:
    from tritonlab.engine import machine

    return _attempt("machine", machine.require_runnable, "can run the local engine")


def _engine() -> Finding:
    from tritonlab.engine import Engine

    def versions() -> str:
        return ", ".join(f"{name} {version}" for name, version in Engine.find().versions.items())

    return _attempt("local engine", versions, "")


def _attempt(what: str, look: Callable[[], str | None], good: str) -> Finding:
    try:
        return Finding("ok", what, look() or good)
    except TritonlabError as error:
        return Finding("FAIL", what, error.what, error.fix)
    except OSError as error:
        return Finding("FAIL", what, f"could not be looked at: {error}", "Mend the rights of that file or folder.")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    if free < MEMORY_GB:
        return Finding(
            "warning", "memory", f"{free:.1f} GB available", f"Close something: {MEMORY_GB:g} GB are wanted."
        )
    return Finding("ok", "memory", f"{free:.1f} GB available")


def _gpu() -> Finding:
    answer = _ask(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    if answer is None:
        return Finding("ok", "NVIDIA GPU", "none: the course runs on the processor")
    return Finding("ok", "NVIDIA GPU", answer.replace("\n", "; "))


def _docker() -> Finding:
    answer = _ask(["docker", "version", "--format", "{{.Server.Version}}"])
    if answer is None:
        return Finding("ok", "Docker engine", "none that answers: the local target does without")
    return Finding("ok", "Docker engine", answer)


def _ask(command: list[str]) -> str | None:
    """What a command prints, or None when it is not there, fails or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
