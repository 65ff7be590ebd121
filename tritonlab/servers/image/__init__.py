"""The CPU image: Triton and vLLM for the processor from the local engine's wheels, laid out as NVIDIA's image is.

The wheels are fetched on this machine, with its pip settings, and handed to the engine: the build needs no network,
but for the base image and, where that has none, a compiler.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritonlab.engine import LOCK, Progress, pip
from tritonlab.engine.pip import TORCH
from tritonlab.home import home
from tritonlab.servers.engines import DockerEngine, explained, fault_of, refusal

HERE = Path(__file__).parent
BACKEND = LOCK.parent / "backends" / "vllm"
NAME = "tritonlab/tritonserver:2.51-vllm-cpu-py3"
BASE = "python:3.11-slim-bookworm"
INPUTS = "tritonlab.inputs"
"""The label that tells from what an image was built."""
ON = "tritonlab.base"
STAGE = "tritonlab.stage"
FILES = ("Dockerfile", "entrypoint.sh", "healthcheck.py")

PYTHON = "3.11"
# What the markers in the lock ask for.
TARGET = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
}
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)), "manylinux2014_x86_64", "linux_x86_64")


@dataclass(frozen=True)
class Image:
    """The CPU image as the engine has it.

    Attributes:
        name: its name and tag.
        is_current: whether it was built from what this package would build it from now.
        base: the image that it was built on.
        size: bytes.
        layers: the step that made a layer, and its bytes; the uppermost first.
    """

    name: str
    is_current: bool
    base: str
    size: int
    layers: tuple[tuple[str, int], ...]

    def __repr__(self) -> str:
        rows = [f"{size / 1e6:9.1f} MB  {step}" for step, size in self.layers if size]
        state = "" if self.is_current else ", built from other versions: `tritonlab image build` renews it"
        return "\n".join([f"{self.name}: {self.size / 1e6:.0f} MB{state}", *rows])


def find(engine: DockerEngine) -> Image | None:
    """The CPU image, if the engine has it."""
    import docker.errors

    with explained():
        try:
            image = engine.client.images.get(NAME)
        except docker.errors.ImageNotFound:
            return None
        history = image.history()
    layers = tuple((_step(layer["CreatedBy"]), int(layer["Size"])) for layer in history)
    is_current = image.labels.get(INPUTS) == _inputs()
    return Image(NAME, is_current, image.labels.get(ON, ""), int(image.attrs["Size"]), layers)


def build(
    engine: DockerEngine, progress: Progress = lambda sentence, fraction: None, base: str = "", *, anew: bool = False
) -> Image:
    """Build the CPU image unless a current one is there.

    Args:
        base: the image to begin with, Debian 12 or later with Python 3.11 and its venv module; if none is given, the
            official image of Python, and a current image that was built on another will do.
        anew: build even if a current one is there, and use nothing of earlier builds.

    Raises:
        EngineError: a wheel cannot be had.
        DockerError: a step of the build failed; says which.
    """
    import filelock

    home().mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(home() / "image.lock"):  # the end of one build would take the stages of another away
        found = find(engine)
        if found and found.is_current and base in ("", found.base) and not anew:
            return found
        return _build(engine, progress, base or BASE, anew=anew)


def _build(engine: DockerEngine, progress: Progress, base: str, *, anew: bool) -> Image:
    with tempfile.TemporaryDirectory(prefix="tritonlab-image-") as name:
        context = Path(name)
        _collect(context, progress)
        for sentence, fraction in _built(engine, context, base, anew=anew):
            progress(sentence, fraction)
    with explained():
        for label in (f"{STAGE}=wheels", INPUTS):  # the stage, and the image that this one replaces
            engine.client.images.prune({"dangling": True, "label": label})
    built = find(engine)
    assert built is not None
    progress("The image is built", 1.0)
    return built


def _inputs() -> str:
    """A digest of all that the image is built from, but for the base."""
    digest = hashlib.sha256(repr((TORCH, PYTHON, TARGET, PLATFORMS)).encode())
    for path in (LOCK, *_backend(), *(HERE / name for name in FILES)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _backend() -> list[Path]:
    return [path for path in sorted(BACKEND.iterdir()) if path.is_file()]


def _requirements() -> list[str]:
    """The lock's lines that hold in the container."""
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in LOCK.read_text(encoding="utf-8").splitlines() if "==" in line]
    chosen = [f"{line.name}{line.specifier}" for line in lines if not line.marker or line.marker.evaluate(TARGET)]
    return [TORCH, *chosen]


def _collect(context: Path, progress: Progress) -> None:
    """Lay out the build's context."""
    requirements = _requirements()
    (context / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
    shutil.copytree(BACKEND, context / "vllm", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(HERE / name, context / name)
    fetch = [sys.executable, "-m", "pip", "download"]
    # For the container, whatever this machine is.
    what = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
    what += ["--dest", str(context / "wheels")]
    what += [word for platform in PLATFORMS for word in ("--platform", platform)]
    for at, _ in pip.torch(fetch, what, "fetch the image's wheels"):
        progress(f"Fetching PyTorch for the processor: {at}", 0.0)
    for at, taken in pip.packages(fetch, [*what, *requirements[1:]], "fetch the image's wheels"):
        progress(f"Fetching vLLM and Triton: {at}", 0.1 + 0.4 * min(1, taken / len(requirements)))


def _built(engine: DockerEngine, context: Path, base: str, *, anew: bool) -> Iterator[tuple[str, float]]:
    """Let the engine build; yields what it does, and the fraction done."""
    arguments, labels = {"BASE": base, "VERSIONS": _versions()}, {INPUTS: _inputs(), ON: base}
    yield "Handing the wheels to Docker", 0.5
    with explained():
        steps = engine.client.api.build(
            path=str(context), tag=NAME, buildargs=arguments, labels=labels, nocache=anew, rm=True,
            forcerm=True, decode=True, platform=engine.platform or None,
        )  # fmt: skip
        said: list[str] = []
        for step in steps:
            said = [*said[-20:], *step.get("stream", "").splitlines()]
            if fault := fault_of(step):
                raise refusal("\n".join([*filter(None, said), f"docker: {fault}"]))
            if found := re.match(r"Step (\d+)/(\d+) : (.*)", step.get("stream", "")):
                yield f"Building the image: {found[3][:60]}", 0.5 + 0.5 * int(found[1]) / int(found[2])


def _versions() -> str:
    found = dict(line.split("==") for line in _requirements())
    return f"Triton 2.51.0, vLLM {found['vllm-cpu']}, PyTorch {found['torch']}"


def _step(created_by: str) -> str:
    """What made a layer, as the Dockerfile says it."""
    text = re.sub(r"^/bin/sh -c (#\(nop\) )?|# buildkit$", "", created_by).strip()
    return " ".join(text.split())[:90]
