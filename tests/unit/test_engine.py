"""The installer's decisions: which machine, which place, what happens when pip fails. The real install is CI's own."""

from __future__ import annotations

import platform
import stat
import sys
from pathlib import Path

import pytest

from tritonlab.engine import Engine, installer, machine, pip, stub
from tritonlab.errors import EngineError


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("system", "processor", "words"),
    [
        ("Windows", "AMD64", "WSL2"),
        ("Darwin", "arm64", "Darwin on arm64"),
        ("Darwin", "x86_64", "container with Docker"),
        ("Linux", "aarch64", "Linux on aarch64"),
    ],
)
def test_other_machines_are_told(monkeypatch: pytest.MonkeyPatch, system: str, processor: str, words: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    with pytest.raises(EngineError, match=words):
        machine.require_runnable()


@pytest.mark.parametrize(("libc", "found"), [(("glibc", "2.31"), r"glibc 2\.31"), (("", ""), "another C library")])
def test_old_c_library(monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str], found: str) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(EngineError, match=found):
        machine.require_runnable()


def test_other_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PYTHONS", ((3, 8),))
    with pytest.raises(EngineError, match=platform.python_version()):
        machine.require_runnable()


def test_processor_without_avx2(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("flags\t: fpu sse avx\n")
    (tmp_path / "new").write_text("flags\t: fpu avx avx2\n")
    with pytest.raises(EngineError, match="AVX2"):
        machine._require_cpu(tmp_path / "old")
    machine._require_cpu(tmp_path / "new")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DISK_GB", 1e9)
    with pytest.raises(EngineError, match="TRITONLAB_HOME"):
        machine.require_disk(tmp_path / "not" / "yet" / "there")


def test_missing_engine(own_home: Path) -> None:
    with pytest.raises(EngineError, match="tritonlab engine install"):
        Engine.find()
    found = installer.status()
    assert not found.installed
    assert own_home in found.path.parents
    assert installer.remove() == []


def test_shared_engine_is_looked_for_where_the_variable_says(
    own_home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    monkeypatch.setenv("TRITONLAB_ENGINE", str(shared))
    assert installer.engine_path().parent == shared
    with pytest.raises(EngineError, match=f"TRITONLAB_ENGINE names {shared}"):
        Engine.find()
    monkeypatch.setenv("TRITONLAB_ENGINE", "/proc/engine")
    with pytest.raises(EngineError, match="You may not write to /proc/engine"):
        installer.install()


def test_an_unfinished_install_does_not_count_and_stale_ones_are_told(own_home: Path) -> None:
    (installer.engine_path() / "venv").mkdir(parents=True)
    (own_home / "engine" / "py311-00000000").mkdir()
    found = installer.status()
    assert not found.installed
    assert [path.name for path in found.stale] == ["py311-00000000"]
    assert len(installer.remove()) == 2
    assert [path for path in (own_home / "engine").iterdir() if path.is_dir()] == []


def test_the_installed_engine_is_taken_as_it_is() -> None:
    before = (installer.engine_path() / "installed.json").stat().st_mtime_ns
    said: list[str] = []
    installer.install(lambda sentence, fraction: said.append(sentence))
    assert said == []
    assert (installer.engine_path() / "installed.json").stat().st_mtime_ns == before


def fake_pip(folder: Path, script: str) -> Engine:
    """An engine whose python is a shell script: how pip fails must not depend on the network."""
    engine = Engine(folder, {})
    engine.python.parent.mkdir(parents=True)
    engine.python.write_text(f"#!/bin/sh\n{script}\n")
    engine.python.chmod(engine.python.stat().st_mode | stat.S_IXUSR)
    return engine


def verb(engine: Engine) -> list[str]:
    return [str(engine.python), "-m", "pip", "install"]


def test_torch_index_is_added_only_when_pip_does_not_find_it(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    engine = fake_pip(
        tmp_path / "a",
        f'echo "$@" >> {calls}\ncase "$*" in *download.pytorch.org*) exit 0;; esac\n'
        'echo "ERROR: No matching distribution found for torch"; exit 1',
    )
    list(pip.torch(verb(engine), [], "install it"))
    first, second = calls.read_text().splitlines()
    assert pip.TORCH_INDEX not in first
    assert second.endswith(f"--extra-index-url {pip.TORCH_INDEX}")


def test_torch_that_pip_finds_needs_no_index(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    engine = fake_pip(tmp_path / "a", f'echo "$@" >> {calls}; echo "Collecting torch"')
    assert list(pip.torch(verb(engine), [], "install it")) == [("torch", 1)]
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("said", ["ERROR: Could not install: No space left on device", "killed by nobody knows whom"])
def test_what_pip_says_is_passed_on(tmp_path: Path, said: str) -> None:
    engine = fake_pip(tmp_path / "a", f'echo "{said}"; exit 1')
    with pytest.raises(EngineError, match=said.removeprefix("ERROR: ")):
        list(pip.torch(verb(engine), [], "install it"))


def test_what_pip_is_at_is_told_as_it_comes(tmp_path: Path) -> None:
    said = (
        "Collecting numpy",
        "  Downloading numpy-1.26.4-cp311-manylinux_x86_64.whl (18.3 MB)",
        "Requirement already satisfied: six in ./lib",
        "Installing collected packages: numpy",
        "Successfully installed numpy-1.26.4",
    )
    engine = fake_pip(tmp_path / "a", "".join(f'echo "{line}"\n' for line in said))
    told = list(pip.packages(verb(engine), [], "install it"))
    assert told == [("numpy", 1), ("numpy, 18.3 MB", 1), ("six", 2), (pip.UNPACKING, 2)]


class TestStub:
    def test_numpy_1_takes_it_as_it_is(self) -> None:
        assert stub.for_numpy(b"anything", 1) == b"anything"

    def test_another_stub_is_refused(self) -> None:
        with pytest.raises(EngineError, match=r"Use Python 3\.11 or 3\.12"):
            stub.for_numpy(b"anything", 2)

    def test_known_stub_is_changed_in_five_bytes(self) -> None:
        wheel = Engine.find().site_packages / "pytriton" / "tritonserver" / "python_backend_stubs" / "3.13" / stub.NAME
        original = wheel.read_bytes()
        patched = stub.for_numpy(original, 2)
        changed = [(old, new) for old, new in zip(original, patched, strict=True) if old != new]
        assert changed == [(0x20, 0x28)] * 5


def test_lock_pins_numpy_1_where_it_has_builds() -> None:
    lines = [line for line in installer.LOCK.read_text().splitlines() if line.startswith("numpy==")]
    assert len(lines) == 2
    assert all(line.startswith(("numpy==1.", "numpy==2.")) for line in lines)
    assert sys.version_info[:2] in machine.PYTHONS
