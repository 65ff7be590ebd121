"""Model repositories: make, read, list, check and mend them, through Triton's own protobuf schema."""

from __future__ import annotations

import difflib
import html
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tritonlab import ensembles, vllm
from tritonlab.errors import RepositoryError
from tritonlab.pbtxt import CONFIG, PLACEHOLDER, ConfigFile, enum_name, fill_command, read, render
from tritonlab.problems import Problem, Problems, line_of
from tritonlab.schema import ModelConfig, schema
from tritonlab.vllm import check_name

if TYPE_CHECKING:
    import pandas as pd

BACKENDS = (
    "vllm", "python", "tensorrtllm", "tensorrt", "onnxruntime", "pytorch", "openvino", "tensorflow", "dali", "fil",
)  # fmt: skip
UNSUPPORTED_TENSORS = "the vllm backend neither reads nor writes it"


_At = Callable[..., Problem]
"""Makes a Problem at the line of the file under check that holds a word."""


class NewModel(Protocol):
    """What a repository can take in."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def config(self) -> ModelConfig: ...
    def files(self) -> dict[str, str]: ...


class Text(str):
    """A text that shows as it is, in a terminal and in a notebook."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<pre style="font-family:monospace">{html.escape(str(self))}</pre>'


class ModelRepository(os.PathLike[str]):
    """A model repository: a folder with a folder for each model. It is made when the first model is added."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"ModelRepository({str(self.path)!r}, models: {', '.join(self._names()) or 'none'})"

    def __iter__(self) -> Iterator[Model]:
        return (Model(self.path / name) for name in self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __getitem__(self, name: str) -> Model:
        """A model by its name; raises RepositoryError when there is none."""
        path = self.path / check_name(name)
        if not path.is_dir():
            raise RepositoryError(
                f"There is no model {name!r} in {self.path}.",
                f"There are: {', '.join(self._names()) or 'none'}.",
            )
        return Model(path)

    def add(self, model: NewModel, *, replace: bool = False) -> Model:
        """Write a model's config.pbtxt and what its version folder holds, such as model.json.

        Raises:
            RepositoryError: it is there already and `replace` is not set, or the folder cannot be written.
        """
        path = self.path / model.name
        config, files = render(model.config()), model.files()
        if path.exists() and not replace:
            raise RepositoryError(
                f"There is a model {model.name!r} in {self.path} already.",
                "Use another name, or add(..., replace=True).",
            )
        if path.exists():
            self.remove(model.name)
        version = path / str(model.version)
        try:
            version.mkdir(parents=True)
            for name, text in files.items():
                (version / name).write_text(text, encoding="utf-8")
            (path / CONFIG).write_text(config, encoding="utf-8")
        except OSError as error:
            raise RepositoryError(f"{path} cannot be written: {error.strerror}.", "Choose a folder of yours.") from None
        return Model(path)

    def remove(self, name: str) -> None:
        """Delete a model's folder.

        Raises:
            RepositoryError: there is none, or it is a link, whose target is not ours to delete.
        """
        path = self[name].path
        if path.is_symlink():
            raise RepositoryError(f"{path} is a link to another place.", "Delete the link yourself if you mean it.")
        if not (path / CONFIG).exists() and not any(child.name.isdigit() for child in path.iterdir()):
            raise RepositoryError(
                f"{path} holds neither {CONFIG} nor a version: it is no model.", "Look before you delete it."
            )
        shutil.rmtree(path)

    def list(self) -> pd.DataFrame:
        """Every model: name, versions, backend, decoupled, max_batch_size, problems (their number)."""
        import pandas as pd

        rows, problems = [], self.validate()
        for name in self._names():
            file, _ = read(self.path / name)
            config = file.config if file else schema().ModelConfig()
            versions = [version.name for version in _versions(self.path / name)]
            decoupled = config.model_transaction_policy.decoupled
            backend = config.backend or config.platform
            count = sum(problem.file.partition("/")[0] == name for problem in problems)
            rows.append((name, versions, backend, decoupled, config.max_batch_size, count))
        columns = ["name", "versions", "backend", "decoupled", "max_batch_size", "problems"]
        return pd.DataFrame(rows, columns=columns)

    def tree(self) -> Text:
        """The folders and files as a tree."""
        return Text("\n".join([f"{self.path.name}/", *_tree(self.path, "")]))

    def validate(self, vllm_version: str | None = None) -> Problems:
        """Find what would fail at load, or do other than it seems. Never raises for what the files hold.

        Args:
            vllm_version: whose engine arguments count; by default the local engine's.
        """
        try:
            os.listdir(self.path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            what = "the repository is not there" if missing else f"the repository cannot be read: {error.strerror}"
            why = "Triton ends at once: failed to stat the model repository"
            return Problems([Problem(str(self.path), 0, what, why, "make it with add(), or correct the path")])
        problems, files = [], {}
        for name in self._names():
            file, found = read(self.path / name)
            problems += found
            if file is not None:
                files[name] = file
                problems += _check(file, self.path, vllm_version)
        return Problems([*problems, *_check_together(files, self._names())])

    def _names(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(child.name for child in self.path.iterdir() if child.is_dir()))
        except OSError:
            return ()


class Model:
    """One model of a repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> ModelConfig:
        """config.pbtxt as protobuf; raises RepositoryError with the first problem when it cannot be read."""
        file, problems = read(self.path)
        if file is None:
            raise RepositoryError(f"{problems[0].file}: {problems[0].what}.", problems[0].fix)
        return file.config

    @property
    def config_text(self) -> Text:
        """config.pbtxt as it stands; raises RepositoryError when it cannot be read."""
        try:
            return Text((self.path / CONFIG).read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise RepositoryError(f"{self.path / CONFIG} cannot be read: {error.strerror}.") from None

    @property
    def model_json(self) -> dict[str, Any]:
        """The engine arguments of the newest version; raises RepositoryError when they cannot be read."""
        path = self.model_json_path
        arguments, problems = _read_json(path, path.name)
        if problems:
            raise RepositoryError(f"{path}: {problems[0].what}.", problems[0].fix)
        return arguments

    def update_model_json(self, **changes: Any) -> None:
        """Set engine arguments; None takes one out. Their order stays.

        Raises:
            RepositoryError: model.json cannot be read, or a value has no JSON form.
        """
        merged = {**self.model_json, **changes}
        kept = {name: value for name, value in merged.items() if value is not None}
        try:
            text = json.dumps(kept, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise RepositoryError(f"An engine argument of {self.name!r} has no JSON form: {error}.") from None
        self.model_json_path.write_text(text, encoding="utf-8")

    def update_config(self, **changes: Any) -> None:
        """Set top-level fields of config.pbtxt, e.g. max_batch_size=0.

        Raises:
            RepositoryError: the file is written by hand, so that rewriting it would lose its comments or order;
                or a field does not exist or does not take the value.
        """
        config = self.config
        if render(config) != str(self.config_text):
            raise RepositoryError(
                f"{self.path / CONFIG} is written by hand, and rewriting it would lose its comments and order.",
                f"Change {', '.join(f'{k}: {v}' for k, v in changes.items())} in the file yourself.",
            )
        for name, value in changes.items():
            try:
                setattr(config, name, value)
            except (AttributeError, TypeError, ValueError) as error:
                raise RepositoryError(f"{CONFIG} takes no {name} = {value!r}: {error}.") from None
        (self.path / CONFIG).write_text(render(config), encoding="utf-8")

    @property
    def model_json_path(self) -> Path:
        """Where the newest version's model.json is, or would be."""
        versions = _versions(self.path)
        return (versions[-1] if versions else self.path / "1") / "model.json"

    def __repr__(self) -> str:
        return f"Model({self.name!r}, versions: {', '.join(v.name for v in _versions(self.path)) or 'none'})"


# Checks


def _check(file: ConfigFile, root: Path, version: str | None) -> list[Problem]:
    """What is wrong with a model whose config.pbtxt parses."""
    folder, config, at = file.folder, file.config, file.at
    problems = []
    if config.name and config.name != folder.name:
        problems.append(
            at(
                f"name is {config.name!r} and the folder is {folder.name!r}",
                "Triton refuses the model: the folder's name must equal the model's",
                f'write name: "{folder.name}", or rename the folder',
                "name",
            )
        )
    problems += _check_backend(file)
    versions = _versions(folder)
    if not versions:
        problems.append(
            Problem(
                folder.name, 0, "there is no version folder",
                "Triton serves versions: at least one must be available under the version policy",
                f"make {folder.name}/1/",
            )
        )  # fmt: skip
    if "vllm" in (config.backend, *_near(config.backend)):
        problems += _check_vllm(config, at)
        for path in versions:
            problems += _check_model_json(path / "model.json", root, config, version)
    if config.backend == "python":
        problems += _check_python(file, versions)
    return problems


def _check_together(files: Mapping[str, ConfigFile], names: tuple[str, ...]) -> list[Problem]:
    """What contradicts itself between models, each of which may be right alone."""
    found = [problem for file in files.values() for problem in ensembles.check(file, files, names)]
    if all(file.config.backend == "vllm" for file in files.values()):
        return found
    # TensorRT-LLM's part brings the servers with it, which a repository of vLLM's models has no need of.
    from tritonlab.trtllm import consistency

    return [*found, *consistency.check_files(files)]


def _check_python(file: ConfigFile, versions: list[Path]) -> list[Problem]:
    """A version of the python backend without its code."""
    from tritonlab.trtllm import consistency

    code = file.config.default_model_filename or "model.py"
    why = f"the python backend runs it: without {code} the load fails"
    fix = consistency.bring_code(file) or f"write {code} with a class TritonPythonModel"
    return [
        Problem(f"{file.name}/{version.name}/{code}", 0, f"{code} is missing", why, fix)
        for version in versions
        if not (version / code).exists()
    ]


def _check_backend(file: ConfigFile) -> list[Problem]:
    config, at = file.config, file.at
    if config.platform == "ensemble":
        return []
    if not config.backend and not config.platform:
        why = "Triton cannot know what runs the model"
        return [at("neither backend nor platform is set", why, 'write backend: "vllm"')]
    if placeholder := PLACEHOLDER.search(config.backend):
        what = f"the placeholder {placeholder[0]} is not filled in"
        why = f"the load fails: unable to find backend library for backend '{config.backend}'"
        return [at(what, why, fill_command(file.where, placeholder[1]), "backend")]
    if config.backend and config.backend not in BACKENDS:
        close = _near(config.backend)
        fix = f'did you mean backend: "{close[0]}"?' if close else f"the usual ones are {', '.join(BACKENDS)}"
        why = f"unless the server has one of that name: unable to find backend library for backend '{config.backend}'"
        return [at(f"no backend {config.backend!r} is known", why, fix, "backend")]
    return []


def _near(backend: str) -> list[str]:
    """The known backend that an unknown one is most like, if any."""
    return difflib.get_close_matches(backend, BACKENDS, n=1, cutoff=0.5)


def _check_vllm(config: ModelConfig, at: _At) -> list[Problem]:
    problems = []
    fix = "write model_transaction_policy { decoupled: true }"
    if not config.HasField("model_transaction_policy"):
        why = "the backend adds it at load; with --disable-auto-complete-config nobody does, and the load fails"
        problems.append(at("it does not say that the model is decoupled", why, fix, severity="warning"))
    elif not config.model_transaction_policy.decoupled:
        why = "an answer comes in any number of pieces: the load fails with: trying to change decoupled property"
        problems.append(at("the model is not decoupled", why, fix, "decoupled"))
    if config.max_batch_size:
        problems.append(
            at(
                f"max_batch_size is {config.max_batch_size}",
                "vLLM batches by itself; the load fails with: configuration specified max_batch_size "
                f"{config.max_batch_size}, but in auto-complete-config function … specified max_batch_size 0",
                "write max_batch_size: 0, and max_num_seqs in model.json to bound the batch",
                "max_batch_size",
            )
        )
    expected = {name: (data_type, dims) for name, data_type, dims, _ in vllm.INPUTS}
    problems += _check_tensors(config.input, expected, "input", at)
    expected = {name: (data_type, dims) for name, data_type, dims in vllm.OUTPUTS}
    problems += _check_tensors(config.output, expected, "output", at)
    for name in config.parameters:
        if name in vllm.engine_arguments():
            problems.append(
                at(
                    f"parameters hold {name}, an argument of vLLM's engine",
                    "the vllm backend does not look there, so it has no effect",
                    f"move {name} to model.json",
                    name,
                    "warning",
                )
            )
    return problems


def _check_tensors(
    tensors: Any, expected: Mapping[str, tuple[str, tuple[int, ...]]], role: str, at: _At
) -> list[Problem]:
    problems = []
    for tensor in tensors:
        data_type = enum_name(schema().DataType, tensor.data_type)
        dims = tuple(tensor.dims)
        if tensor.name not in expected:
            close = difflib.get_close_matches(tensor.name, expected, n=1, cutoff=0.5)
            fix = f"did you mean {close[0]}?" if close else f"the {role}s are {', '.join(expected)}"
            problems.append(at(f"{role} {tensor.name!r} is unknown", UNSUPPORTED_TENSORS, fix, tensor.name))
            continue
        wanted_type, wanted_dims = expected[tensor.name]
        if data_type != wanted_type:
            why = "a client sends what the file says, and the backend reads something else"
            problems.append(
                at(
                    f"{role} {tensor.name} is {data_type}",
                    why,
                    f"write data_type: {wanted_type}",
                    tensor.name,
                )
            )
        if dims != wanted_dims:
            why = "the vllm backend adds the tensor with other dims, or answers with a shape that the file forbids"
            problems.append(
                at(
                    f"{role} {tensor.name} has dims {list(dims)}",
                    why,
                    f"write dims: {list(wanted_dims)}",
                    tensor.name,
                    "warning",
                )
            )
    return problems


def _check_model_json(path: Path, root: Path, config: ModelConfig, version: str | None) -> list[Problem]:
    where = path.relative_to(root).as_posix()
    arguments, problems = _read_json(path, where)
    if problems:
        return problems
    text = path.read_text(encoding="utf-8")
    known = vllm.engine_arguments(version or vllm.LOCAL_VERSION)

    def at(what: str, why: str, fix: str, word: str, severity: str = "error") -> Problem:
        return Problem(where, line_of(text, f'"{word}"'), what, why, fix, severity)

    unknown = [name for name in arguments if name not in known]
    if "model" not in arguments and not difflib.get_close_matches("model", unknown):
        why = "vLLM would load its default model, facebook/opt-125m or another by version"
        problems.append(Problem(where, 0, "no model is named", why, 'add "model": "google/gemma-2b-it", say'))
    for name, value in arguments.items():
        if name not in known:
            problems.append(_unknown_argument(name, value, known, at, version or vllm.LOCAL_VERSION))
        elif not _has_type(value, known[name]):
            why = "vLLM refuses it, or takes it for something else, when the model loads"
            problems.append(at(f"{name} is {value!r}", why, f"give a value of type {known[name]}", name))
    share = arguments.get("gpu_memory_utilization")
    if isinstance(share, (int, float)) and not isinstance(share, bool) and not 0 < share <= 1:
        why = "it is the share of the GPU's memory that vLLM may take"
        problems.append(
            at(
                f"gpu_memory_utilization is {share}",
                why,
                "give a number above 0 and up to 1",
                "gpu_memory_utilization",
            )
        )
    kinds = [enum_name(schema().ModelInstanceGroup.Kind, group.kind) for group in config.instance_group]
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        size = arguments.get(name, 1)
        if isinstance(size, int) and size > 1 and "KIND_GPU" in kinds:
            problems.append(
                at(
                    f"{name} is {size} and config.pbtxt has KIND_GPU",
                    "KIND_GPU is for models on a single GPU: the load fails",
                    "write kind: KIND_MODEL in config.pbtxt's instance_group",
                    name,
                )
            )
    return problems


def _unknown_argument(name: str, value: Any, known: Mapping[str, str], at: _At, version: str) -> Problem:
    why = f"the load fails: AsyncEngineArgs.__init__() got an unexpected keyword argument {name!r}"
    if isinstance(value, dict) and set(value) & set(known):
        return at(f"engine arguments are nested in {name!r}", why, "put them at the top level of model.json", name)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    fix = f"did you mean {close[0]}?" if close else "leave it out"
    return at(f"vLLM {version} has no engine argument {name!r}", why, fix, name)


def _has_type(value: Any, kind: str) -> bool:
    if kind == "any" or value is None:
        return True
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"bool": bool, "str": str}[kind])


