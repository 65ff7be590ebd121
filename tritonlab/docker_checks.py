"""The doctor's Docker part: engine, GPUs, image, disk; shared memory, ports, WSL, token; and the test of a mount."""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import socket
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tritonlab import compatibility
from tritonlab.checkup import Finding
from tritonlab.errors import DockerError
from tritonlab.servers import engines, image, ports
from tritonlab.servers.docker import PORTS

DISK_GB = {True: 40.0, False: 7.0}  # with GPUs: NVIDIA's image, unpacked; without: the CPU image and what builds it
SHM_MB = 512.0
MOST_NAMES = 100
GATED_MODEL = "google/gemma-2b-it"
EMPTY_IMAGE = "tritonlab-empty"
HUB = "https://huggingface.co"
NETWORK_TIMEOUT_S = 3.0
LOOPBACK_TIMEOUT_S = 1.0


def look(driver: str) -> Iterator[Finding]:
    """What the docker target needs; `driver` is the host's NVIDIA driver, empty without a GPU. Takes a few seconds."""
    program = shutil.which("docker")
    yield Finding("ok", "docker command", program or "none: the package speaks to the engine without it")
    try:
        engine = engines.connect()
    except DockerError as error:
        is_absent = "No Docker engine was found" in error.what
        found = "none; the local target does without" if is_absent else error.what
        yield Finding("ok" if is_absent else "warning", "Docker engine", found, "" if is_absent else error.fix)
    else:
        with engine:
            where = f"{engine.address}{', on another host' if engine.is_remote else ''}"
            try:
                yield Finding("ok", "Docker engine", f"{engine.version} at {where}")
                yield _gpus(engine, "" if engine.is_remote else driver)
                yield _image(engine)
                yield from _disk(engine)
            except DockerError as error:
                yield Finding("warning", "Docker engine", error.what, error.fix)


def mount_test(engine: engines.DockerEngine, folder: Path) -> list[str]:
    """Names in a folder of the host, a hundred at most, as a container sees them. Nothing is run, so any image does.

    Raises:
        DockerError: Docker does not see the folder; says why.
    """
    from docker.types import Mount

    mount = Mount("/data", str(folder), type="bind", read_only=True)
    with engines.explained():
        images = engine.client.images.list()
        if not images:
            engine.client.api.import_image_from_data(_one_file(), repository=EMPTY_IMAGE)
        container = engine.client.containers.create(images[0] if images else EMPTY_IMAGE, ["none"], mounts=[mount])
        try:
            chunks, _ = container.get_archive("/data/.")
            with tarfile.open(fileobj=_Stream(chunks), mode="r|") as tar:
                members = islice(tar, MOST_NAMES)
                return sorted(name for member in members if (name := member.name.removeprefix("./")) not in ("", "."))
        finally:
            container.remove(v=True)
            if not images:
                engine.client.images.remove(EMPTY_IMAGE)


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _one_file() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    return archive.getvalue()


def _gpus(engine: engines.DockerEngine, driver: str) -> Finding:
    what = "GPUs in containers"
    if engine.has_gpus:
        fitting = compatibility.newest(driver) if driver else None
        if driver and fitting is None:
            return Finding(
                "warning", what, f"the driver {driver} is older than any image known here wants", "Update it."
            )
        found = f"yes; with the driver {driver} up to release {fitting.tag}" if fitting else "yes"
        return Finding("ok", what, found)
    if driver:
        fix = "Install NVIDIA's Container Toolkit, run `nvidia-ctk runtime configure --runtime=docker`, restart Docker."
        return Finding("warning", what, "the host has a GPU and Docker cannot show it", fix)
    return Finding("ok", what, "none: containers run the CPU image")


def _image(engine: engines.DockerEngine) -> Finding:
    if engine.has_gpus:
        return Finding("ok", "image", "NVIDIA's, pulled at the first start (10 to 20 GB)")
    found = image.find(engine)
    if found and found.is_current:
        return Finding("ok", "image", f"{found.name}, {found.size / 1e9:.1f} GB")
    missing = "of other versions" if found else "not there"
    return Finding("ok", "image", f"{image.NAME} is {missing}; the first start builds it, or `tritonlab image build`")


