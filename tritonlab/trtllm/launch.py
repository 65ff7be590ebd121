"""The line that starts Triton with TensorRT-LLM: one server, or one for each GPU of an engine that spans several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from tritonlab import compatibility
from tritonlab.errors import CommandError
from tritonlab.servers import shells
from tritonlab.servers.command import Advice, DockerRun, Option
from tritonlab.trtllm import command
from tritonlab.trtllm.engine import EngineFolder

if TYPE_CHECKING:
    import pandas as pd

TOLD = {
    "mpirun": ("starts a process for each rank and lets them find each other", "no rank knows of the others"),
    "--allow-run-as-root": ("allows it to root, who you are in the container", "mpirun refuses to start"),
    "--oversubscribe": ("starts more processes than it counts places for", "mpirun refuses when places are too few"),
    "-n": ("one process of what follows, up to the colon", "as many as there are processor cores"),
    ":": ("ends a rank's words: each rank has words of its own", "the rest would be this rank's too"),
    "tritonserver": ("the server; each rank is one, and holds one GPU's part of the engine", "nothing serves"),
    "--model-repository": ("the folder of models, as the server sees it", "it ends: there is nothing to serve"),
    "--grpc-port": ("where gRPC is served", "8001"),
    "--http-port": ("where HTTP is served", "8000"),
    "--metrics-port": ("where metrics are served", "8002"),
    "--log-verbose": ("logs each request's way through the server, of rank 0 alone", "only what matters is logged"),
    "--log-file": ("writes the log to a file", "it goes to the terminal"),
    "--model-control-mode": (
        "loads only what is named, on every rank but the first",
        "each rank would load preprocessing and the others too, which only the first needs",
    ),
    "--load-model": ("the model whose engine is spread over the ranks", "the rank would load nothing"),
    "--disable-auto-complete-config": (
        "takes config.pbtxt as it stands", "each Python model is asked first what its configuration lacks",
    ),
    "--backend-config": (
        "a prefix of its own for the shared memory of each rank's Python models",
        "the ranks would take each other's shared memory",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LaunchPlan:
    """What NVIDIA's launch_triton_server.py runs (tensorrtllm_backend r25.06, scripts); a single rank without mpirun.

    This is the leader mode: with an engine for several GPUs, a tritonserver for each rank under mpirun, of which
    rank 0 serves. In the orchestrator mode, TRTLLM_ORCHESTRATOR=1 in the environment, a single tritonserver starts
    the other ranks' workers itself; that is for several engines in one repository, and not planned here.

    Attributes:
        model_repository: the folder of models, as the server sees it.
        world_size: GPUs that the engine was built for: tensor times pipeline parallelism.
        models: the models that hold an engine.
        grpc_port, http_port, metrics_port: where rank 0 serves.
        log_file: where rank 0 writes a detailed log; "" logs as usual, to the terminal.
        oversubscribe: lets mpirun start more ranks than it counts places for, as under SLURM.
    """

    model_repository: str
    world_size: int = 1
    models: Sequence[str] = ("tensorrt_llm",)
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    log_file: str = ""
    oversubscribe: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no line.

        Raises:
            CommandError: a number that is none, a port twice, or no repository or model; says what to write.
        """
        ports = (self.grpc_port, self.http_port, self.metrics_port)
        if not self.model_repository:
            raise CommandError("No model repository is named.", "Name its folder, as the server sees it.")
        if type(self.world_size) is not int or self.world_size < 1:
            raise CommandError(f"world_size is {self.world_size!r}.", "Give the number of GPUs, 1 or more.")
        if any(type(port) is not int or not 0 < port < 65536 for port in ports) or len(set(ports)) < len(ports):
            raise CommandError(f"The ports are {ports}.", "Give three different numbers from 1 to 65535.")
        if isinstance(self.models, str) or not self.models:
            raise CommandError(f"models is {self.models!r}.", 'Give a list of names: ["tensorrt_llm"].')

    def words(self) -> list[str]:
        """The command, word for word."""
        return list(chain.from_iterable(self._lines()))

    def render(self, shell: str = "bash") -> str:
        """The command line in the container, whose shell is bash.

        Raises:
            CommandError: another shell is asked for.
        """
        if shell != "bash":
            raise CommandError(
                f"The line runs in the container, where there is no {shell!r}.",
                f"Start the container from there: docker(...).render({shell!r}).",
            )
        return shells.join([command.literal(line) for line in self._lines()], shell)

    def docker(
        self, folder: str = "${PWD}/model_repository", engines: str = "${PWD}/engines", release: str = "25.06"
    ) -> DockerRun:
        """The same in NVIDIA's container, with the options of tensorrtllm_backend's README.

        The host's network is the container's, so every address of the host reaches the ports.

        Args:
            folder: the host's folder of models, which the container sees as /model_repository.
            engines: the host's folder of engines, which the container sees as /engines.
            release: the image's release, such as "25.06".

        Raises:
            CommandError: the release has no image with TensorRT-LLM.
        """
        known = compatibility.releases()
        if release not in known or known[release].tensorrt_llm is None:
            raise CommandError(
                f"No image of release {release} is known to have TensorRT-LLM.",
                f"Take one of {', '.join(tag for tag, found in known.items() if found.tensorrt_llm)}.",
            )
        options = (
            Option("--rm"),
            Option("--interactive"),
            Option("--tty"),
            Option("--network", "host"),
            Option("--shm-size", "2g"),
            Option("--ulimit", "memlock=-1"),
            Option("--ulimit", "stack=67108864"),
            Option("--gpus", "all"),
            Option("--mount", f"type=bind,source={engines},target=/engines"),
            Option("--mount", f"type=bind,source={folder},target=/model_repository"),
        )
        inside = replace(self, model_repository="/model_repository").words()
        return DockerRun(command.image(release), tuple(command.literal(inside)), options)

    def explain(self) -> pd.DataFrame:
        """Every kind of word in the line: what it does, and what happens without it."""
        import pandas as pd

        kinds = {word.partition("=")[0]: word for word in reversed(self.words())}
        rows = [(kinds[kind], *told) for kind, told in TOLD.items() if kind in kinds]
        return pd.DataFrame(rows, columns=["part", "what it does", "without it"])

    def check(self, engine: EngineFolder) -> list[Advice]:
        """What contradicts the engine; empty when nothing does. `EngineFolder.check` tells of the engine itself."""
        if self.world_size == engine.world_size:
            return []
        advice = Advice(
            f"world_size {self.world_size}", f"The engine was built for {engine.world_size}.",
            "Each rank loads its own rankN.engine: tensor times pipeline parallelism is the number of ranks.",
            f"world_size={engine.world_size}, or convert and build anew.",
        )  # fmt: skip
        return [advice]

    def _lines(self) -> list[list[str]]:
        if self.world_size == 1:
            return [["tritonserver"], *self._options(0)]
        lines = [["mpirun", "--allow-run-as-root", *(["--oversubscribe"] if self.oversubscribe else [])]]
        for rank in range(self.world_size):
            lines += [[*([":"] if rank else []), "-n", "1", "tritonserver"], *self._options(rank)]
        return lines

    def _options(self, rank: int) -> list[list[str]]:
        ports = {"grpc": self.grpc_port, "http": self.http_port, "metrics": self.metrics_port}
        options = [f"--model-repository={self.model_repository}"]
        options += [f"--{name}-port={port}" for name, port in ports.items()]
        if self.log_file and rank == 0:
            options += ["--log-verbose=3", f"--log-file={self.log_file}"]
        if rank:
            options += ["--model-control-mode=explicit", *(f"--load-model={name}" for name in self.models)]
        options += ["--disable-auto-complete-config", f"--backend-config=python,shm-region-prefix-name=prefix{rank}_"]
        return [[option] for option in options]