def _read_json(path: Path, where: str) -> tuple[dict[str, Any], list[Problem]]:
    why = "the vllm backend reads its engine arguments there: the load fails"
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        what = "model.json is missing"
        return {}, [Problem(where, 0, what, why, f'write {where}: {{"model": "google/gemma-2b-it"}}, say')]
    except json.JSONDecodeError as error:
        fix = "JSON wants double quotes, no comments and no comma after the last entry"
        return {}, [Problem(where, error.lineno, f"it is not JSON: {error.msg}", why, fix)]
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        return {}, [Problem(where, 0, f"it is not JSON: {error}", why, "save it as UTF-8 JSON")]
    except OSError as error:
        return {}, [Problem(where, 0, f"it cannot be read: {error.strerror}", why, "mend the file's rights")]
    if not isinstance(value, dict):
        return {}, [Problem(where, 1, "it holds no JSON object", why, 'write { "model": … }')]
    return value, []


def _versions(folder: Path) -> list[Path]:
    """The version folders, oldest first."""
    try:
        found = [c for c in folder.iterdir() if c.is_dir() and c.name.isascii() and c.name.isdigit() and c.name != "0"]
    except OSError:
        return []
    return sorted(found, key=lambda child: int(child.name))


def _tree(folder: Path, indent: str) -> Iterator[str]:
    children = sorted(folder.iterdir(), key=lambda child: (child.is_file(), child.name)) if folder.is_dir() else []
    for child in children:
        last = child is children[-1]
        yield f"{indent}{'└── ' if last else '├── '}{child.name}{'/' if child.is_dir() else ''}"
        if child.is_dir() and not child.is_symlink():
            yield from _tree(child, indent + ("    " if last else "│   "))
