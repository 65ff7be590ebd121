"""What all renderers ask: which models, in which image, with which arguments, out of which files, on how many GPUs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tritonlab import compatibility
from tritonlab.errors import RepositoryError, TritonlabError
from tritonlab.repository import Model, ModelRepository
from tritonlab.schema import ModelConfig, schema
from tritonlab.servers import docker
from tritonlab.servers import image as cpu_image
from tritonlab.servers.command import TOKEN, DockerRun
from tritonlab.servers.kept import check, with_arguments
from tritonlab.trtllm import EngineFolder, LaunchPlan

EXIT_TIMEOUT_S = 30  # how long requests in work may go on once the server was told to stop
HEALTH_CHECK = "ENABLE_VLLM_HEALTH_CHECK"
REPORTS = "REPORT_CUSTOM_METRICS"
# The processes of a model on several GPUs exchange through it; it takes memory only as it is used.
SHM_OF_SEVERAL_GPUS = "8g"
RAY = "ray"


@dataclass(frozen=True)
class Serving:
    """A server to be written down for some other place.

    Attributes:
        repository: the model repository on this machine.
        models: the models that are loaded, by name.
        image: what runs it.
        gpus: GPUs of one host that a replica takes; 0 for an image that computes on the processor.
        hosts: hosts that a replica spreads over.
        arguments: further options for tritonserver.
        environment: variable -> value.
    """

    repository: Path
    models: tuple[str, ...]
    image: str
    gpus: int
    hosts: int = 1
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        repository: str | os.PathLike[str],
        models: Iterable[str] | None = None,
        image: str | None = None,
        gpus: int | None = None,
        hosts: int = 1,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Serving:
        """Look the repository over and fill in what was left open.

        Args:
            repository, models: as those of `serve`.
            image: by default NVIDIA's newest with vLLM, or that with the TensorRT-LLM which compiled the engine.
            gpus: by default as many as the models ask for.

        Raises:
            TritonlabError: the repository or a model is not there, no model is, a number is out of range, a value is a
                secret, or the models do not fit the GPUs.
        """
        path, environment = Path(repository), environment or {}
        names = models if models is None else (models,) if isinstance(models, str) else tuple(models)
        check(path, names, list(arguments), environment)
        found = ModelRepository(path)
        if names is None:
            names = tuple(model.name for model in found)
        if not names:
            raise TritonlabError(f"No model of {path} is to be served.", "Add one, or name some.")
        for name in names:
            found[name].config  # noqa: B018  (raises)
        _refuse_secrets(environment)
        _refuse_keys(arguments)
        at_least(1, hosts=hosts)
        serving = cls(path, names, "", 0, hosts, tuple(arguments), tuple(environment.items()))
        wanted = gpus if gpus is not None else 0 if image == cpu_image.NAME else serving.wanted_gpus()
        at_least(0, gpus=wanted)
        image = image or serving._image()
        # The image and the variables are looked over as in a `docker run` line.
        DockerRun.chosen([], image)
        serving = cls(path, names, image, wanted, hosts, tuple(arguments), tuple(environment.items()))
        serving._refuse_too_few_gpus()
        return serving

    @cached_property
    def loaded(self) -> tuple[Model, ...]:
        """The models, and those that their ensembles are made of."""
        found = ModelRepository(self.repository)
        steps = [step.model_name for name in self.models for step in found[name].config.ensemble_scheduling.step]
        return tuple(found[name] for name in dict.fromkeys([*self.models, *steps]))

    @cached_property
    def configs(self) -> dict[str, ModelConfig]:
        """The loaded models' configurations, by name."""
        return {model.name: model.config for model in self.loaded}

    @property
    def backends(self) -> set[str]:
        """The backends of the loaded models."""
        return {config.backend for config in self.configs.values() if config.backend}

    def says(self, parameter: str) -> bool:
        """Whether every model of vLLM has this parameter of config.pbtxt at "true"."""
        values = [
            config.parameters[parameter].string_value if parameter in config.parameters else ""
            for config in self.configs.values()
            if config.backend == "vllm"
        ]
        return bool(values) and all(value.lower() == "true" for value in values)

    def wanted_gpus(self) -> int:
        """GPUs that the largest of the models asks for on one host."""
        return max([1, *(self._world_size(model) // self.hosts for model in self.loaded)])

    def words(self, arguments: Sequence[str] = ()) -> list[str]:
        """The command, as the local and the docker target run it; under mpirun for an engine of several GPUs.

        Args:
            arguments: further options for the tritonserver that is asked; those of the user's replace them.
        """
        given = {argument.split("=")[0] for argument in self.arguments}
        ours = [f"--exit-timeout-secs={EXIT_TIMEOUT_S}", *arguments]
        options = [*(word for word in ours if word.split("=")[0] not in given), *self.arguments]
        compiled = [name for name, config in self.configs.items() if config.backend == "tensorrtllm"]
        if compiled and self.gpus > 1:
            plan = LaunchPlan(docker.MODELS, self.gpus, compiled)
            words = plan.words()
            rank_0 = words.index("tritonserver") + 1
            return [*words[:rank_0], *options, *words[rank_0:]]
        return ["tritonserver", *with_arguments([f"--model-repository={docker.MODELS}"], self.models, options)]

    def shm_size(self) -> str:
        """The size of /dev/shm, as Docker writes it."""
        return docker.SHM_SIZE if self.gpus * self.hosts <= 1 else SHM_OF_SEVERAL_GPUS

    @cached_property
    def folders(self) -> list[str]:
        """The folders that the models name by their path, such as weights and engines; each is to be there too."""
        named = {Path(value) for value in docker.named(self.loaded) if value.startswith("/")}
        return sorted(map(str, docker.folders(self.loaded) | named))

    def uses_the_hub(self) -> bool:
        """Whether a model of vLLM is named by its id on the Hugging Face Hub."""
        of_vllm = [model for model in self.loaded if self.configs[model.name].backend == "vllm"]
        named = [str(model.model_json.get("model", "")) for model in of_vllm]
        return any(name and not name.startswith("/") and not Path(name).is_dir() for name in named)

    def files(self) -> dict[str, bytes]:
        """The loaded models' files: path in the repository -> content; over several hosts, model.json says so.

        Raises:
            TritonlabError: a file cannot be read.
        """
        found = {}
        for model in self.loaded:
            for path in _files_in(model.path):
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise TritonlabError(f"{path} cannot be read: {error.strerror}.") from None
                if self.hosts > 1 and path == model.model_json_path:
                    content = self._spread(model).encode()
                found[path.relative_to(self.repository).as_posix()] = content
        return found

    def empty_versions(self) -> list[str]:
        """The loaded models' version folders that hold no file, as an ensemble's: paths in the repository."""
        found = [folder for model in self.loaded for folder in model.path.iterdir() if folder.name.isdigit()]
        return sorted(folder.relative_to(self.repository).as_posix() for folder in found if not _files_in(folder))

    def docker(self, mounts: Sequence[str], options: Sequence[tuple[str, str]] = ()) -> DockerRun:
        """The `docker run` command of a replica, with what the docker target gives its containers.

        Args:
            mounts: values of --mount, for the models.
            options: further options, in the notation of `shells`.
        """
        token = [("--env", docker.TOKEN)] if self.uses_the_hub() else []
        caches = [f"type=volume,source={volume},target={folder}" for volume, folder in docker.CACHES.items()]
        shown = [docker.bind(Path(folder), folder) for folder in self.folders]
        given = [
            ("--init", ""),
            *token,
            *(("--env", f"{name}={_literal(value)}") for name, value in self.environment),
            *(("--mount", _literal(mount)) for mount in [*mounts, *shown, *caches]),
            ("--shm-size", self.shm_size()),
            *options,
        ]
        return DockerRun.chosen(given, self.image, map(_literal, self.words()))

    def _image(self) -> str:
        for config in self.configs.values():
            if config.backend == "tensorrtllm":
                return docker.image_of(config)
        return f"{docker.NVIDIA}{next(iter(compatibility.releases()))}-vllm-python-py3"

    def _refuse_too_few_gpus(self) -> None:
        for model in self.loaded:
            size, config = self._world_size(model), self.configs[model.name]
            if self.gpus and size > self.gpus * self.hosts:
                on = f"{self.hosts} hosts with {self.gpus} GPUs each" if self.hosts > 1 else f"{self.gpus} GPU(s)"
                raise TritonlabError(
                    f"{model.name!r} is spread over {size} GPUs (tensor times pipeline parallelism), and has {on}.",
                    f"Give gpus={-(-size // self.hosts)}, or change the model.",
                )
            kinds = {group.kind for group in config.instance_group}
            if self.hosts > 1 and config.backend != "vllm":
                raise TritonlabError(
                    f"{model.name!r} is served by {config.backend or 'an ensemble'}, and only vLLM is spread "
                    "over hosts here, by Ray.",
                    "TensorRT-LLM's ranks need mpirun to reach every host; give each host an engine of its own, or "
                    "take hosts=1.",
                )
            if self.hosts > 1 and schema().ModelInstanceGroup.Kind.Value("KIND_GPU") in kinds:
                raise TritonlabError(
                    f"config.pbtxt of {model.name!r} has KIND_GPU, which is for a single GPU.", "Write KIND_MODEL."
                )

    def _world_size(self, model: Model) -> int:
        """GPUs that a model is spread over."""
        config = self.configs[model.name]
        if config.backend == "tensorrtllm":
            with suppress(TritonlabError):
                return EngineFolder.read(config.parameters["gpt_model_path"].string_value).world_size
            return 1
        if config.backend != "vllm":
            return 1
        sizes = [model.model_json.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
        if not all(type(size) is int and size > 0 for size in sizes):
            raise RepositoryError(
                f"{model.model_json_path}: tensor and pipeline_parallel_size are {sizes}.",
                "Give whole numbers above 0.",
            )
        return int(sizes[0] * sizes[1])

    def _spread(self, model: Model) -> str:
        """model.json for several hosts: tensor parallelism within one, the stages of a pipeline between them."""
        parallel: dict[str, Any] = {"tensor_parallel_size": max(self.gpus, 1), "pipeline_parallel_size": self.hosts}
        return json.dumps({**model.model_json, **parallel, "distributed_executor_backend": RAY}, indent=2) + "\n"


def at_least(least: int, **numbers: object) -> None:
    """Refuse what is no whole number, or too small.

    Raises:
        TritonlabError: says which, and what to give.
    """
    for name, value in numbers.items():
        if type(value) is not int or value < least:
            raise TritonlabError(f"{name} is {value!r}.", f"Give a whole number, {least} or more.")


def _files_in(folder: Path) -> list[Path]:
    """The files that are the model's; Python's own leavings are not."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _refuse_secrets(environment: Mapping[str, str]) -> None:
    for name in environment:
        if TOKEN.search(name):
            raise TritonlabError(
                f"The value of {name} would stand in the files for everybody to read.",
                "Leave it out: the files name a secret by its name, and docs/kubernetes.md says how it is made.",
            )
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise TritonlabError(f"{name!r} cannot be a variable's name.", "Use letters, digits and '_'.")


def _refuse_keys(arguments: Sequence[str]) -> None:
    for argument in arguments:
        # tritonserver takes an option's beginning for the whole where no other begins so (getopt_long).
        if re.match(r"--(http-r|grpc-re)", argument):
            raise TritonlabError(
                f"The key of {argument.partition('=')[0]} would stand in the files for everybody to read.",
                "Leave it out: `kubernetes` takes admin_secret, the name of a Secret that holds the key.",
            )


def _literal(word: str) -> str:
    return word.replace("$", "$$")


def notes(serving: Serving) -> Iterator[str]:
    """What the models need, whatever the place."""
    if "vllm" in serving.backends and not serving.says(HEALTH_CHECK):
        yield (
            f'A dead vLLM engine goes unseen: without the parameter {HEALTH_CHECK} at "true" in config.pbtxt, '
            "/v2/health and the model's ready answer 200 while every request fails."
        )
    if "vllm" in serving.backends and not serving.says(REPORTS):
        yield f'vLLM\'s own metrics are off: set the parameter {REPORTS} to "true" in config.pbtxt.'
    for problem in ModelRepository(serving.repository).validate():
        if problem.file.partition("/")[0] in {model.name for model in serving.loaded} and problem.severity == "error":
            yield f"{problem.file}: {problem.what}; {problem.fix}."
