"""What an answer says, whatever its words: a configuration or a command as a list of facts.

Two texts that mean the same have the same facts: order, spaces, short and long names of an option, a default that is
written out make no difference.
"""

from __future__ import annotations

import getopt
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tritonlab.errors import CommandError, CourseError
from tritonlab.pbtxt import CONFIG, read
from tritonlab.servers import shells
from tritonlab.servers.command import DockerRun
from tritonlab.trtllm.plan import BuildPlan, flags


def of_config(text: str) -> list[str]:
    """The fields of a config.pbtxt, such as `backend: "vllm"` and `input[text_input].dims: [1]`.

    Raises:
        CourseError: Triton's schema does not take it.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG).write_text(text, encoding="utf-8", errors="replace")
        file, problems = read(Path(folder))
    if file is None:
        first = problems[0]
        raise CourseError(f"Line {first.line}: {first.what}.", f"{first.why}. What to do: {first.fix}.")
    return list(_fields(file.config, ""))


def _fields(message: Any, before: str) -> Iterator[str]:
    for field, value in message.ListFields():
        name = f"{before}{field.name}"
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            for key in value:
                held = value[key]
                yield from (
                    _fields(held, f"{name}[{key}].") if hasattr(held, "ListFields") else [f"{name}[{key}]: {held}"]
                )
        elif not hasattr(value, "ListFields") and entry is not None:
            for number, part in enumerate(value):
                yield from _fields(part, f"{name}[{getattr(part, 'name', '') or number}].")
        elif entry is not None:
            yield from _fields(value, f"{name}.")
        elif field.enum_type is not None:
            yield f"{name}: {field.enum_type.values_by_number[value].name}"
        elif isinstance(value, (str, int, float, bool)):
            yield f"{name}: {json.dumps(value)}"
        else:
            yield f"{name}: {list(value)}"


def of_command(text: str, program: str) -> list[str]:
    """The facts of a command line that begins with this program.

    Raises:
        CommandError: it is a line of another program, or one that the program would not take.
    """
    if program == "docker":
        return list(_docker(DockerRun.parse(text)))
    words = shells.split(text, shells.guess(text))
    if words[:1] != [program]:
        raise CommandError(f"This line begins with {' '.join(words[:1])!r}.", f"A line of {program} is wanted.")
    return list(_PROGRAMS[program](words[1:]))


def _docker(run: DockerRun) -> Iterator[str]:
    for name, value in run.options:
        if name not in {"--mount", "--volume"}:
            yield name if value is None else f"{name} {value}"
    for mount in run.mounts():
        way = " readonly" if "readonly" in mount else ""
        yield f"mount {mount.get('type', 'volume')} {mount.get('source', '')} -> {mount.get('target', '')}{way}"
    yield f"image {run.image}"
    for word in _joined(run.command):
        yield f"command {word}"


def _joined(words: Sequence[str]) -> Iterator[str]:
    """Words in which an option and its value are one, `--load-model=gemma`, as tritonserver takes either."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        is_parted = word.startswith("--") and "=" not in word and rest and not rest[0].startswith("-")
        yield f"{word}={rest.pop(0)}" if is_parted else word


def _build(words: Sequence[str]) -> Iterator[str]:
    options: dict[str, str | bool] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            raise CommandError(f"{name!r} belongs to no option.", "Write --OPTION VALUE.")
        key = name.removeprefix("--").replace("-", "_")
        is_switch = key in flags() and flags()[key].kind == "switch"
        if not is_switch and not equals and not rest:
            raise CommandError(f"{name} has no value.", f"Write {name} VALUE.")
        options[key] = True if is_switch else value if equals else rest.pop(0)
    folders = (str(options.pop("checkpoint_dir", "")), str(options.pop("output_dir", "engine_outputs")))
    plan = BuildPlan(*folders, options)
    yield from (f"--{name} {folder}" for name, folder in zip(("checkpoint_dir", "output_dir"), folders, strict=True))
    yield from (f"--{name} {plan.value(name)}" for name in options if plan.value(name) != flags()[name].default)


def _curl(words: Sequence[str]) -> Iterator[str]:
    names = [
        "silent",
        "no-buffer",
        "show-error",
        "fail",
        "include",
        "request=",
        "header=",
        "data=",
        "data-raw=",
        "json=",
    ]
    try:
        options, rest = getopt.gnu_getopt(list(words), "sNSfiX:H:d:", [*names, "url="])
    except getopt.GetoptError as error:
        raise CommandError(f"curl would not take this line: {error.msg}.", "See curl --help.") from None
    long = {
        "-s": "--silent", "-N": "--no-buffer", "-S": "--show-error", "-f": "--fail", "-i": "--include",
        "-X": "--request", "-H": "--header", "-d": "--data", "--data-raw": "--data", "--json": "--data",
    }  # fmt: skip
    for name, value in [*options, *(("--url", url) for url in rest)]:
        name = long.get(name, name)
        if name == "--data":
            yield from _body(value.replace("$$", "$"))
        else:
            yield f"{name} {value}".strip()


def _body(text: str) -> Iterator[str]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(
            f"The body is not JSON: {error}.", "Put it into single quotes, and its names and texts into double ones."
        ) from None
    if not isinstance(body, dict):
        raise CommandError("The body is no JSON object.", 'Write {"name": value, …}.')
    # Sampling parameters travel beside the inputs, or as JSON in a text.
    if isinstance(inner := body.get("sampling_parameters"), str):
        yield from _body(inner)
        del body["sampling_parameters"]
    yield from (f"body {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in body.items())


_PROGRAMS = {"trtllm-build": _build, "curl": _curl}
