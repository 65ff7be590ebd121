"""The fault lab on the real server: what is said names every fault, and the repository is as it was afterwards."""

from __future__ import annotations

import ctypes
import filecmp
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import tutor_repository
from tritonlab.faults import FAULTS, Fault, provoke
from tritonlab.logs import read_log

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def give_up_roots_privilege() -> None:
    """What this thread starts may not read what its user may not, be that root: capabilities(7)."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        assert os.geteuid() != 0 or ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 64 KB, mounted at the folder."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"only root may mount a disk: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """What each fault lets its server and its client say; two at a time, each in a folder of its own."""
    with ThreadPoolExecutor(2, initializer=give_up_roots_privilege) as threads:
        yield {name: threads.submit(let_show, fault, tmp_path_factory.mktemp(name)) for name, fault in FAULTS.items()}
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_by_what_is_said(said: dict[str, Future[str]], name: str) -> None:
    check(FAULTS[name], said[name].result())


def test_full_disk_is_named(tmp_path: Path) -> None:
    disk = tmp_path / "cache"
    cache = {"VLLM_CACHE_ROOT": str(disk), "TORCHINDUCTOR_CACHE_DIR": str(disk / "inductor")}
    fault = Fault("disk-full", "disk-full", "", environment=cache)
    with small_disk(disk):
        check(fault, let_show(fault, tmp_path, enforce_eager=False))


def let_show(fault: Fault, folder: Path, **engine_arguments: object) -> str:
    """What is said of a fault, which leaves the repository as it was."""
    repository = tutor_repository(folder / "models", "gemma", **engine_arguments)
    shutil.copytree(folder / "models", folder / "before")
    text = provoke(fault, repository, "gemma")
    compared = filecmp.dircmp(folder / "before" / "gemma", folder / "models" / "gemma")
    assert (compared.diff_files, compared.left_only, compared.right_only) == ([], [], [])
    return text


def check(fault: Fault, text: str) -> None:
    """The text names the fault."""
    report = read_log(text)
    assert report.verdict == "failed", text[-3000:]
    assert report.findings[0].id == fault.cause, text[-3000:]
