"""A `docker run` command as an object: read from any shell, written for any shell, explained, and looked over.

    run = DockerRun.parse("docker run --gpus all -p 8000:8000 nvcr.io/nvidia/tritonserver:25.06-py3 tritonserver ...")
    print(run.render("powershell"))
    run.explain()        # a table: each part, what it does, what happens without it
    run.lint()           # what is unsafe or will not work, why, and what to do

Nothing is run, and nothing is handed to a shell. Words hold their variables as `shells` says.
"""

from __future__ import annotations

import difflib
import html
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonlab import compatibility
from tritonlab.errors import CommandError
from tritonlab.servers import forms, shells

if TYPE_CHECKING:
    import pandas as pd

TOKEN = re.compile(r"(?i)token|secret|password|api_?key")
FOLDER_OF_THE_HUB = "/root/.cache/huggingface"


class Option(NamedTuple):
    """An option by its long name, and its value, if it takes one."""

    name: str
    value: str | None = None


class Advice(NamedTuple):
    """What a command should not have, or should: `part` is the word that it is about."""

    part: str
    what: str
    why: str
    fix: str


class AdviceList(list[Advice]):
    """What a check found; empty, and false, when all is good."""

    def __repr__(self) -> str:
        return "\n".join(f"{a.part}: {a.what}\n  why: {a.why}\n  fix: {a.fix}" for a in self) or "no problems"

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no problems</p>"
        rows = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(text)}</td>" for text in advice) + "</tr>"
            for advice in self
        )
        heads = "".join(f"<th style='text-align:left'>{head}</th>" for head in ("part", "what", "why", "fix"))
        return f"<table><thead><tr>{heads}</tr></thead>{rows}</table>"


class Flag(NamedTuple):
    """An entry of `docker_flags.toml`; that file says what the fields mean."""

    names: tuple[str, ...]
    value: bool
    does: str
    without: str


