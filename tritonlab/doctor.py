"""What this machine can run, found out before anything is started."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from tritonlab import gpus
from tritonlab.checkup import Finding, Report
from tritonlab.errors import ClientError, CourseError, TritonlabError
from tritonlab.servers.serve import TARGETS, resolved

MEMORY_GB = 4.0  # tritonserver with vLLM, the tutor model and 1 GiB of KV cache took 2.6 GB
RUNS_GB = 1.0  # executed notebooks, logs and what they build
LIMIT_S = 6.0  # for all looks together, which are taken side by side; Python itself takes two seconds to start
OLDEST_CLOCK = datetime(2026, 11, 1, tzinfo=UTC)  # this package is younger
MOST_DRIFT_S = 60.0

Look = Callable[[], Iterator[Finding]]


def doctor(targets: str | Iterable[str] | None = None) -> Report:
    """Look at what the targets need: this machine, the local engine, Docker, a server that runs elsewhere.

    Takes less than ten seconds: what does not answer by then is told as such.

    Args:
        targets: "local", "docker", a server's URL, "auto", or several of them; "all" is "local" and "docker". What they
            need and is missing is a failure. Without any, everything is looked at, and only what the target "auto"
            needs is a failure.

    Raises:
        TritonlabError: there is no such target.
    """
    from tritonlab import docker_checks

    needed = _chosen(targets)
    shown = needed if targets else ["local", "docker", *filter(_is_url, needed)]
    is_here = "local" in shown or "docker" in shown
    wants_local, wants_docker = "local" in needed, "docker" in needed
    looks: list[tuple[str, Look, bool]] = [("Python", _python, True), ("WSL", docker_checks.wsl, False)]
    if "local" in shown:
        for what, look in (("machine", _machine), ("local engine", _engine)):
            looks.append((what, look if wants_local else partial(_unneeded, what, look), wants_local))
    looks += [(url, partial(_server, url), True) for url in filter(_is_url, shown)]
    if is_here:
        looks += [("memory", _memory, True), ("NVIDIA GPU", _gpu, False)]
    if "docker" in shown:
        looks += [("Docker engine", partial(_docker, is_needed=wants_docker), wants_docker)]
    if is_here:
        looks += [
            ("shared memory", docker_checks.shared_memory, True),
            ("ports", docker_checks.free_ports, True),
            ("Hugging Face token", docker_checks.token, False),
        ]
    looks += [("course folder", _course, True), ("data folder", partial(_data, wants_engine=wants_local), True)]
    return Report(_together(looks, LIMIT_S))


def _chosen(targets: str | Iterable[str] | None) -> list[str]:
    words = [targets] if isinstance(targets, str) else list(targets or ["auto"])
    found = {}
    for word in words:
        for target in ("local", "docker") if word == "all" else (resolved(word),):
            if target not in TARGETS and not _is_url(target):
                raise TritonlabError(
                    f"There is no target named {target!r}.",
                    f'Use one of {", ".join(TARGETS)}, all, or a URL such as "http://host:8000".',
                )
            found[target] = True
    return list(found)


def _is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _together(looks: list[tuple[str, Look, bool]], limit: float) -> list[Finding]:
    """Take all looks at once and wait no longer than the limit for any; what one has found by then counts.

    A look has a name, and whether it is a failure if it does not end.
    """
    found: list[list[Finding]] = [[] for _ in looks]
    # Daemons: a look that hangs, on a socket or a network disk, must not hold the process.
    threads = [
        threading.Thread(target=_collect, args=(what, look, into), daemon=True)
        for (what, look, _), into in zip(looks, found, strict=True)
    ]
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    report = []
    for (what, _, is_needed), thread, findings in zip(looks, threads, found, strict=True):
        report += list(findings)
        if thread.is_alive():
            fix = "See whether what it asks for hangs: a network disk, a socket, a server, the GPU's driver."
            report.append(Finding("FAIL" if is_needed else "warning", what, f"no answer within {limit:g} s", fix))
    return report


def _collect(what: str, look: Look, into: list[Finding]) -> None:
    try:
        for finding in look():
            into.append(finding)
    except TritonlabError as error:
        into.append(Finding("FAIL", what, error.what, error.fix))
    except OSError as error:
        fix = "Mend the rights of that file or folder."
        into.append(Finding("FAIL", what, f"could not be looked at: {error}", fix))
    except Exception as error:  # a look of ours that fails must not hide the others
        said = f"the look at it failed: {type(error).__name__}: {error}"
        into.append(Finding("warning", what, said, "Report this with that text."))


def _unneeded(what: str, look: Look) -> Iterator[Finding]:
    """The same look where what is missing is no failure."""
    findings: list[Finding] = []
    _collect(what, look, findings)
    for finding in findings:
        if finding.status == "FAIL":
            yield replace(finding, status="ok", found=f"the target in use does without: {finding.found}", fix="")
        else:
            yield finding


def _python() -> Iterator[Finding]:
    version = "python {}.{}.{}".format(*sys.version_info[:3])
    # Importing them would take seconds.
    missing = [name for name in ("ipykernel", "ipywidgets", "jupyterlab") if find_spec(name) is None]
    if missing:
        fix = "Run `make setup` in the course's folder, and use its .venv/bin/tritonlab."
        said = f"{version}; JupyterLab cannot be opened: {', '.join(missing)} is not installed"
        yield Finding("FAIL", "Python", said, fix)
    else:
        yield Finding("ok", "Python", f"{version}, JupyterLab {metadata.version('jupyterlab')}")


def _machine() -> Iterator[Finding]:
    from tritonlab.engine import machine

    machine.require_runnable()
    yield Finding("ok", "machine", "can run the local engine")


def _engine() -> Iterator[Finding]:
    from tritonlab.engine import Engine

    found = Engine.find()
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    yield Finding("ok", "local engine", f"{versions}{'; of this host' if found.is_of_others else ''}")


def _server(url: str) -> Iterator[Finding]:
    from tritonlab.client import Client

    with Client(url) as client:
        try:
            facts = client.metadata()
            is_ready = client.ready()
        except ClientError as error:
            yield Finding("FAIL", "server", error.what, error.fix or "Check the address, and that the server runs.")
            return
    what = f"{facts.get('name', 'unknown')} {facts.get('version', '')} at {url}".replace("  ", " ")
    if is_ready:
        yield Finding("ok", "server", f"{what}, ready")
    else:
        fix = "Wait until its models are loaded; its log says how far it is."
        yield Finding("warning", "server", f"{what} is live and not ready", fix)


def _memory() -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    if free < MEMORY_GB:
        fix = f"Close something: {MEMORY_GB:g} GB are wanted."
        yield Finding("warning", "memory", f"{free:.1f} GB available", fix)
    else:
        yield Finding("ok", "memory", f"{free:.1f} GB available")


def _gpu() -> Iterator[Finding]:
    found = gpus.ask("name", "memory.total", "driver_version")
    yield Finding("ok", "NVIDIA GPU", "; ".join(found) or "none: the course runs on the processor")


def _docker(*, is_needed: bool) -> Iterator[Finding]:
    from tritonlab import docker_checks

    for found in docker_checks.look(gpus.driver()):
        is_missing = found.what == "Docker engine" and (found.status != "ok" or found.found.startswith("none"))
        if is_needed and is_missing:
            fix = found.fix or "Install Docker and start it, or take the local target."
            yield replace(
                found, status="FAIL", found=found.found.removesuffix("; the local target does without"), fix=fix
            )
        else:
            yield found


def _course() -> Iterator[Finding]:
    from tritonlab import course

    try:
        folder = course.root()
    except CourseError as error:
        yield Finding("warning", "course folder", error.what, error.fix)
        return
    for part in (folder, folder / "notebooks"):
        if fault := _cannot_write(part):
            fix = "Make it yours (chown, chmod), or copy the course to a folder that is."
            yield Finding("FAIL", "course folder", f"{part} cannot be written to: {fault}", fix)
            return
    yield Finding("ok", "course folder", "can be written to")


def _data(*, wants_engine: bool) -> Iterator[Finding]:
    from tritonlab.engine import installer, machine
    from tritonlab.home import home

    existing = next(path for path in (home(), *home().parents) if path.exists())
    if fault := _cannot_write(existing):
        fix = "Make it yours (chown, chmod), or set TRITONLAB_HOME to a folder that is."
        yield Finding("FAIL", "data folder", f"{existing} cannot be written to: {fault}", fix)
        return
    free = shutil.disk_usage(existing).free / 1e9
    is_missing = wants_engine and not (installer.engine_path() / "installed.json").exists()
    wanted = machine.DISK_GB if is_missing else RUNS_GB
    if free < wanted:
        what = f"{free:.1f} GB free in {existing}, {wanted:g} are wanted{' for the engine' if is_missing else ''}"
        fix = "Free some room, or set TRITONLAB_HOME to a folder on another disk."
        yield Finding("FAIL" if is_missing else "warning", "data folder", what, fix)
    else:
        yield Finding("ok", "data folder", f"can be written to; {free:.1f} GB free")
    yield _clock(existing)


def _cannot_write(folder: Path) -> str:
    """Why nothing can be made in a folder; empty if something can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _clock(folder: Path) -> Finding:
    """TLS refuses a clock that is years off; make and the log's order do not survive a disk with another one."""
    now = datetime.now(UTC)
    if now < OLDEST_CLOCK:
        return Finding("FAIL", "clock", f"it says {now:%Y-%m-%d}", "Set date and time: certificates count as invalid.")
    with tempfile.TemporaryFile(dir=folder) as probe:
        drift = os.fstat(probe.fileno()).st_mtime - time.time()
    if abs(drift) > MOST_DRIFT_S:
        fix = "Let both keep time by NTP: make and Jupyter compare the times of files."
        return Finding("warning", "clock", f"the disk of {folder} is {drift:+.0f} s off this machine's clock", fix)
    return Finding("ok", "clock", "agrees with the disk")
