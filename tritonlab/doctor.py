"""What this machine can run, found out before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tritonlab import gpus
from tritonlab.checkup import Finding, Report
from tritonlab.errors import TritonlabError
from tritonlab.servers.serve import resolved

MEMORY_GB = 4.0  # tritonserver with vLLM, the tutor model and 1 GiB of KV cache took 2.6 GB


def doctor() -> Report:
    """Look at what the targets need: the local engine, its machine, and what the others would use.

    What only the local target needs is no failure where `$TRITONLAB_TARGET` is docker, and there an engine is needed.
    Never raises, and takes a few seconds at most.
    """
    wants_docker = resolved("auto") == "docker"
    local = [_machine(), _engine()]
    if wants_docker:
        local = [replace(found, status="ok", fix="") for found in local]
    return Report([*local, _memory(), _gpu(), *_docker(wants_docker=wants_docker)])


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
    found = gpus.ask("name", "memory.total", "driver_version")
    return Finding("ok", "NVIDIA GPU", "; ".join(found) or "none: the course runs on the processor")


def _docker(*, wants_docker: bool) -> Iterator[Finding]:
    from tritonlab import docker_checks

    for found in docker_checks.look(gpus.driver()):
        is_missing = found.what == "Docker engine" and (found.status != "ok" or found.found.startswith("none"))
        if wants_docker and is_missing:
            yield replace(
                found, status="FAIL", fix=found.fix or "Install Docker and start it, or take the local target."
            )
        else:
            yield found
