"""Record the logs of the local target that stand beside this file: python data/logs/record.py

Each is the whole log of one server. Paths are made neutral; nothing else is changed.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tritonlab import ModelRepository, VllmModel, serve
from tritonlab.engine.installer import Engine
from tritonlab.engine.tutor import MODEL
from tritonlab.errors import ClientError, ServerFailed
from tritonlab.servers import Server

HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = {"dtype": "bfloat16", "enforce_eager": True, "max_model_len": 1024}


def ready(server: Server) -> None:
    """It comes up, answers once, and is stopped."""
    server.wait_ready(quiet=True).client.generate("gemma", "Why is the sky blue?", max_tokens=64)


def engine_killed(server: Server) -> None:
    """The engine's process is killed while a request runs."""
    stream = iter(server.wait_ready(quiet=True).client.stream("gemma", "Hello", max_tokens=900, ignore_eos=True))
    next(stream)
    for process in psutil.Process(server._keeper.pid).children(recursive=True):  # type: ignore[attr-defined]
        if process.name().startswith("VLLM::EngineCore"):
            os.kill(process.pid, signal.SIGKILL)
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
}


def main() -> None:
    for name, (scene, arguments) in RECORDINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            repository = ModelRepository(Path(folder) / "model_repository")
            repository.add(VllmModel("gemma", **{"model": str(MODEL), **SETTINGS, **arguments}))
            with serve(repository, models=["gemma"], target="local") as server:
                scene(server)
            text = server.log_path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
            places = {
                folder: "/srv",
                str(Engine.find().path): "/engine",
                str(MODEL): "/models/tutor",
                str(HERE.parents[1]): "/course",
                sys.base_prefix: "/usr",
            }
            for place, neutral in places.items():
                text = text.replace(place, neutral)
            (HERE / name).write_text(text, encoding="utf-8")
            print(f"{len(text.splitlines()):5} lines  {name}")


if __name__ == "__main__":
    main()
