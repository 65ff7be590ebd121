"""What Docker refuses and what ends a container: faults provoked on a real engine, with the cause to be read.

    print(provoke(DOCKER_FAULTS["bind-source-missing"], engines.connect(), "tritonlab/tritonserver:2.51-vllm-cpu-py3"))

Each is a `docker run` line with one thing wrong. They show with any image that has tritonserver.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tritonlab.errors import DockerError, TritonlabError
from tritonlab.servers import engines
from tritonlab.servers.command import DockerRun
from tritonlab.servers.container_keeper import LABEL, remove
from tritonlab.servers.ports import HOST
from tritonlab.variables import variables

END_WAIT_S = 120
NOBODY_UID = 65_534  # the user of that number may not do anything
# All is imported while the process may still read it.
AS_NOBODY = f"""
import os
import docker.context.config
import docker.utils
import requests
from tritonlab import docker_faults
from tritonlab.servers import engines

engines.refusal("warm up")
os.setgroups([])
os.setgid({NOBODY_UID})
os.setuid({NOBODY_UID})
print(docker_faults._connect())
"""
MOUNTED = "docker run --mount type=bind,source=$PWD/model_repository,target=/models"
SERVE = "tritonserver --model-repository=/models"
EMPTY_MODEL = 'backend: "python"\n'

Said = Callable[[engines.DockerEngine, str, Path], str]
"""Given the engine, the image's name and a folder to work in: what Docker and the container say."""


@dataclass(frozen=True)
class DockerFault:
    """One fault.

    Attributes:
        name: what it is called.
        cause: the id of the finding that it must give.
        story: what somebody did, in one sentence.
        let_show: provokes it.
        line: the command, as somebody would have typed it.
    """

    name: str
    cause: str
    story: str
    let_show: Said
    line: str


