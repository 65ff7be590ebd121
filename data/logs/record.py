"""Record the logs of our own servers that stand beside this file: python data/logs/record.py [NAME.log ...]

Each is the whole log of one server; in `faults/` what its client was told stands below it, and in `docker-faults/` what
Docker refused, or how the container ended. Paths and addresses are made neutral; nothing else is changed. Not as root:
nothing is forbidden to root, and one of the faults is a missing permission. Those of docker need its engine.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tritonlab import ModelRepository, VllmModel, docker_faults, serve
from tritonlab.docker_faults import DOCKER_FAULTS, DockerFault
from tritonlab.engine.installer import Engine
from tritonlab.engine.tutor import MODEL
from tritonlab.errors import ClientError, ServerFailed
from tritonlab.faults import FAULTS, Fault, provoke
from tritonlab.servers import Server, engines, image

HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = {"dtype": "bfloat16", "enforce_eager": True, "max_model_len": 1024}


def ready(server: Server) -> None:
    """It comes up, answers once, and is stopped."""
    server.wait_ready(quiet=True).client.generate("gemma", "Why is the sky blue?", max_tokens=64)


def engine_killed(server: Server) -> None:
    """The engine's process is killed while a request runs."""
    stream = iter(server.wait_ready(quiet=True).client.stream("gemma", "Hello", max_tokens=900, ignore_eos=True))
    next(stream)
    for pid, command in server.processes().items():  # type: ignore[attr-defined]
        if command.startswith("VLLM::EngineCore"):
            server.kill(pid)  # type: ignore[attr-defined]
    with suppress(ClientError):
        list(stream)
    while server.client.model_ready("gemma"):
        pass


def fails(server: Server) -> None:
    """It ends by itself."""
    with suppress(ServerFailed):
        server.wait_ready(quiet=True)


RECORDINGS = {
    "local-triton-vllm-ready-and-stopped.log": (ready, {}),
    "local-triton-vllm-engine-core-killed.log": (engine_killed, {}),
    "local-triton-vllm-unexpected-argument.log": (fails, {"gpu_memory_utilisation": 0.9}),
    "local-triton-vllm-context-too-long.log": (fails, {"max_model_len": 1_000_000}),
    "docker-triton-vllm-ready-and-stopped.log": (ready, {}, "docker"),
}


def served(
    scene: Callable[[Server], None], arguments: dict[str, Any], target: str = "local", *, repository: ModelRepository
) -> str:
    """The log of a server that lives through a scene."""
    repository.add(VllmModel("gemma", **{"model": str(MODEL), **SETTINGS, **arguments}))
    with serve(repository, models=["gemma"], target=target) as server:
        scene(server)
    return server.log_path.read_text(encoding="utf-8")  # type: ignore[attr-defined,no-any-return]


def faulty(fault: Fault, *, repository: ModelRepository) -> str:
    """What a fault of the fault lab lets its server say, and its client."""
    repository.add(VllmModel("gemma", model=str(MODEL), **SETTINGS))
    return provoke(fault, repository, "gemma")


def refused(fault: DockerFault, *, repository: ModelRepository) -> str:
    """What Docker says of a fault, and the container if there was one."""
    with engines.connect() as engine:
        return docker_faults.provoke(fault, engine, image.NAME)


def main() -> None:
    recordings: dict[Path, Callable[..., str]] = {
        **{HERE / name: partial(served, *recording) for name, recording in RECORDINGS.items()},
        **{HERE / "faults" / f"{name}.log": partial(faulty, fault) for name, fault in FAULTS.items()},
        **{HERE / "docker-faults" / f"{name}.log": partial(refused, fault) for name, fault in DOCKER_FAULTS.items()},
    }
    for path, record in recordings.items():
        if len(sys.argv) > 1 and path.name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            text = record(repository=ModelRepository(Path(folder) / "model_repository"))
        places = {
            folder: "/srv",
            str(Engine.find().path): "/engine",
            str(MODEL): "/models/tutor",
            str(HERE.parents[1]): "/course",
            sys.base_prefix: "/usr",
        }
        text = re.sub(r"/tmp/tritonlab-fault-\w+", "/srv", text)
        text = re.sub(r"\S+:53: no such host", "192.0.2.53:53: no such host", text)
        for place, neutral in places.items():
            text = text.replace(place, neutral)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{len(text.splitlines()):5} lines  {path.relative_to(HERE)}", flush=True)


if __name__ == "__main__":
    main()
