"""What `nvidia-smi` says of this host's GPUs."""

from __future__ import annotations

import shutil
import subprocess

TIMEOUT_S = 5.0


def ask(*fields: str) -> list[str]:
    """The fields of each GPU, as `nvidia-smi --query-gpu` names them; empty where there is none, or no answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def driver() -> str:
    """The version of the host's NVIDIA driver; empty without one."""
    return next(iter(ask("driver_version")), "")
