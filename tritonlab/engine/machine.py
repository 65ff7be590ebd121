"""Can this machine run the local engine? Answered before a byte is downloaded."""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from tritonlab.errors import EngineError

PYTHONS = ((3, 11), (3, 12), (3, 13))
GLIBC = (2, 35)  # the nvidia-pytriton wheel is tagged manylinux_2_35
DISK_GB = 4.0  # an installed engine takes 2.6 GB, its downloads about 0.7 GB

ELSEWHERE = (
    "Run the course in a Linux x86-64 container with Docker, or give serve() the URL of a server that runs elsewhere."
)


def require_runnable() -> None:
    """Raise EngineError with one sentence for the first thing that this machine lacks."""
    _require_platform()
    _require_python()
    _require_glibc()
    _require_cpu(Path("/proc/cpuinfo"))
    libpython()


def require_disk(folder: Path) -> None:
    """Raise EngineError when the disk that holds `folder` has too little room for an engine."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < DISK_GB:
        raise EngineError(
            f"The local engine needs {DISK_GB:g} GB of disk and {existing} has {free:.1f} GB free.",
            "Free some room, or put the engine on another disk: set TRITONLAB_HOME to a folder there.",
        )


def libpython() -> Path:
    """The shared library of this Python, which Triton's Python backend links to.

    Raises:
        EngineError: this Python was built without one.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    libdir = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    folders = (libdir, libdir / multiarch, Path(sys.base_prefix) / "lib", Path("/usr/lib") / multiarch)
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise EngineError(
        f"Triton's Python backend needs {name}, and this Python ({sys.base_prefix}) has none.",
        f"On Debian or Ubuntu: apt install libpython{version}. With pyenv: reinstall Python with "
        "PYTHON_CONFIGURE_OPTS=--enable-shared. Conda's and uv's Pythons have it.",
    )


def _require_platform() -> None:
    system, machine = platform.system(), platform.machine()
    if system == "Windows":
        raise EngineError(
            "The local engine runs on Linux; this is Windows.",
            f"Open the course inside WSL2 (Ubuntu), where it runs. {ELSEWHERE}",
        )
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise EngineError(f"The local engine runs on Linux on x86-64; this is {system} on {machine}.", ELSEWHERE)


def _require_python() -> None:
    if sys.version_info[:2] not in PYTHONS:
        raise EngineError(
            f"The local engine runs on Python 3.11, 3.12 or 3.13; this is {platform.python_version()}.",
            "Make the course's environment with one of those: make setup PYTHON=python3.12",
        )


def _require_glibc() -> None:
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name != "glibc" or numbers < GLIBC:
        found = f"{name} {version}".strip() or "another C library"
        raise EngineError(
            f"The local engine needs glibc 2.35 or newer; this machine has {found}.",
            f"Debian 12, Ubuntu 22.04, Fedora 36 and what followed them have it. {ELSEWHERE}",
        )


def _require_cpu(cpuinfo: Path) -> None:
    if cpuinfo.exists() and " avx2 " not in cpuinfo.read_text(errors="replace").replace("\n", " "):
        raise EngineError("vLLM's CPU build needs a processor with AVX2, and this one has none.", ELSEWHERE)
