"""The docker target: Triton in a container of NVIDIA's image or of the CPU image, with its keeper."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tritonlab import compatibility, gpus
from tritonlab.client import Client
from tritonlab.engine import Progress
from tritonlab.engine.tutor import MODEL
from tritonlab.errors import DockerError, RepositoryError, TritonlabError
from tritonlab.repository import Model, ModelRepository
from tritonlab.servers import container_keeper, engines, image, leftovers, ports
from tritonlab.servers.command import FOLDER_OF_THE_HUB, DockerRun
from tritonlab.servers.container_keeper import LABEL
from tritonlab.servers.kept import KeptServer, check, servers_path, with_arguments
from tritonlab.trace import options
from tritonlab.trtllm import EngineFolder, command

if TYPE_CHECKING:
    from docker.models.containers import Container

    from tritonlab.schema import ModelConfig

MODELS = "/models"
TRACE = "/tmp/trace.json"  # in the container
# Volume -> folder: what was downloaded, and what vLLM found out and compiled, outlives the container.
CACHES = {"triton_hf_cache": FOLDER_OF_THE_HUB, "triton_vllm_cache": "/root/.cache/vllm"}
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
NVIDIA = "nvcr.io/nvidia/tritonserver:"
ENGINE_RELEASE = "25.06"  # where a compiled engine's own release is not known
# The parameters of config.pbtxt, in TensorRT-LLM's repository, that name a folder.
FOLDERS = {"tokenizer_dir", "gpt_model_path", "encoder_model_path", "multimodal_model_path"}
NOBODY = 1  # a port that no server has
SHM_SIZE = "1g"
TOKEN = "HF_TOKEN"
LOOK_EVERY_S = 0.05
LIST_PROCESSES = """
import os
for number in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{number}/cmdline").read().split("\\0")
    except OSError:
        continue
    if int(number) != os.getpid() and any(words):
        print(number, *words)
