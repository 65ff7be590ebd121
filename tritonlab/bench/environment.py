"""AIPerf, NVIDIA's load generator, in a virtual environment of its own.

It pins pandas 2 and some 140 packages beside it, which the course's environment cannot hold. The environment is
installed from a full lock (`aiperf.lock`) with `--no-deps`, and its folder is named after that lock.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tritonlab.engine import Progress, pip
from tritonlab.errors import BenchError, EngineError
from tritonlab.home import home

LOCK = Path(__file__).with_name("aiperf.lock")
CHECK_S = 120.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables that AIPerf gets of this process's. No token is among them."""
FOR_THE_HUB = (
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""Those that it gets besides to fetch a tokenizer."""


def path() -> Path:
    """The folder of the environment that this package's lock describes; it need not exist."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:8]
    return home() / "aiperf" / f"py{sys.version_info.major}{sys.version_info.minor}-{digest}"


def version() -> str:
    """The version of AIPerf that the lock names."""
    return next(line for line in LOCK.read_text().splitlines() if line.startswith("aiperf==")).split("==")[1]


def variables(folder: Path, tokenizer: str) -> dict[str, str]:
    """What AIPerf runs with: little of this process's environment, and `folder` for all that it writes."""
    is_local = os.path.isabs(tokenizer)
    names = PASSED_ON if is_local else (*PASSED_ON, *FOR_THE_HUB)
    # Its cache of tokenizers is the user's own, unless none is needed.
    hub = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HF_HOME": str(folder / "hf" if is_local else hub),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


def install(progress: Progress = lambda sentence, fraction: None) -> Path:
    """The program `aiperf`, installed first unless it is there; safe to call twice, at once and after an interruption.

    Raises:
        BenchError: pip could not install it, or it does not start.
    """
    import filelock

    folder = path()
    program = folder / "venv" / "bin" / "aiperf"
    done = folder / "installed"
    if done.exists() and program.exists():
        return program
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not done.exists() or not program.exists():
                _build(folder, program, progress)
                done.touch()
    except OSError as error:
        raise BenchError(
            f"AIPerf cannot be installed into {folder}: {error}.",
            "Mend the rights of that folder or free some disk; TRITONLAB_HOME names another place.",
        ) from None
    return program


def _build(folder: Path, program: Path, progress: Progress) -> None:
    python = folder / "venv" / "bin" / "python"
    if not (python.exists() and any(folder.glob("venv/lib/python*/site-packages/pip"))):
        progress("Making AIPerf's environment", 0.0)
        _run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], "its environment could not be made")
    wanted = sum(1 for line in LOCK.read_text().splitlines() if "==" in line)
    try:
        verb = [str(python), "-m", "pip", "install"]
        # --no-compile: most of these packages are never imported. It halves the time and a quarter of the disk.
        for at, taken in pip.packages(verb, ["--no-compile", "--requirement", str(LOCK)], "install AIPerf"):
            progress(f"Installing AIPerf: {at}", min(0.05 + 0.8 * taken / wanted, 0.85))
    except EngineError as error:
        raise BenchError(f"AIPerf is not installed: {error.what}", error.fix) from None
    progress("Starting AIPerf once to see that it works", 0.9)
    _run([str(program), "--version"], "it does not start")
    progress("AIPerf is installed", 1.0)


def _run(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said = (done.stdout + done.stderr).strip()[-500:] or f"exit code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"no end after {CHECK_S:g} s"
    if said:
        raise BenchError(f"AIPerf is not installed: {failure}: {said}", f"Delete {path()} and try again.")
