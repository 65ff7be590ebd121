"""The fault lab: faults that are put into a real server or its repository on purpose, and taken out again.

    with plant(FAULTS["model-json-missing"], repository, "gemma") as server:
        server.wait_ready()                                         # raises ServerFailed

    read_log(provoke(FAULTS["stub-killed"], repository, "gemma"))   # the same, and what a client gets to hear

Each names the cause that the log reader must find in what the real server and its client say; a test runs them all.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tritonlab.errors import ClientError, ServerFailed, TritonlabError
from tritonlab.repository import ModelRepository
from tritonlab.servers import serve
from tritonlab.servers.kept import KeptServer
from tritonlab.servers.ports import HOST

WEIGHTS = "weights"
"""The folder beside the version folder that gets a copy of the model's files, for faults in those."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: what it is called.
        cause: the id of the finding that it must give.
        story: what somebody did, in one sentence.
        change: changes the model's folder.
        arguments: further arguments of tritonserver.
        environment: further variables of the server.
        meanwhile: holds while the server starts and runs.
        only: the target that it shows on; empty if on any that starts a server.
        strike: what is done to the server once it is ready, returning what a client is told; without it the start
            fails.
    """

    name: str
    cause: str
    story: str
    change: Callable[[Path], None] = lambda model: None
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    meanwhile: Callable[[KeptServer], AbstractContextManager[object]] = lambda server: nullcontext()
    only: str = ""
    strike: Callable[[KeptServer, str], str] | None = None


@contextmanager
def plant(fault: Fault, repository: ModelRepository, model: str, target: str = "local") -> Iterator[KeptServer]:
    """Put a fault in and start a server on the model; at the end the model's folder is as before.

    Raises:
        RepositoryError: there is no such model.
        TritonlabError: the target cannot start a server, or the fault does not show on it.
    """
    if fault.only not in ("", target):
        raise TritonlabError(f"{fault.name} does not show on the target {target}.", f"Provoke it on {fault.only}.")
    folder = repository[model].path
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(folder, Path(kept) / model)
        try:
            fault.change(folder)
            with serve(repository, [model], target, arguments=fault.arguments, environment=fault.environment) as server:
                if not isinstance(server, KeptServer):
                    raise TritonlabError(
                        f"A server at {server.url} is not ours to break.", "Take the target local or docker."
                    )
                with fault.meanwhile(server):
                    yield server
        finally:
            shutil.rmtree(folder)
            shutil.copytree(Path(kept) / model, folder)


def provoke(fault: Fault, repository: ModelRepository, model: str, target: str = "local") -> str:
    """Let a fault show: the server's log, and below it what a client was told.

    Raises:
        RepositoryError: there is no such model.
        ServerFailed: the start failed of a server that was to be struck once it was ready.
        TritonlabError: as `plant`, or the server came up in spite of the fault.
    """
    with plant(fault, repository, model, target) as server:
        told = ""
        try:
            server.wait_ready(quiet=True)
        except ServerFailed:
            if fault.strike:
                raise
        else:
            if not fault.strike:
                raise TritonlabError(f"The server came up in spite of {fault.name}.", f"See {server.log_path}.")
            told = fault.strike(server, model)
        return server.log_path.read_text(encoding="utf-8", errors="replace") + told


def _config(old: str, new: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = model / "config.pbtxt"
        text = config.read_text(encoding="utf-8")
        if old not in text:
            raise TritonlabError(f"{config} does not hold {old!r}.", "Plant this fault into a model of VllmModel's.")
        config.write_text(text.replace(old, new), encoding="utf-8")

    return change


def _arguments(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        _write(model, {**_read(model), **changes})

    return change


def _files(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Give the model a copy of its files, to change those."""

    def changed(model: Path) -> None:
        arguments = _read(model)
        copy = model / WEIGHTS
        shutil.copytree(arguments["model"], copy)
        _write(model, {**arguments, "model": str(copy.absolute())})
        change(copy)

    return changed


def _settings(**changes: Any) -> Callable[[Path], None]:
    """Change the model's own config.json."""

    def change(files: Path) -> None:
        config = files / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))

    return _files(change)


def _remove(*names: str) -> Callable[[Path], None]:
    def change(files: Path) -> None:
        for name in names:
            (files / name).unlink()

    return _files(change)