"""


class DockerServer(KeptServer):
    """A server in a container, on loopback. It ends with its `with` block, with `stop`, and with this process.

    Attributes:
        run: the `docker run` command that says what was started.
        engine: the Docker engine that runs it.
    """

    target = "docker"
    _ended = "The container ended"

    def __init__(
        self,
        repository: Path,
        models: Iterable[str] | None,
        wanted_ports: Mapping[str, int],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: str | os.PathLike[str] | None,
        image_name: str | None,
        progress: Progress,
        *,
        trace: bool = False,
    ) -> None:
        models = models if models is None or isinstance(models, str) else tuple(models)
        check(repository, models, arguments, environment)
        self._repository = repository.resolve()
        mounts = _mounts(self._repository)
        self.engine = engines.connect()
        try:
            ports.check(wanted_ports, is_here=not self.engine.is_remote)
            super().__init__(Client(f"http://{ports.HOST}:{NOBODY}"), models, log)
            tracing = [*(options(TRACE) if trace else []), *arguments]
            self.command = ["tritonserver", *with_arguments([f"--model-repository={MODELS}"], self.models, tracing)]
            name = provide(
                self.engine, image_name or engine_image(self.engine, self._repository, self.models), progress
            )
            sweep(self.engine)
            words = self._words(name, wanted_ports, mounts, environment)
            self.run = DockerRun.of(words)
        except BaseException:
            self.engine.close()
            raise
        self._keep("tritonlab.servers.container_keeper", [], os.environ)
        try:
            self._say({"words": words, "environment": dict(environment)})
            self.client = self._reached()
            self._note(repository=str(self._repository), image=name, container=self.run.values("--name")[0])
        except BaseException:
            self.stop()
            raise

    def load(self, model: str) -> None:
        """Load or reload a model; a remote engine is handed the repository as it is now."""
        if self.engine.is_remote:
            container_keeper.copy_in(self._container, self._repository, MODELS)
        super().load(model)

    def processes(self) -> dict[int, str]:
        """The processes in the container: number there -> command line (vLLM's write a title)."""
        with engines.explained():
            done = self._container.exec_run(["python3", "-c", LIST_PROCESSES])
        assert isinstance(done.output, bytes)
        said = done.output.decode(errors="replace")
        if done.exit_code != 0:
            raise DockerError(f"The container's processes cannot be listed: {said.strip()}")
        rows = (line.partition(" ") for line in said.splitlines())
        return {int(number): command.strip() for number, _, command in rows}

    def _read_trace(self) -> str:
        with engines.explained():
            done = self._container.exec_run(["sh", "-c", f"cat $(ls -v {TRACE}.* 2>/dev/null) </dev/null"])
        assert isinstance(done.output, bytes)
        return done.output.decode(errors="replace")

    def kill(self, pid: int) -> None:
        """SIGKILL to one of the server's `processes`, to see what happens then."""
        with engines.explained():
            self._container.exec_run(["python3", "-c", f"import os; os.kill({int(pid)}, 9)"], user="root")

    @cached_property
    def _container(self) -> Container:
        with engines.explained():
            return self.engine.client.containers.get(self._left("container.json")["id"])

    def _words(
        self, name: str, wanted: Mapping[str, int], mounts: Sequence[str], environment: Mapping[str, str]
    ) -> list[str]:
        """The words of the `docker run` command, in compose's notation."""
        host = self.engine.host
        tokens = [TOKEN] if TOKEN in os.environ and TOKEN not in environment else []
        options = [
            *(("--publish", f"{host}:{wanted.get(service, '')}:{port}") for service, port in PORTS.items()),
            *(("--env", variable) for variable in (*tokens, *environment)),
            *(("--mount", mount) for mount in mounts),
            ("--shm-size", SHM_SIZE),
            ("--workdir", str(Path.cwd())),
            ("--label", f"{LABEL}={self.id}"),
            ("--name", f"tritonlab-{self.id}"),
        ]
        if name == image.NAME and self.engine.platform:
            options.append(("--platform", self.engine.platform))
        if name.startswith(NVIDIA) or (self.engine.has_gpus and name != image.NAME):
            options.insert(0, ("--gpus", "all"))
        # The kernel passes no signal to process 1 that it has no handler for yet: without an init, a server that is
        # told to stop while it starts would have to be killed.
        words = ["docker", "run", "--detach", "--init", *(word for option in options for word in option)]
        return [word.replace("$", "$$") for word in (*words, name, *self.command)]

    def _say(self, order: Mapping[str, object]) -> None:
        assert self._keeper.stdin is not None
        with suppress(BrokenPipeError):  # a keeper that has ended says why in its folder
            self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
            self._keeper.stdin.flush()

    def _reached(self) -> Client:
        """A client for the container's ports, once Docker has chosen them."""
        while not (started := self._left("container.json")) and not self._has_ended():
            time.sleep(LOOK_EVERY_S)
        started = started or self._left("container.json")
        if not started:
            left = self._left("exit.json")
            raise DockerError(left.get("what", "The keeper of the container ended."), left.get("fix", "Try again."))
        addresses = {}
        for service, port in PORTS.items():
            bindings = started["ports"].get(f"{port}/tcp")
            # A container that ended at once has no ports any more: there is nothing to reach.
            addresses[service] = f"{self.engine.host}:{bindings[0]['HostPort'] if bindings else NOBODY}"
        return Client(
            f"http://{addresses['http']}",
            grpc_url=addresses["grpc"],
            metrics_url=f"http://{addresses['metrics']}/metrics",
        )

    def _exit(self) -> str:
        left = self._left("exit.json")
        memory = ", killed because its memory ran out" if left.get("out_of_memory") else ""
        return str(left["what"]) if "what" in left else f"exit code {left.get('code')}{memory}"

    def _clean(self) -> None:
        super()._clean()
        with suppress(DockerError):  # an engine that does not answer: the next sweep looks again
            container_keeper.remove(self.engine, self.id)
            (self._folder / "keeper.json").unlink(missing_ok=True)
        self.engine.close()


def provide(engine: engines.DockerEngine, name: str | None, progress: Progress) -> str:
    """Make sure that the engine has an image, the one asked for or the one that suits it; returns its name.

    Raises:
        DockerError: it can neither be found, pulled nor built.
    """
    name = name or (_newest_image(engine) if engine.has_gpus else image.NAME)
    if name == image.NAME:
        image.build(engine, progress)
    else:
        _pull(engine, name, progress)
    return name


def engine_image(engine: engines.DockerEngine, repository: Path, models: tuple[str, ...] | None = None) -> str | None:
    """NVIDIA's image that serves the repository's compiled engine, if it has one: that with its TensorRT-LLM.

    Raises:
        DockerError: it has one, and there is no GPU to run it.
    """
    configs = [model.config for model in _readable(repository)]
    steps = {step.model_name for c in configs if models and c.name in models for step in c.ensemble_scheduling.step}
    loaded = [c for c in configs if models is None or c.name in {*models, *steps}]
    compiled = [config for config in loaded if config.backend == "tensorrtllm"]
    if not compiled:
        return None
    if not engine.has_gpus:
        raise DockerError(
            f"{compiled[0].name} runs a compiled engine (backend tensorrtllm), and Docker has no NVIDIA GPU here.",
            "Give InflightBatcherLlm vllm={...} in place of engine=: then the model runs on a processor.",
        )
    return image_of(compiled[0])


def image_of(config: ModelConfig) -> str:
    """NVIDIA's image with the TensorRT-LLM that compiled the engine of a model."""
    try:
        version = EngineFolder.read(config.parameters["gpt_model_path"].string_value).version
    except TritonlabError:
        version = ""
    fitting = [r.tag for r in compatibility.releases().values() if r.tensorrt_llm and r.tensorrt_llm.version == version]
    return command.image([*fitting, ENGINE_RELEASE][0])


def _readable(repository: Path) -> Iterator[Model]:
    """The models whose config.pbtxt can be read; Triton says the rest."""
    for model in ModelRepository(repository):
        with suppress(RepositoryError):
            model.config  # noqa: B018  (raises)
            yield model


def sweep(engine: engines.DockerEngine) -> list[str]:
    """Take away the containers of this user's servers whose keeper is gone; returns the servers' ids."""
    swept = []
    for server_id in labelled(engine):
        folder = servers_path() / server_id
        # The record comes before the container, and goes after it.
        is_kept = (folder / "keeper.json").exists() and leftovers.keeper_lives(folder)
        if folder.is_dir() and not is_kept:
            container_keeper.remove(engine, server_id)
            (folder / "keeper.json").unlink(missing_ok=True)
            swept.append(server_id)
    return swept


def labelled(engine: engines.DockerEngine) -> set[str]:
    """The ids of all servers that have a container or a volume on the engine, whoever started them."""
    with engines.explained():
        containers = engine.client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
        volumes = engine.client.volumes.list(filters={"label": LABEL})
    return {thing.labels[LABEL] for thing in containers} | {
        volume.attrs["Labels"][LABEL] for volume in volumes
    }  # fmt: skip


def _newest_image(engine: engines.DockerEngine) -> str:
    """NVIDIA's newest image that suits this machine's driver; the newest of all for a remote engine.

    Raises:
        DockerError: the driver is too old for any.
    """
    release: compatibility.Release | None = next(iter(compatibility.releases().values()))
    if not engine.is_remote and (driver := gpus.driver()):
        release = compatibility.newest(driver)
        if release is None:
            raise DockerError(
                f"The NVIDIA driver {driver} is older than any image known here wants.",
                'Update it, or choose an image yourself: serve(..., image="...").',
            )
    assert release is not None
    return f"{NVIDIA}{release.tag}-vllm-python-py3"


def _pull(engine: engines.DockerEngine, name: str, progress: Progress) -> None:
    """Pull an image that is not there, telling how far it is."""
    import docker.errors
    from docker.utils import parse_repository_tag

    with engines.explained():
        try:
            engine.client.images.get(name)
            return
        except docker.errors.ImageNotFound:
            progress(f"Pulling {name}", 0.0)
        repository, tag = parse_repository_tag(name)
        layers: dict[str, tuple[int, int]] = {}
        for step in engine.client.api.pull(repository, tag or "latest", stream=True, decode=True):
            if fault := engines.fault_of(step):
                raise engines.refusal(f"docker: Error response from daemon: {fault}")
            detail = step.get("progressDetail") or {}
            if detail.get("total", 0) > 0:
                layers[step["id"]] = (detail.get("current", 0), detail["total"])
            done, total = (sum(column) for column in zip(*layers.values(), strict=True)) if layers else (0, 1)
            progress(f"Pulling {name}: {step.get('status', '')}", done / total)


def _mounts(repository: Path) -> list[str]:
    """The values of --mount: the repository, what its models name on this machine, the caches."""
    return [
        bind(repository, MODELS),
        *(bind(folder, str(folder)) for folder in _folders(repository)),
        *(f"type=volume,source={volume},target={folder}" for volume, folder in CACHES.items()),
    ]


def bind(source: Path, target: str) -> str:
    """The value of --mount that shows a folder of the host in the container, read-only.

    Raises:
        TritonlabError: Docker has no way to write its name.
    """
    if "," in str(source):
        raise TritonlabError(f"Docker cannot be told of {source}: its name has a comma.", "Rename the folder.")
    return f"type=bind,source={source},target={target},readonly"


def _folders(repository: Path) -> Iterator[Path]:
    """The folders of this machine that the models name, and the course's model: shown at the same path."""
    yield from sorted({MODEL.resolve(), *folders(ModelRepository(repository))})


def folders(models: Iterable[Model]) -> set[Path]:
    """The folders of this machine that models name."""
    found = set()
    for value in filter(None, named(models)):
        if Path(value).is_dir():
            folder = Path(os.path.abspath(value))
            # A snapshot of the Hub holds links to files that lie beside it.
            found |= {folder, *(link.resolve().parent for link in folder.iterdir() if link.is_symlink())}
    return found


def named(models: Iterable[Model]) -> Iterator[str]:
    """What model.json and the parameters of config.pbtxt name that may be a folder."""
    for model in models:
        for path in model.path.glob("*/model.json"):
            with suppress(OSError, ValueError, AttributeError):
                for key, value in json.loads(path.read_text(encoding="utf-8")).items():
                    if key in {"model", "tokenizer"} and isinstance(value, str):
                        yield value
        with suppress(RepositoryError):
            parameters = model.config.parameters
            yield from (parameters[name].string_value for name in FOLDERS & set(parameters))
