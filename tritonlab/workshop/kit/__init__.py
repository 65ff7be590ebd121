"""A folder from which the course is set up with no network: wheels for the course and the engine, and the checkout.

It is made on a machine of the laptops' kind: the same system, the same Python.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tritonlab.engine import LOCK, Progress, machine, pip
from tritonlab.errors import CourseError
from tritonlab.workshop import folders

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
DISK_GB = 2.0  # a kit takes about 0.9 GB, and pip unpacks as much again on its way


def make(folder: Path, progress: Progress = lambda sentence, fraction: None, *, engine: bool = True) -> int:
    """Fill an empty folder; returns how many bytes it holds.

    Args:
        folder: where; made if needed.
        progress: called with a sentence and the fraction done.
        engine: whether the local engine comes along; not where all take a server elsewhere, or Docker.

    Raises:
        CourseError: the folder is not empty, its disk is full, or this is no checkout.
        EngineError: pip cannot get a wheel, or this machine cannot run the engine.
    """
    if engine:
        machine.require_runnable()
    tracked = _tracked()
    folders.empty(folder, "a kit")
    if (free := shutil.disk_usage(folder).free / 1e9) < DISK_GB:
        raise CourseError(f"A kit needs {DISK_GB:g} GB of disk and {folder} has {free:.1f} GB free.", "Free some room.")
    progress("Copying the course", 0.0)
    for name in tracked:
        target = folder / "course" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    _download(ROOT / "requirements.lock", folder / "wheels", progress, "the course", (0.02, 0.3 if engine else 0.98))
    if engine:
        _download(LOCK, folder / "wheels", progress, "the engine", (0.3, 0.8))
        for at, _ in pip.torch(_verb(folder / "wheels"), [], "get PyTorch"):
            progress(f"Getting PyTorch: {at}", 0.8)
    _write_texts(folder, engine=engine)
    progress("The kit is made", 1.0)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _tracked() -> list[str]:
    """The files of the checkout as they are now, without what was made in it."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip()
        raise CourseError(
            f"A kit is made from a git checkout, and {ROOT} is none: {said}", "Clone the course."
        ) from None
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    if "Makefile" not in names:  # an environment inside somebody's checkout
        raise CourseError(f"A kit is made from a checkout of the course, and {ROOT} is none.", "Clone the course.")
    return names


def _verb(wheels: Path) -> list[str]:
    # Wheels alone: a laptop has no compiler, nor what a source archive would fetch to be built.
    return [sys.executable, "-m", "pip", "download", "--dest", str(wheels), "--only-binary", ":all:"]


def _download(lock: Path, wheels: Path, progress: Progress, whose: str, span: tuple[float, float]) -> None:
    start, end = span
    wanted = sum("==" in line for line in lock.read_text(encoding="utf-8").splitlines())
    packages = pip.packages(_verb(wheels), ["--requirement", str(lock)], f"get the wheels of {whose}")
    for at, taken in packages:
        progress(f"Getting the wheels of {whose}: {at}", min(start + (end - start) * taken / wanted, end))


def _write_texts(folder: Path, *, engine: bool) -> None:
    python = "{}.{}".format(*sys.version_info[:2])
    facts = {
        "@PYTHON@": python,
        "@SYSTEM@": f"{platform.system()} {platform.machine()}",
        "@TARGET@": "" if engine else "docker",
        # Without a target it would install the engine, from a network that is not there.
        "@LAB@": "make lab" if engine else "make lab TARGET=docker",
        "@ENGINE@": "with" if engine else "without",
        "@DISK@": "6" if engine else "2",
        "@SIZE@": f"{sum(path.stat().st_size for path in (folder / 'wheels').iterdir()) / 1e9:.2f} GB",
    }
    for name, mode in (("setup.sh", 0o755), ("README.md", 0o644)):
        text = (HERE / name).read_text(encoding="utf-8")
        for word, value in facts.items():
            text = text.replace(word, value)
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(mode)
