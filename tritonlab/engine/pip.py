"""pip, run for its progress: the packages of a lock, and PyTorch's CPU build from wherever that is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence

from tritonlab.errors import EngineError

UNPACKING = "unpacking"
TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def packages(verb: Sequence[str], arguments: Sequence[str], purpose: str) -> Iterator[tuple[str, int]]:
    """Run pip and yield what it is at, as it comes, and how many packages it has come to so far.

    It is at a package, at a package with what it downloads, and at UNPACKING.

    Args:
        verb: the command up to `install` or `download`.
        arguments: what comes after.
        purpose: what pip could not do, for the error.

    Raises:
        EngineError: it failed.
    """
    words = [*verb, "--no-deps", "--no-input", "--progress-bar", "off", "--disable-pip-version-check", *arguments]
    tail: list[str] = []
    name, taken = "", set[str]()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                tail = [*tail[-30:], line.rstrip()]
                if match := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
                    name = match[1]
                    taken.add(name)
                    yield name, len(taken)
                elif match := re.match(r" +Downloading .*\((\d[\d.]* [kMG]B)\)", line):
                    yield f"{name}, {match[1]}", len(taken)
                elif line.startswith("Installing collected packages"):
                    yield UNPACKING, len(taken)
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        errors = [line for line in tail if line.startswith("ERROR")] or tail[-5:]
        raise EngineError(
            f"pip could not {purpose}: {' '.join(errors)}",
            "Check the network and the disk, then try again: what is there already is kept.",
        )


def torch(verb: Sequence[str], arguments: Sequence[str], purpose: str) -> Iterator[tuple[str, int]]:
    """The same for PyTorch's CPU build, which not every index has: PyTorch's own is asked if need be.

    Raises:
        EngineError: it cannot be had.
    """
    try:
        yield from packages(verb, [*arguments, TORCH], purpose)
    except EngineError as first:
        if "No matching distribution" not in first.what:
            raise
        yield from packages(verb, [*arguments, TORCH, "--extra-index-url", TORCH_INDEX], purpose)