@dataclass(frozen=True, repr=False)
class DockerRun:
    """A `docker run` command.

    Attributes:
        image: the image's name.
        command: what runs in the container, word for word.
        options: Docker's options, in order.
    """

    image: str
    command: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()

    @classmethod
    def parse(cls, text: str, shell: str = "") -> DockerRun:
        """Read a command line, pasted as it stands; without `shell` ("bash", "powershell", "cmd") that is guessed.

        Raises:
            CommandError: it is no `docker run` command, or has an option that Docker does not know; says where.
        """
        words = shells.split(text, _known_shell(shell) if shell else shells.guess(text))
        return cls.of(words)

    @classmethod
    def of(cls, words: Sequence[str]) -> DockerRun:
        """Read a command that is split into words already, in the notation of `shells`.

        Raises:
            CommandError: as `parse` does.
        """
        start = list(words)
        if start[:1] == ["sudo"]:
            start = start[1:]
        if start[:1] in (["docker"], ["podman"]) and start[1:3] == ["container", "run"]:
            rest = start[3:]
        elif start[:1] in (["docker"], ["podman"]) and start[1:2] == ["run"]:
            rest = start[2:]
        else:
            raise CommandError(
                f"This is no docker run command: it begins with {' '.join(words[:3])!r}.",
                "Paste the whole line, from docker run to its end.",
            )
        options: list[Option] = []
        while rest and rest[0].startswith("-") and rest[0] != "-":
            if rest[0] == "--":
                rest = rest[1:]
                break
            rest = rest[_option(rest, options) :]
        if not rest:
            raise CommandError(
                "The command names no image.", "After Docker's options comes the image, then the command."
            )
        return cls(rest[0], tuple(rest[1:]), tuple(options))

    @classmethod
    def chosen(cls, options: Iterable[tuple[str, str]], image: str, command: Iterable[str] = ()) -> DockerRun:
        """A command from what somebody chose or typed; `shells.typed` says how variables are written.

        Args:
            options: long names with their values; "" where an option takes none.
            image, command: as those of the class.

        Raises:
            CommandError: an option is unknown, or its value is missing; the image cannot be one; or a secret's value
                is given, where its name would do.
        """
        given = []
        for name, value in options:
            known = flags("docker").get(name)
            if known is None:
                raise CommandError(f"docker run has no option {name}.", "See docker run --help.")
            if known.value and not value:
                raise CommandError(f"{name} has no value.", f"It {known.does}; write one, or take {name} out.")
            option = Option(name, shells.typed(value) if known.value else None)
            if _tells_a_secret(option):
                raise CommandError(
                    f"{_shown(option)} would put a secret into the command line, and into this notebook.",
                    f"Set {value.partition('=')[0]} in the shell, and give the name alone.",
                )
            given.append(option)
        if not re.fullmatch(r"[\w${][\w./:@${}-]*", image):
            raise CommandError(
                f"{image!r} cannot be an image.", "Write a name such as nvcr.io/nvidia/tritonserver:TAG."
            )
        return cls(shells.typed(image), tuple(map(shells.typed, command)), tuple(given))

    def render(self, shell: str = "bash") -> str:
        """The command line for a shell: "bash", "powershell" or "cmd".

        Raises:
            CommandError: there is no such shell.
        """
        head = ["docker", "run", *(option.name for option in self.options if option.value is None)]
        lines = [[option.name, option.value] for option in self.options if option.value is not None]
        return shells.join(
            [head, *lines, [self.image], *([[*self.command]] if self.command else [])], _known_shell(shell)
        )

    def __repr__(self) -> str:
        return " ".join(["DockerRun:", *map(_shown, self.options), self.image, *self.command])

    def values(self, name: str) -> list[str]:
        """The values of an option, by its long name."""
        return [option.value for option in self.options if option.name == name and option.value is not None]

    def has(self, name: str) -> bool:
        """Whether an option is there, by its long name."""
        return any(option.name == name for option in self.options)

    def mounts(self, environment: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
        """What --mount and --volume show, with "type", "source", "target" and "readonly"; variables as they stand.

        Args:
            environment: if given, variables are replaced by their values in it.
        """
        for name, value in self.options:
            if name not in {"--mount", "--volume"} or value is None:
                continue
            text = value if environment is None else forms.expand(value, environment)
            yield _mount(text) if name == "--mount" else _volume_as_mount(text)

    def sdk_arguments(self, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What `docker.DockerClient.containers.create` takes for this command; see `forms.sdk_arguments`."""
        return forms.sdk_arguments(self, environment)

    def compose(self, service: str = "triton") -> str:
        """The command as a compose file of one service; see `forms.compose`."""
        return forms.compose(self, service)

    def explain(self) -> pd.DataFrame:
        """Every part of the command: what it does, and what happens without it."""
        import pandas as pd

        return pd.DataFrame(list(self._explained()), columns=["part", "what it does", "without it"])

    def _explained(self) -> Iterator[tuple[str, str, str]]:
        known_flags = flags("docker")
        for option in self.options:
            known = known_flags.get(option.name)
            text = (known.does, known.without) if known else ("an option of Docker's; see docker run --help", "")
            yield (_shown(option), *(_in_particular(option) or text))
        yield self.image, _contents(self.image), "Docker does not know what to run"
        triton = flags("triton")
        for word in self.command:
            known = triton.get(word.partition("=")[0])
            if known:
                yield word, known.does, known.without
            elif word == self.command[0]:
                yield word, "the program that runs in the container", "the image's own command runs"
            else:
                yield word, "an argument of that program", ""

    def lint(self, driver: str = "") -> AdviceList:
        """What is unsafe or will not work, most serious first; empty when there is nothing.

        Args:
            driver: the version of the host's NVIDIA driver, as nvidia-smi says it, to compare with the image's.
        """
        found = [advice for look in _LOOKS for advice in look(self)]
        return AdviceList([*found, *_driver(self, driver)])


def _shown(option: Option) -> str:
    """The option to be read by people; a secret's value is left out."""
    if option.value is None:
        return option.name
    return (
        f"{option.name} {option.value.partition('=')[0]}=…"
        if _tells_a_secret(option)
        else f"{option.name} {option.value}"
    )


def _in_particular(option: Option) -> tuple[str, str] | None:
    """What a port or a mount of this very purpose does, and what happens without it."""
    value = option.value or ""
    if option.name == "--publish":
        service = {"8000": "HTTP", "8001": "gRPC", "8002": "metrics"}.get(value.rpartition(":")[2])
        if service:
            return f"publishes the port for {service} on the host", f"no {service} request gets in from outside"
    if option.name in {"--mount", "--volume"}:
        mount = _mount(value) if option.name == "--mount" else _volume_as_mount(value)
        if mount.get("target") == FOLDER_OF_THE_HUB:
            return "keeps what is downloaded, outside the container", "each new container downloads the weights again"
    return None


def without_secret(name: str, value: str) -> str:
    """The value of an option, less what is secret in it: of HF_TOKEN=hf_abc the name, and the equals sign."""
    head, _, rest = value.partition("=")
    # A variable may be in the making, and is no secret.
    secret = _tells_a_secret(Option(name, shells.typed(value))) and not rest.startswith("$")
    return f"{head}=" if secret else value


def _tells_a_secret(option: Option) -> bool:
    name, equals, value = (option.value or "").partition("=")
    named_so = option.name == "--env" and TOKEN.search(name) is not None
    return named_so and bool(equals) and not shells.VARIABLE.fullmatch(value)


def _ports(run: DockerRun) -> Iterator[Advice]:
    for value in run.values("--publish"):
        if value.count(":") < 2 and not value.startswith("["):
            yield Advice(
                f"-p {value}",
                "The port is open on every address of the host.",
                "Anyone who reaches the machine can use the server: Triton asks for no password.",
                f"-p 127.0.0.1:{value if ':' in value else f'{value}:{value}'}, if only this machine is to reach it.",
            )


def _secrets(run: DockerRun) -> Iterator[Advice]:
    for option in filter(_tells_a_secret, run.options):
        name = (option.value or "").partition("=")[0]
        yield Advice(
            _shown(option),
            "A secret stands in the command line.",
            "It stays in the shell's history, and every user sees it in the process list.",
            f"Set {name} in the shell, and give the name alone: --env {name}.",
        )


def _gpus(run: DockerRun) -> Iterator[Advice]:
    needs = "tritonserver" in run.image and not run.has("--gpus") and "nvidia" not in run.values("--runtime")
    if needs and run.image.startswith("nvcr.io/"):
        yield Advice(
            run.image,
            "The container sees no GPU.",
            "NVIDIA's images compute on GPUs, and without --gpus Docker shows none.",
            "--gpus all",
        )


def _shared_memory(run: DockerRun) -> Iterator[Advice]:
    has_triton = "tritonserver" in run.image and run.command[:1] == ("tritonserver",)
    if has_triton and not run.has("--shm-size") and "host" not in run.values("--ipc"):
        yield Advice(
            run.image,
            "The container has 64 MB of shared memory.",
            "Triton's Python backend moves tensors through it, and so do the processes of a model on several GPUs.",
            "--shm-size=1g, or more with tensor_parallel_size above 1.",
        )


def _removal(run: DockerRun) -> Iterator[Advice]:
    if run.has("--rm") and run.has("--detach"):
        yield Advice(
            "--rm",
            "A container that fails is gone at once, with its log.",
            "--rm deletes it when it ends, and in the background you see nothing of it.",
            "Leave --rm out until the server works, and read docker logs.",
        )
    if run.has("--rm") and run.has("--restart"):
        yield Advice(
            "--rm", "Docker refuses --rm together with --restart.", "They contradict each other.", "Choose one."
        )


def _repository(run: DockerRun) -> Iterator[Advice]:
    targets = [_mount(value).get("target", "") for value in run.values("--mount")]
    targets += [_volume(value)[1] for value in run.values("--volume")]
    for word in run.command:
        name, _, path = word.partition("=")
        inside = [target for target in targets if target and (path + "/").startswith(target.rstrip("/") + "/")]
        if name in {"--model-repository", "--model-store"} and path.startswith("/") and targets and not inside:
            yield Advice(
                word,
                f"The container has no {path} from you: the mounts' targets are {', '.join(filter(None, targets))}.",
                "The path is one in the container, not on the host.",
                "Let the mount's target and this path be the same.",
            )
    modes = [word for word in run.command if word == "--model-control-mode=explicit"]
    if modes and not any(word.startswith("--load-model") for word in run.command):
        yield Advice(
            modes[0],
            "The server starts with no model.",
            "In explicit mode models are loaded by request, or by --load-model.",
            "--load-model=NAME, or load it with a request.",
        )


def _mounts(run: DockerRun) -> Iterator[Advice]:
    for value in run.values("--volume"):
        source, target = _volume(value)
        if target and ("/" in source or "\\" in source or source.startswith(("$", "."))):
            yield Advice(
                f"-v {value}",
                "A folder that is misspelt is made, empty and root's.",
                "-v makes what is not there; --mount says that it is not there.",
                f"--mount type=bind,source={source},target={target}",
            )
    everything = " ".join([*run.values("--mount"), *run.values("--volume")])
    if "vllm" in run.image and FOLDER_OF_THE_HUB not in everything and not run.values("--env-file"):
        yield Advice(
            run.image,
            "Downloaded weights are lost with the container.",
            f"They lie in {FOLDER_OF_THE_HUB}, inside it.",
            f"--mount type=volume,source=triton_hf_cache,target={FOLDER_OF_THE_HUB}",
        )


def _image(run: DockerRun) -> Iterator[Advice]:
    name = run.image.rpartition("/")[2]
    if "@" not in name and (":" not in name or name.endswith(":latest")):
        yield Advice(
            run.image,
            "The image's version is open.",
            "Tomorrow the same line may run another version.",
            "Name a tag, such as 25.06-vllm-python-py3.",
        )


def _release(run: DockerRun) -> Iterator[Advice]:
    if compatibility.IMAGE.fullmatch(run.image) and not compatibility.contents(run.image):
        newest = next(iter(compatibility.releases()))
        yield Advice(
            run.image,
            "No such release of NVIDIA's Triton container is known here.",
            f"The table ends with {newest}, so it is newer, or misspelt.",
            "See the tags on catalog.ngc.nvidia.com.",
        )


def _driver(run: DockerRun, driver: str) -> Iterator[Advice]:
    known = compatibility.contents(run.image)
    engine = known[1] if known else None
    if driver and engine and compatibility.is_older(driver, engine.driver):
        yield Advice(
            run.image,
            f"The driver {driver} is older than the image's CUDA {engine.cuda}, which comes with {engine.driver}.",
            "With the same major CUDA it runs in minor version mode; with an older one it does not start.",
            "Update the driver, or take an older release.",
        )


def _contents(image: str) -> str:
    known = compatibility.contents(image)
    if known is None:
        return "the image: what is in the container"
    release, engine = known
    name = "vLLM" if engine is release.vllm else "TensorRT-LLM"
    inside = f" with {name} {engine.version} and CUDA {engine.cuda}" if engine else ""
    if engine is not None and engine is release.tensorrt_llm:
        inside += (
            ", which compiles and serves TensorRT engines" if release.builds_engines else ", without an engine path"
        )
    return f"the image: Triton {release.triton}{inside}"


_LOOKS = (_secrets, _ports, _gpus, _repository, _shared_memory, _removal, _mounts, _image, _release)


def _mount(value: str) -> dict[str, str]:
    """The fields of --mount, under one name each."""
    same = {"src": "source", "dst": "target", "destination": "target"}
    pairs = (field.partition("=") for field in value.split(","))
    return {same.get(key, key): content for key, _, content in pairs}


def _volume(value: str) -> tuple[str, str]:
    """Source and target of -v; the colon behind a drive's letter parts nothing."""
    found = re.fullmatch(r"((?:[A-Za-z]:[\\/])?[^:]*):([^:]+)(?::[\w,]+)?", value)
    return (found[1], found[2]) if found else ("", value)


def _volume_as_mount(value: str) -> dict[str, str]:
    source, target = _volume(value)
    is_path = source.startswith((".", "/", "~", "$")) or re.match(r"[A-Za-z]:[\\/]", source)
    mount = {"type": "bind" if is_path else "volume", "source": source, "target": target}
    if not source:
        del mount["source"]
    ways = value[len(f"{source}:{target}:") :].split(",") if source else []
    for way in filter(None, ways):
        # What is neither of these has no field of --mount, such as z and Z, which set SELinux's labels.
        mount |= {"readonly": "true"} if way == "ro" else {} if way == "rw" else {way: ""}
    return mount


def _option(words: Sequence[str], options: list[Option]) -> int:
    """Take the option that the words begin with; how many words it took."""
    known = flags("docker")
    name, equals, value = words[0].partition("=")
    if name.startswith("--"):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else "See docker run --help."
            raise CommandError(f"docker run has no option {name}.", hint)
        if not known[name].value:
            if not equals or value == "true":
                options.append(Option(known[name].names[0]))
            return 1
        return _valued(known[name], value if equals else None, words, options)
    letters = words[0][1:]
    for at, letter in enumerate(letters):
        short = known.get(f"-{letter}")
        if short is None:
            raise CommandError(f"docker run has no option -{letter}, in {words[0]!r}.", "See docker run --help.")
        if short.value:
            return _valued(short, letters[at + 1 :].removeprefix("=") or None, words, options)
        options.append(Option(short.names[0]))
    return 1


def _valued(flag: Flag, value: str | None, words: Sequence[str], options: list[Option]) -> int:
    if value is not None:
        options.append(Option(flag.names[0], value))
        return 1
    if len(words) < 2:
        raise CommandError(f"{words[0]} has no value.", f"Write {words[0]} VALUE.")
    options.append(Option(flag.names[0], words[1]))
    return 2


@cache
def flags(program: str) -> dict[str, Flag]:
    """The options of "docker" or "triton", each under all its names."""
    table = tomllib.loads(Path(__file__).with_name("docker_flags.toml").read_text(encoding="utf-8"))
    listed = [Flag(tuple(e["names"]), e.get("value", True), e["does"], e["without"]) for e in table[program]]
    found = {name: flag for flag in listed for name in flag.names}
    if program == "docker":
        unknown = ("an option of Docker's; see docker run --help", "")
        for value, names in ((True, table["other"]["with_value"]), (False, table["other"]["without_value"])):
            for name in names:
                found.setdefault(name, Flag((name,), value, *unknown))
    return found


def _known_shell(shell: str) -> str:
    if shell not in shells.SHELLS:
        raise CommandError(f"There is no shell {shell!r} here.", f"There are {', '.join(shells.SHELLS)}.")
    return shell