def provoke(fault: DockerFault, engine: engines.DockerEngine, image: str) -> str:
    """Let a fault show on a real engine; what Docker and the container said. Nothing is left of it.

    Raises:
        TritonlabError: it did not show at all.
    """
    with tempfile.TemporaryDirectory(prefix="tritonlab-fault-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        model = folder / "model_repository" / "echo"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(EMPTY_MODEL)
        return fault.let_show(engine, image, folder)


def start(engine: engines.DockerEngine, run: DockerRun) -> str:
    """Run the line until its container has ended, and return its log and its exit code as Docker's tools tell them.

    Raises:
        DockerError: Docker refused it.
    """
    server_id = f"fault-{secrets.token_hex(4)}"
    arguments = run.sdk_arguments()
    arguments["labels"] = {LABEL: server_id}
    try:
        with engines.explained():
            container = engine.client.containers.create(**arguments)
            container.start()
            code = container.wait(timeout=END_WAIT_S)["StatusCode"]
            container.reload()
            memory = '\n"OOMKilled": true' if container.attrs["State"]["OOMKilled"] else ""
            return f"{container.logs().decode(errors='replace')}\n{container.name} exited with code {code}{memory}\n"
    finally:
        remove(engine, server_id)


def _line(*options: str, command: str = "tritonserver --model-repository=/models") -> Said:
    """A line that mounts the repository in the folder, with further options and another command."""

    def let_show(engine: engines.DockerEngine, image: str, folder: Path) -> str:
        source = f"type=bind,source={folder / 'model_repository'},target=/models"
        words = ["docker", "run", "--mount", source, *options, image, *command.split()]
        return _refused(engine, DockerRun.of(words))

    return let_show


def _refused(engine: engines.DockerEngine, run: DockerRun) -> str:
    try:
        return start(engine, run)
    except DockerError as error:
        return error.said


def _mount_of_nothing(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    source = f"type=bind,source={folder / 'model_repositroy'},target=/models"
    return _refused(engine, DockerRun.of(["docker", "run", "--mount", source, image, "ls", "/models"]))


def _taken_port(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    with socket.create_server((HOST, 0)) as taken:
        return _line("--publish", f"{HOST}:{taken.getsockname()[1]}:8000")(engine, image, folder)


def _taken_name(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    name = f"triton-{secrets.token_hex(4)}"
    with engines.explained():
        first = engine.client.containers.create(image, ["true"], name=name)
    try:
        return _line("--name", name)(engine, image, folder)
    finally:
        first.remove()


def _unknown_image(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    """As `docker run` does: what is not there is pulled."""
    from tritonlab.servers.docker import provide

    try:
        return provide(engine, f"{image}-misspelt", lambda sentence, fraction: None)
    except DockerError as error:
        return error.said


def _no_engine(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    with variables(DOCKER_HOST=f"unix://{folder / 'docker.sock'}"):
        return _connect()


def _no_right(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    """A socket that only its owner may open, met by somebody else; as root, by a process that gives its rights up."""
    path = folder / "docker.sock"
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(path))
        closed.listen()
        path.chmod(0)
        if os.geteuid() != 0:
            with variables(DOCKER_HOST=f"unix://{path}"):
                return _connect()
        environment = {**os.environ, "DOCKER_HOST": f"unix://{path}"}
        done = subprocess.run([sys.executable, "-c", AS_NOBODY], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise TritonlabError(f"The fault could not be provoked: {done.stderr}")
        return done.stdout


def _connect() -> str:
    try:
        engines.connect().close()
    except DockerError as error:
        return error.said
    raise TritonlabError("The engine answers in spite of the fault.", "Look at the fault.")


def _unreadable(engine: engines.DockerEngine, image: str, folder: Path) -> str:
    with suppress(PermissionError):
        os.chown(folder / "model_repository", 0, 0)
    (folder / "model_repository").chmod(0o700)
    return _line("--user", f"{NOBODY_UID}:{NOBODY_UID}")(engine, image, folder)


_ALL = (
    DockerFault(
        "bind-source-missing",
        "bind-source-missing",
        "The folder is misspelt in --mount.",
        _mount_of_nothing,
        f"{MOUNTED} IMAGE {SERVE}".replace("repository,", "repositroy,"),
    ),
    DockerFault(
        "port-allocated",
        "port-in-use",
        "Something on the host has the port already.",
        _taken_port,
        f"{MOUNTED} --publish 127.0.0.1:8000:8000 IMAGE {SERVE}",
    ),
    DockerFault(
        "name-in-use",
        "container-name-in-use",
        "A container of that name is still there.",
        _taken_name,
        f"{MOUNTED} --name triton IMAGE {SERVE}",
    ),
    DockerFault(
        "image-unknown",
        "image-not-found",
        "The image's tag is misspelt.",
        _unknown_image,
        f"{MOUNTED} IMAGE-misspelt {SERVE}",
    ),
    DockerFault(
        "no-gpu-runtime",
        "nvidia-runtime-missing",
        "--gpus is given on a host without NVIDIA's toolkit.",
        _line("--gpus", "all"),
        f"{MOUNTED} --gpus all IMAGE {SERVE}",
    ),
    DockerFault(
        "engine-not-running",
        "docker-not-running",
        "Docker was not started.",
        _no_engine,
        f"{MOUNTED} IMAGE {SERVE}",
    ),
    DockerFault(
        "socket-permission",
        "permission-denied",
        "The user may not open Docker's socket.",
        _no_right,
        f"{MOUNTED} IMAGE {SERVE}",
    ),
    DockerFault(
        "exits-at-once",
        "container-exited-at-once",
        "The line ends with the image's name.",
        _line(command=""),
        f"{MOUNTED} IMAGE",
    ),
    DockerFault(
        "option-misspelt",
        "bad-command-line-option",
        "An option of tritonserver's is misspelt.",
        _line(command="tritonserver --model-repositroy=/models"),
        f"{MOUNTED} IMAGE tritonserver --model-repositroy=/models",
    ),
    DockerFault(
        "entry-point-wrong",
        "container-command-not-found",
        "--entrypoint names a program that the image does not have.",
        _line("--entrypoint", "tritonsever"),
        f"{MOUNTED} --entrypoint tritonsever IMAGE --model-repository=/models",
    ),
    DockerFault(
        "command-wrong",
        "container-command-not-found",
        "The command is misspelt.",
        _line(command="tritonsever --model-repository=/models"),
        f"{MOUNTED} IMAGE tritonsever --model-repository=/models",
    ),
    DockerFault(
        "memory",
        "container-oom-killed",
        "The container is given less memory than the program needs.",
        _line("--memory", "48m", command="python3 -c print(len(bytearray(300_000_000)))"),
        f"{MOUNTED} --memory 48m IMAGE python3 -c 'print(len(bytearray(300_000_000)))'",
    ),
    DockerFault(
        "disk-full",
        "disk-full",
        "The disk that the cache lies on is full.",
        _line(
            *("--mount", "type=tmpfs,target=/root/.cache/huggingface,tmpfs-size=65536"),
            command="dd if=/dev/zero of=/root/.cache/huggingface/weights bs=1M count=1",
        ),
        "docker run --mount type=tmpfs,target=/root/.cache/huggingface,tmpfs-size=65536 IMAGE dd if=/dev/zero ...",
    ),
    DockerFault(
        "mount-unreadable",
        "repository-unreadable",
        "The repository is its owner's alone, and the container runs as somebody else.",
        _unreadable,
        f"{MOUNTED} --user 65534:65534 IMAGE {SERVE}",
    ),
)
DOCKER_FAULTS: Mapping[str, DockerFault] = {fault.name: fault for fault in _ALL}
