"""GPUs: what `nvidia-smi` says of this host's, and what it says of those that people plan for."""

from __future__ import annotations

import shutil
import subprocess
from typing import NamedTuple

from tritonlab.errors import TritonlabError

TIMEOUT_S = 5.0
MIB = 1 << 20


class Gpu(NamedTuple):
    """A kind of GPU: its memory in bytes, as the driver counts it, and its compute capability."""

    name: str
    memory: int
    capability: tuple[int, int]


# The memory is what nvidia-smi calls memory.total, with ECC where it is on as delivered; the capabilities are those of
# NVIDIA's page on CUDA GPUs. A datasheet's GB are more than that: of the 16 GB of a T4 a program sees 15 GiB.
KNOWN = tuple(
    Gpu(name, size * MIB, capability)
    for name, size, capability in (
        ("T4", 15360, (7, 5)),
        ("L4", 23034, (8, 9)),
        ("RTX 4090", 24564, (8, 9)),
        ("L40S", 46068, (8, 9)),
        ("A100 40 GB", 40960, (8, 0)),
        ("A100 80 GB", 81920, (8, 0)),
        ("H100 80 GB", 81559, (9, 0)),
        ("H200", 143771, (9, 0)),
        ("B200", 183359, (10, 0)),
    )
)


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


def here() -> list[Gpu]:
    """This host's GPUs, one of each kind."""
    found = []
    for line in ask("name", "memory.total", "compute_cap"):
        name, size, capability = (*(part.strip() for part in line.split(",")), "", "")[:3]
        major, _, minor = capability.partition(".")
        if size.removesuffix(" MiB").isdecimal() and major.isdecimal() and minor.isdecimal():
            found.append(Gpu(name, int(size.removesuffix(" MiB")) * MIB, (int(major), int(minor))))
    return list(dict.fromkeys(found))


def memory_of(gpu: str = "") -> int:
    """Bytes of a GPU: one of KNOWN by how its name begins, or a number of GiB; without either this host's largest.

    Raises:
        TritonlabError: no GPU is known by it, several are, or this host has none.
    """
    names = ", ".join(kind.name for kind in KNOWN)
    wanted = gpu.lower().replace(" ", "")
    if not wanted:
        if not (found := here()):
            raise TritonlabError(
                "This host has no NVIDIA GPU to plan for.", f"Name one: {names}, or its memory in GiB."
            )
        return max(kind.memory for kind in found)
    if wanted.removesuffix("gib").isdecimal() and 0 < int(wanted.removesuffix("gib")) < 1 << 20:
        return int(wanted.removesuffix("gib")) << 30
    known = {kind.name.lower().replace(" ", ""): kind for kind in KNOWN}
    close = [known[wanted]] if wanted in known else [kind for name, kind in known.items() if name.startswith(wanted)]
    if len(close) != 1:
        which = ", ".join(kind.name for kind in close)
        what = f"{gpu!r} may be {which}." if close else f"No GPU is known as {gpu!r}."
        raise TritonlabError(what, f"Name one: {names}, or its memory in GiB.")
    return close[0].memory