def _cut(name: str) -> Callable[[Path], None]:
    def change(files: Path) -> None:
        os.truncate(files / name, (files / name).stat().st_size // 2)

    return _files(change)


def _forbid(model: Path) -> None:
    _path(model).chmod(0)


def _kill(name: str) -> Callable[[KeptServer, str], str]:
    """SIGKILL to the server's process of that name while an answer is on its way."""

    def strike(server: KeptServer, model: str) -> str:
        answer = server.client.stream(model, "Hello", max_tokens=900, ignore_eos=True)
        with closing(answer), suppress(ClientError):
            next(iter(answer))
            for pid, command in server.processes().items():
                if command and Path(command.split()[0]).name == name:
                    server.kill(pid)
        return _ask(model)(server, model)

    return strike


def _ask(name: str = "", prompt: str = "Hello", **parameters: Any) -> Callable[[KeptServer, str], str]:
    """A request that fails."""

    def strike(server: KeptServer, model: str) -> str:
        try:
            answer = server.client.generate(name or model, prompt, **parameters)
        except ClientError as error:
            return str(error)
        raise TritonlabError(f"A request that should fail was answered: {answer!r}.", "Look at the fault.")

    return strike


def _ask_for_one_answer(server: KeptServer, model: str) -> str:
    tensor = {"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["Hello"]}
    url = f"{server.client.url}/v2/models/{model}/infer"
    return requests.post(url, json={"inputs": [tensor]}, timeout=10).text


def _take(service: str) -> Callable[[KeptServer], AbstractContextManager[object]]:
    """Take the port of a service after the server has been given it, and before it opens it."""

    def meanwhile(server: KeptServer) -> AbstractContextManager[object]:
        address = {
            "http": server.client.url,
            "grpc": f"grpc://{server.client.grpc_url}",
            "metrics": server.client.metrics_url,
        }[service]
        return socket.create_server((HOST, urlsplit(address).port or 0))

    return meanwhile


def _path(model: Path) -> Path:
    [path] = model.glob("*/model.json")
    return path


def _read(model: Path) -> dict[str, Any]:
    arguments: dict[str, Any] = json.loads(_path(model).read_text(encoding="utf-8"))
    return arguments


def _write(model: Path, arguments: Mapping[str, Any]) -> None:
    _path(model).write_text(json.dumps(arguments, indent=2), encoding="utf-8")


def _break(model: Path) -> None:
    _path(model).write_text('{"model": ', encoding="utf-8")


def _nest(model: Path) -> None:
    _write(model, {"engine_args": _read(model)})


def _forget_version(model: Path) -> None:
    (model / "1").rename(model / "one")


def _rename(model: Path) -> None:
    _config(f'name: "{model.name}"', f'name: "{model.name}2"')(model)


_ALL = (
    Fault("model-json-missing", "model-json-missing", "model.json was forgotten.", lambda model: _path(model).unlink()),
    Fault("model-json-broken", "model-json-invalid", "A bracket is missing in model.json.", _break),
    Fault("engine-args-nested", "engine-args-unexpected-keyword", "model.json follows a guide that nests.", _nest),
    Fault(
        "argument-misspelt",
        "engine-args-unexpected-keyword",
        "An engine argument is misspelt.",
        _arguments(gpu_memory_utilisation=0.9),
    ),
    Fault("value-unknown", "engine-args-invalid-value", "dtype has a value that is none.", _arguments(dtype="float17")),
    Fault(
        "context-too-long", "max-model-len-too-large", "max_model_len is too long.", _arguments(max_model_len=99_999)
    ),
    Fault(
        "kv-cache-too-small",
        "kv-cache-too-small-for-max-len",
        "The KV cache was given almost nothing.",
        _arguments(kv_cache_memory_bytes=1 << 20),
        environment={"VLLM_CPU_KVCACHE_SPACE": ""},
    ),
    Fault(
        "no-memory",
        "no-memory-for-kv-cache",
        "The KV cache was given more than there is.",
        environment={"VLLM_CPU_KVCACHE_SPACE": "4000"},
    ),
    Fault("path-wrong", "model-path-not-found", "The model's path is misspelt.", _arguments(model="/models/gemma-2b")),
    Fault(
        "quantization-wrong",
        "quantization-config-missing",
        "A quantization is asked for that the checkpoint has not.",
        _arguments(quantization="awq"),
    ),
    Fault(
        "architecture-unknown",
        "unsupported-architecture",
        "The model is of a kind that vLLM does not know.",
        _settings(architectures=["TutorForCausalLM"], model_type="tutor"),
    ),
    Fault(
        "weights-of-another",
        "checkpoint-weights-mismatch",
        "config.json is that of a wider model.",
        _settings(intermediate_size=1024),
    ),
    Fault(
        "weights-cut",
        "checkpoint-file-corrupt",
        "The download of the weights broke off.",
        _cut("model.safetensors"),
    ),
    Fault(
        "tokenizer-missing",
        "tokenizer-file-missing-or-corrupt",
        "The tokenizer was not copied.",
        _remove("tokenizer.json"),
    ),
    Fault(
        "tokenizer-cut",
        "tokenizer-file-missing-or-corrupt",
        "The download of the tokenizer broke off.",
        _cut("tokenizer.json"),
    ),
    Fault(
        "name-differs",
        "config-name-mismatch",
        "The folder was renamed, and config.pbtxt was not.",
        _rename,
    ),
    Fault(
        "no-version",
        "version-folder-missing",
        "The version folder has a name in place of a number.",
        _forget_version,
    ),
    Fault("backend-unknown", "backend-library-missing", "The backend is misspelt.", _config('"vllm"', '"vlm"')),
    Fault(
        "syntax", "config-pbtxt-parse-error", "A field is misspelt.", _config("instance_group {", "instance_groups {")
    ),
    Fault("not-decoupled", "decoupled-required", "decoupled is false.", _config("decoupled: true", "decoupled: false")),
    Fault(
        "batch-size",
        "max-batch-size-conflict",
        "max_batch_size was copied from another backend.",
        _config('backend: "vllm"', 'backend: "vllm"\nmax_batch_size: 8'),
    ),
    Fault(
        "startup-model",
        "startup-model-not-found",
        "--load-model names a model that is not there.",
        arguments=["--load-model=gema"],
    ),
    Fault(
        "repository",
        "repository-missing",
        "--model-repository names a folder that is not there.",
        arguments=["--model-repository=/nowhere"],
    ),
    Fault("no-permission", "permission-denied", "model.json may not be read by the server's user.", _forbid),
    Fault(
        "shared-memory",
        "shm-too-small",
        "The stub is told to take more shared memory than there is.",
        arguments=["--backend-config=python,shm-default-byte-size=900000000000"],
    ),
    Fault("http-port", "port-in-use", "Another server has the HTTP port.", only="local", meanwhile=_take("http")),
    Fault("grpc-port", "port-in-use", "Another server has the gRPC port.", only="local", meanwhile=_take("grpc")),
    Fault(
        "metrics-port",
        "port-in-use",
        "Another server has the metrics port.",
        only="local",
        meanwhile=_take("metrics"),
        # Triton says so and serves on, without metrics.
        strike=lambda server, model: "",
    ),
    Fault("option-unknown", "bad-command-line-option", "An option is misspelt.", arguments=["--http-prt=1"]),
    Fault("engine-killed", "engine-core-died", "Something killed the engine.", strike=_kill("VLLM::EngineCore")),
    Fault("stub-killed", "python-stub-crash", "Something killed the stub.", strike=_kill("triton_python_backend_stub")),
    Fault("server-killed", "server-unreachable", "Something killed the server.", strike=_kill("tritonserver")),
    Fault("model-unknown", "request-unknown-model", "A request misspells the model.", strike=_ask("gema")),
    Fault("prompt-too-long", "prompt-too-long", "A prompt is too long.", strike=_ask(prompt="Hello! " * 2000)),
    Fault(
        "sampling-wrong",
        "sampling-parameter-invalid",
        "A request asks for a negative temperature.",
        strike=_ask(temperature=-1),
    ),
    Fault(
        "one-answer",
        "decoupled-model-needs-stream",
        "A client asks a decoupled model for one answer.",
        strike=_ask_for_one_answer,
    ),
)
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