def _disk(engine: engines.DockerEngine) -> Iterator[Finding]:
    folder = Path(str(engine.info.get("DockerRootDir", "")))
    if engine.is_remote or not folder.is_dir():
        return  # of another host, or of Docker Desktop's own machine
    free, wanted = shutil.disk_usage(folder).free / 1e9, DISK_GB[engine.has_gpus]
    if free < wanted:
        fix = "docker system df tells what takes it; docker system prune frees some."
        yield Finding("warning", "Docker's disk", f"{free:.1f} GB free in {folder}, {wanted:g} are wanted", fix)
    else:
        yield Finding("ok", "Docker's disk", f"{free:.1f} GB free in {folder}")


def shared_memory() -> Iterator[Finding]:
    """Whether Triton's Python backend has room to hand tensors over."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        yield Finding("ok", "shared memory", "not looked at on this system")
        return
    size = shutil.disk_usage(folder).total / 1e6
    if size < SHM_MB:
        fix = "mount -o remount,size=2g /dev/shm; in a container --shm-size=1g."
        yield Finding("warning", "shared memory", f"/dev/shm has {size:.0f} MB", fix)
    else:
        yield Finding("ok", "shared memory", f"/dev/shm has {size / 1e3:.1f} GB")


def free_ports() -> Iterator[Finding]:
    """Whether a server could listen on loopback, and whether on Triton's usual ports."""
    try:
        with (
            socket.create_server((ports.HOST, 0)) as listening,
            socket.create_connection(listening.getsockname(), LOOPBACK_TIMEOUT_S),
        ):
            pass
    except OSError as error:
        fix = "Bring the loopback interface up (ip link set lo up), and see what filters it."
        yield Finding("FAIL", "ports", f"a server on {ports.HOST} would not be reached: {error.strerror or error}", fix)
        return
    taken = [str(port) for port in PORTS.values() if not ports.is_free(port)]
    if taken:
        yield Finding("ok", "ports", f"{', '.join(taken)} of 8000 to 8002 taken; serve() chooses free ones")
    else:
        yield Finding("ok", "ports", "8000 to 8002 are free")


def wsl() -> Iterator[Finding]:
    """Which WSL this is; nothing outside it."""
    if "microsoft" not in platform.release().lower():
        return
    if "WSL2" not in platform.release() and "microsoft-standard" not in platform.release():
        yield Finding("FAIL", "WSL", "this is WSL 1", "In PowerShell: wsl --set-version NAME 2.")
    else:
        gpu = "the GPU's driver is there" if Path("/usr/lib/wsl/lib/libcuda.so.1").exists() else "no GPU driver"
        yield Finding("ok", "WSL", f"WSL 2; {gpu}")


def token() -> Iterator[Finding]:
    """Whether HF_TOKEN looks like a token, and opens what it is wanted for."""
    yield _token()


def _token() -> Finding:
    what = "Hugging Face token"
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        return Finding("ok", what, "not set: gated models, such as Gemma and Llama, need one in HF_TOKEN")
    if not re.fullmatch(r"hf_[A-Za-z0-9]{20,}", token):
        odd = "has blanks or quotes" if re.search(r"[\s'\"]", token) else "does not look like one: hf_ and letters"
        return Finding("warning", what, f"HF_TOKEN {odd}", "Copy it anew from Settings, Access Tokens.")
    return _access(token)


def _access(token: str) -> Finding:
    import requests

    what = "Hugging Face token"
    url = f"{os.environ.get('HF_ENDPOINT', HUB)}/{GATED_MODEL}/resolve/main/config.json"
    try:
        answer = requests.head(url, headers={"Authorization": f"Bearer {token}"}, timeout=NETWORK_TIMEOUT_S)
    except (requests.RequestException, ValueError):
        return Finding("ok", what, "well formed; the Hub was not reached to try it")
    if answer.status_code == 401:
        return Finding(
            "warning", what, "well formed, and the Hub does not know it", "Make a new one, with read access."
        )
    if answer.status_code == 403:
        fix = f"Accept its terms on huggingface.co/{GATED_MODEL}, with the token's account."
        return Finding("warning", what, f"good, and without access to {GATED_MODEL}", fix)
    return Finding(
        "ok", what, f"good; opens {GATED_MODEL}" if answer.ok else "well formed; the Hub gave no clear answer"
    )
