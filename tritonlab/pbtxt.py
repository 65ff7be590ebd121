"""config.pbtxt: read as protobuf and written, and what prevents the reading."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonlab import vllm
from tritonlab.problems import Problem, line_of
from tritonlab.schema import ModelConfig, schema

CONFIG = "config.pbtxt"
PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
# What stands in a fill_template.py command for a placeholder; counts of instances are the rest.
EXAMPLES = {
    "triton_max_batch_size": "64",
    "decoupled_mode": "True",
    "logits_datatype": "TYPE_FP32",
    "encoder_input_features_data_type": "TYPE_FP16",
    "prompt_embedding_table_data_type": "TYPE_FP16",
    "max_queue_size": "0",
    "max_queue_delay_microseconds": "0",
    "triton_backend": "tensorrtllm",
    "engine_dir": "/engines/llama",
    "batching_strategy": "inflight_fused_batching",
    "tokenizer_dir": "/engines/tokenizer",
}


@dataclass(frozen=True)
class ConfigFile:
    """A model's config.pbtxt that could be read.

    Attributes:
        folder: the model's folder.
        where: the file's path in the repository, for people.
        text: the file as it stands.
        config: what it says.
    """

    folder: Path
    where: str
    text: str
    config: ModelConfig

    @property
    def name(self) -> str:
        """The model's name: its folder's."""
        return self.folder.name

    def at(self, what: str, why: str, fix: str, word: str = "", severity: str = "error") -> Problem:
        """A problem at the first line that holds a word."""
        return Problem(self.where, line_of(self.text, word), what, why, fix, severity)

    def parameter(self, name: str) -> str:
        """The text of a parameter; "" where it is absent or its placeholder is not filled in."""
        given = self.config.parameters[name].string_value if name in self.config.parameters else ""
        return "" if PLACEHOLDER.search(given) else given


def render(config: ModelConfig) -> str:
    """A configuration as the text of config.pbtxt."""
    from google.protobuf import text_format

    text: str = text_format.MessageToString(config)
    return text


def read(folder: Path) -> tuple[ConfigFile | None, list[Problem]]:
    """A model's config.pbtxt, or None and the problems that prevent it."""
    from google.protobuf import text_format

    where = f"{folder.name}/{CONFIG}"
    try:
        text = (folder / CONFIG).read_bytes().decode("utf-8")
    except FileNotFoundError:
        what = "config.pbtxt is missing"
        why = "Triton cannot know which backend runs the model: it must specify a platform or a backend"
        return None, [Problem(where, 0, what, why, f'write {where} with at least: backend: "vllm"')]
    except UnicodeDecodeError as error:
        what, why = f"byte {error.start} is not UTF-8", "Triton cannot parse the file"
        return None, [Problem(where, 0, what, why, "save it as UTF-8")]
    except OSError as error:
        what, why = f"it cannot be read: {error.strerror}", "Triton cannot read it either"
        return None, [Problem(where, 0, what, why, "mend the file's rights")]
    config = schema().ModelConfig()
    try:
        text_format.Parse(text, config)
    except (text_format.ParseError, ValueError, RecursionError) as error:
        return None, _unparsed(where, text, str(error), getattr(error, "GetLine", lambda: 0)() or 0)
    return ConfigFile(folder, where, text, config), []


def fill_command(where: str, name: str) -> str:
    """The command that fills a placeholder of NVIDIA's templates (tensorrtllm_backend, tools/fill_template.py)."""
    return f"python3 fill_template.py -i {where} '{name}:{EXAMPLES.get(name, '1')}'"


def enum_name(enum: Any, value: int) -> str:
    """The name of an enum's value; the file may hold a number that has none."""
    try:
        return str(enum.Name(value))
    except ValueError:
        return str(value)


def _unparsed(where: str, text: str, said: str, line: int) -> list[Problem]:
    unfilled = list(_unfilled(where, text))
    # The parser stumbles over a placeholder with words that name a dollar; the placeholder itself tells more.
    if any(problem.line == line for problem in unfilled):
        return unfilled
    return [_syntax_problem(where, said, line), *unfilled]


def _unfilled(where: str, text: str) -> Iterator[Problem]:
    """Placeholders that stand where a number, a truth value or a name of the schema belongs, each once."""
    told = set()
    for number, line in enumerate(text.splitlines(), start=1):
        bare = re.sub(r'"(?:\\.|[^"\\])*"|#.*', "", line)
        for name in PLACEHOLDER.findall(bare):
            if name not in told:
                told.add(name)
                what = f"the placeholder ${{{name}}} is not filled in"
                why = "no value stands there, so that Triton fails to parse the whole file as a model configuration"
                yield Problem(where, number, what, why, fill_command(where, name))


def _syntax_problem(where: str, said: str, line: int) -> Problem:
    fix = "correct the line; protobuf text writes name: value and name { … }"
    if match := re.search(r'Message type "inference\.([\w.]+)" has no field named "(\w+)"', said):
        known = [f.name for f in _descriptor(match[1]).fields] if _descriptor(match[1]) else []
        if match[1] == "ModelConfig" and match[2] in vllm.engine_arguments():
            fix = f"move {match[2]} to model.json: it is an argument of vLLM's engine"
        elif close := difflib.get_close_matches(match[2], known, n=1, cutoff=0.5):
            fix = f"did you mean {close[0]}?"
        else:
            fix = f"leave it out; {match[1]} has {', '.join(known)}"
        what = f"{match[1]} has no field {match[2]}"
    elif match := re.search(r'Enum type "inference\.([\w.]+)" has no value named (\w+)', said):
        known = [v.name for v in _enum(match[1]).values]
        close = difflib.get_close_matches(match[2], known, n=1, cutoff=0.4)
        fix = f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
        what = f"{match[2]} is no {match[1]}"
    else:
        what = re.sub(r"^\d+:\d+ ?: ?", "", said)
    why = "Triton refuses the whole file: it fails to parse it as a model configuration"
    return Problem(where, line, what, why, fix)


def _descriptor(name: str) -> Any:
    message = schema().DESCRIPTOR
    for part in name.split("."):
        nested = getattr(message, "message_types_by_name", None) or message.nested_types_by_name
        message = nested.get(part)
        if message is None:
            return None
    return message


def _enum(name: str) -> Any:
    *outer, last = name.split(".")
    holder = _descriptor(".".join(outer)) if outer else schema().DESCRIPTOR
    return holder.enum_types_by_name[last]
