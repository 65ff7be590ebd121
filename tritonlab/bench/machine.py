"""What a record says of where it was measured: the machine, and the versions of what took part."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from tritonlab import gpus
from tritonlab.client import Client
from tritonlab.errors import ClientError, EngineError


def here() -> dict[str, Any]:
    """The machine that AIPerf ran on; its memory in bytes, its GPUs by name."""
    import psutil

    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "gpus": gpus.ask("name"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions(client: Client) -> dict[str, str]:
    """tritonlab, AIPerf, Triton, and the engine of a server that was started here on the target "local"."""
    from tritonlab import __version__
    from tritonlab.bench import environment
    from tritonlab.servers.running import recorded

    found = {"tritonlab": __version__, "aiperf": environment.version()}
    with suppress(ClientError):
        found["triton"] = str(client.metadata().get("version", ""))
    if any(server.url == client.url and server.target == "local" for server in recorded()):
        from tritonlab.engine import Engine

        try:
            engine = Engine.find().versions
        except EngineError:
            engine = {}
        found |= {name: engine[name] for name in ("vllm", "torch") if name in engine}
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
