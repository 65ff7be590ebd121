"""The five models of TensorRT-LLM's repository, compared with the templates of 0.20 and with each other.

    consistency.check("model_repository")       # -> Problems, empty when all is good

`ModelRepository.validate` asks here too. What a server would say comes from tensorrtllm_backend at c2e65b88,
inflight_batcher_llm/src; the names are those of its all_models/inflight_batcher_llm.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tritonlab.errors import TritonlabError
from tritonlab.pbtxt import PLACEHOLDER, ConfigFile, enum_name, fill_command, read
from tritonlab.problems import Problem, Problems
from tritonlab.schema import ModelConfig, schema
from tritonlab.trtllm import command
from tritonlab.trtllm.engine import EngineFolder
from tritonlab.trtllm.repository import BATCHING, MODELS, MUST_EXIST, InflightBatcherLlm, TemplateModel, table

# Tensors that no other model has; two of them tell the model, whatever its name.
MARKS = {
    "preprocessing": {"QUERY", "REQUEST_OUTPUT_LEN", "INPUT_ID", "REQUEST_INPUT_LEN"},
    "tensorrt_llm": {"input_ids", "input_lengths", "request_output_len", "output_ids"},
    "postprocessing": {"TOKENS_BATCH", "SEQUENCE_LENGTH", "OUTPUT"},
    "tensorrt_llm_bls": {"num_draft_tokens", "use_draft_logits", "image_bytes_input", "image_url_input"},
}
NEEDED_OUTPUTS = {
    "preprocessing": {"INPUT_ID", "REQUEST_INPUT_LEN", "REQUEST_OUTPUT_LEN"},
    "tensorrt_llm": {"output_ids", "sequence_length"},
    "postprocessing": {"OUTPUT"},
    "ensemble": {"text_output"},
    "tensorrt_llm_bls": {"text_output"},
}
# The templates leave these types to whoever fills them in.
FREE_TYPES = {
    **dict.fromkeys(("context_logits", "generation_logits", "draft_logits"), ("TYPE_FP32", "TYPE_FP16")),
    **dict.fromkeys(("encoder_input_features", "prompt_embedding_table"), ("TYPE_FP16", "TYPE_BF16", "TYPE_FP32")),
}
IS_KIND: dict[str, tuple[Callable[[str], object], str]] = {
    "bool": ({"true", "True", "TRUE", "1", "false", "False", "FALSE", "0"}.__contains__, "true or false"),
    "int": (re.compile(r"[+-]?\d+").fullmatch, "a whole number"),
    "float": (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?").fullmatch, "a number"),
}

_Family = Mapping[str, ConfigFile]
"""Models that work together, by what each of them is."""


def check(repository: str | os.PathLike[str]) -> Problems:
    """What contradicts the templates, or itself, in a repository's models of TensorRT-LLM.

    Files that cannot be read are left out; `ModelRepository.validate` tells of them.

    Raises:
        TritonlabError: there is no such folder, or it cannot be read.
    """
    root = Path(repository)
    try:
        folders = sorted(child for child in root.iterdir() if child.is_dir())
    except OSError as error:
        raise TritonlabError(f"{root} cannot be read: {error.strerror}.", "Name the model repository.") from None
    files = [file for file, _ in map(read, folders) if file is not None]
    return Problems(check_files({file.name: file for file in files}))


def check_files(files: Mapping[str, ConfigFile]) -> list[Problem]:
    """The same for configurations that were read already, by model."""
    roles = {name: role for name, file in files.items() if (role := _role(file.config, files))}
    alone = [problem for name, role in roles.items() for problem in _alone(files[name], role)]
    between = [problem for family in _families(files, roles) for problem in _between(family)]
    return [*alone, *between]


def bring_code(file: ConfigFile) -> str:
    """How to bring a model's Python code from NVIDIA's image; "" where it has none for it."""
    if any(tensor.name == "sampling_param_max_tokens" for tensor in file.config.input):
        # model.py imports what lies beside it; model.yaml lies there too, and is the reader's own already.
        source = "llmapi/tensorrt_llm/1/*.py"
    elif role := _role(file.config, {}):
        source = f"inflight_batcher_llm/{role}/1/."
    else:
        return ""
    copy = f"cp -r /app/all_models/{source}"
    folder = f"{file.name}/1"
    run = f'docker run --rm --mount "type=bind,source=$PWD/{folder},target=/to" {command.image("25.06")}'
    return (
        f"in the server's container: {copy} MODEL_REPOSITORY/{folder}/; "
        f'or in the model repository on the host: {run} bash -c "{copy} /to"'
    )


# Which model is what


def _role(config: ModelConfig, files: Mapping[str, ConfigFile]) -> str:
    """Which of the five models it is, or ""."""
    if config.platform == "ensemble":
        steps = [files[step.model_name] for step in config.ensemble_scheduling.step if step.model_name in files]
        return "ensemble" if any(_role(step.config, {}) for step in steps) else ""
    if config.backend == "tensorrtllm":
        return "tensorrt_llm"
    if config.backend != "python" and not PLACEHOLDER.search(config.backend):
        return ""
    if "accumulate_tokens" in config.parameters:
        return "tensorrt_llm_bls"
    tensors = {tensor.name for tensor in (*config.input, *config.output)}
    return next((role for role, marks in MARKS.items() if len(marks & tensors) > 1), "")


def _families(files: Mapping[str, ConfigFile], roles: Mapping[str, str]) -> Iterator[_Family]:
    by_role: dict[str, list[ConfigFile]] = {}
    for name, role in roles.items():
        by_role.setdefault(role, []).append(files[name])
    if len(by_role.get("tensorrt_llm", [])) < 2:
        yield {role: found[0] for role, found in by_role.items() if len(found) == 1}
        return
    # With several engines only an ensemble says which models belong together.
    for ensemble in by_role.get("ensemble", []):
        steps = [step.model_name for step in ensemble.config.ensemble_scheduling.step]
        yield {"ensemble": ensemble, **{roles[name]: files[name] for name in steps if name in roles}}


# A model alone


def _alone(file: ConfigFile, role: str) -> Iterator[Problem]:
    template = _template(role)
    yield from _tensors(file, role, "input", file.config.input, template.input)
    yield from _tensors(file, role, "output", file.config.output, template.output)
    if role in ("preprocessing", "tensorrt_llm"):
        yield from _queue(file)
    if role in ("preprocessing", "postprocessing"):
        yield from _tokenizer(file)
    if role == "tensorrt_llm" and file.config.backend == "tensorrtllm":
        yield from _engine(file)
        yield from _parameters(file)
    if role == "tensorrt_llm_bls":
        yield from _bls_instances(file)


def _tensors(file: ConfigFile, role: str, way: str, given: Any, template: Any) -> Iterator[Problem]:
    wanted = {tensor.name: tensor for tensor in template}
    names = {tensor.name for tensor in given}
    for tensor in given:
        if tensor.name in wanted:
            yield from _tensor(file, way, tensor, wanted[tensor.name])
        else:
            yield _unknown_tensor(file, way, tensor.name, sorted(wanted))
    needed = NEEDED_OUTPUTS[role] if way == "output" else {t.name for t in template if not t.optional}
    for name in sorted(needed - names):
        why = f"{role} cannot work without it, and a request that has it is refused" if way == "input" else (
            "what comes after this model reads it"
        )  # fmt: skip
        yield file.at(f"the {way} {name} is missing", why, f"add {way} {{ {_written(wanted[name])} }}")


def _tensor(file: ConfigFile, way: str, given: Any, wanted: Any) -> Iterator[Problem]:
    name, word = given.name, f'"{given.name}"'
    data_type, wanted_type = (enum_name(schema().DataType, tensor.data_type) for tensor in (given, wanted))
    if data_type not in FREE_TYPES.get(name, (wanted_type,)):
        why = "a client sends what the file says, and the model reads something else"
        yield file.at(f"{way} {name} is {data_type}", why, f"write data_type: {wanted_type}", word)
    if list(given.dims) != list(wanted.dims):
        severity = "warning" if len(given.dims) == len(wanted.dims) else "error"
        why = "Triton lets other shapes pass than the model of 0.20 reads or writes"
        fix = f"write dims: {list(wanted.dims)}"
        yield file.at(f"{way} {name} has dims {list(given.dims)}", why, fix, word, severity)
    if way == "input" and given.optional and not wanted.optional:
        why = "Triton lets a request without it pass, which then fails in the model"
        yield file.at(f"{way} {name} is optional", why, "leave optional out", word, "warning")
    if way == "input" and wanted.optional and not given.optional:
        why = "Triton refuses every request without it"
        yield file.at(f"{way} {name} is not optional", why, "write optional: true", word, "warning")


def _unknown_tensor(file: ConfigFile, way: str, name: str, known: list[str]) -> Problem:
    word = f'"{name}"'
    if name in table()["later"]["tensors"]:
        what, why = f"{way} {name!r} is newer than 0.20", "the backend of TensorRT-LLM 0.20 neither reads nor writes it"
        return file.at(what, why, "leave it out, or serve with a newer release", word, "warning")
    what, why = f"{way} {name!r} is unknown", "TensorRT-LLM 0.20 neither reads nor writes it"
    renamed = table()["renamed"]["tensors"].get(name)
    if renamed and renamed[0] in known:
        return file.at(what, why, f"write {renamed[0]}: its name since {renamed[1]}", word)
    near = difflib.get_close_matches(name, known, 1, 0.7)
    # A name like no other is a tensor of the reader's own making, which code of theirs may well know.
    fix = f"did you mean {near[0]}?" if near else "leave it out, unless your own code uses it"
    return file.at(what, why, fix, word, "error" if near else "warning")


def _queue(file: ConfigFile) -> Iterator[Problem]:
    size = file.config.dynamic_batching.default_queue_policy.max_queue_size
    batch = file.config.max_batch_size
    if 0 < size < batch:
        what = f"max_queue_size is {size}, below max_batch_size {batch}"
        why = "the queue refuses requests before they would fill a batch"
        yield file.at(what, why, f"write 0 for any number, or {batch} or more", "max_queue_size", "warning")


def _tokenizer(file: ConfigFile) -> Iterator[Problem]:
    if not file.parameter("tokenizer_dir"):
        why = f"{file.name} turns text into tokens or back, and fails to load without a tokenizer"
        yield _not_given(file, "tokenizer_dir", "tokenizer_dir", why)


def _engine(file: ConfigFile) -> Iterator[Problem]:
    if not file.parameter("gpt_model_path") and not file.parameter("encoder_model_path"):
        why = "the server warns: gpt_model_path is not specified; then: Both encoder and decoder model paths are empty"
        yield _not_given(file, "gpt_model_path", "engine_dir", why)
    kind = file.parameter("gpt_model_type")
    why = "the load fails: Invalid gpt_model_type. Must be v1/inflight_batching/inflight_fused_batching."
    if not kind:
        yield _not_given(file, "gpt_model_type", "batching_strategy", why)
    elif kind not in BATCHING:
        near = difflib.get_close_matches(kind, BATCHING, 1)
        fix = f"did you mean {near[0]}?" if near else f"write {BATCHING[0]}"
        yield file.at(f"gpt_model_type is {kind!r}", why, fix, f'"{kind}"')
    for name in MUST_EXIST:
        if name not in file.config.parameters:
            why = "the backend reads it without asking whether it is there, and the load fails"
            fix = f'add parameters {{ key: "{name}" value: {{ string_value: "${{{name}}}" }} }}; unfilled is right'
            yield file.at(f"the parameter {name} is missing", why, fix)
    yield from _batch_of_engine(file)


def _batch_of_engine(file: ConfigFile) -> Iterator[Problem]:
    path = file.parameter("gpt_model_path")
    try:
        engine = EngineFolder.read(path) if path else None
    except (TritonlabError, OSError):
        return  # The path is the server's, and this machine need not have it.
    most = engine.build.get("max_batch_size") if engine and isinstance(engine.build, dict) else None
    if engine and isinstance(most, int) and file.config.max_batch_size > most:
        what = f"max_batch_size is {file.config.max_batch_size}, and the engine was built for {most}"
        why = f"{engine.path} has no room for more requests at once"
        yield file.at(what, why, f"write max_batch_size: {most}, or build the engine anew", "max_batch_size")


def _not_given(file: ConfigFile, name: str, placeholder: str, why: str) -> Problem:
    unfilled = name in file.config.parameters and PLACEHOLDER.search(file.config.parameters[name].string_value)
    if unfilled:
        what = f"the placeholder {unfilled[0]} is not filled in"
        return file.at(what, why, fill_command(file.where, unfilled[1]), unfilled[0])
    fix = f'add parameters {{ key: "{name}" value: {{ string_value: "…" }} }}: the template\'s ${{{placeholder}}}'
    return file.at(f"the parameter {name} is missing or empty", why, fix, f'"{name}"')


def _parameters(file: ConfigFile) -> Iterator[Problem]:
    known = {entry["name"]: entry for entry in table()["parameter"] if entry["model"] == "tensorrt_llm"}
    for name, parameter in file.config.parameters.items():
        value = parameter.string_value
        if name not in known:
            yield _unknown_parameter(file, name, known)
        elif value and not PLACEHOLDER.search(value):
            yield from _value(file, known[name], value)


def _unknown_parameter(file: ConfigFile, name: str, known: Mapping[str, Mapping[str, str]]) -> Problem:
    placeholders = {entry["placeholder"]: key for key, entry in known.items() if "placeholder" in entry}
    renamed = table()["renamed"]["parameters"].get(name, ("",))[0]
    near = difflib.get_close_matches(name, known, 1)
    right = placeholders.get(name) or renamed or (near[0] if near else "")
    fix = f"did you mean {right}?" if right else "leave it out"
    severity = "error" if right else "warning"
    return file.at(
        f"the parameter {name!r} is unknown", "TensorRT-LLM 0.20 does not look for it", fix, f'"{name}"', severity
    )


def _value(file: ConfigFile, entry: Mapping[str, str], value: str) -> Iterator[Problem]:
    fits, wanted = IS_KIND.get(_kind(entry), (bool, ""))
    if not fits(value):
        default = f"its default, {entry['default']}" if entry["default"] else "none"
        why = f"the backend cannot read it, and goes on as if it were not given, with {default}"
        yield file.at(f"{entry['name']} is {value!r}", why, f"write {wanted}", f'"{entry["name"]}"')


def _kind(entry: Mapping[str, str]) -> str:
    """What a parameter's value is: "bool", "int", "float" or "text"."""
    default = entry["default"]
    if "kind" in entry:
        return entry["kind"]
    if default in ("true", "false"):
        return "bool"
    return next((kind for kind in ("int", "float") if IS_KIND[kind][0](default)), "text")


def _bls_instances(file: ConfigFile) -> Iterator[Problem]:
    count, batch = _instances(file), file.config.max_batch_size
    # NVIDIA's code has this file; it serves a request after the other, and other code may do as it likes.
    if count < batch and any(file.folder.glob("*/lib/triton_decoder.py")):
        what = f"{count} of {file.name} for a max_batch_size of {batch}"
        why = f"each instance serves one request at a time, so that the engine never has more than {count} from it"
        yield file.at(what, why, f"write count: {batch} in instance_group", "instance_group", "warning")


# Models with each other


def _between(family: _Family) -> Iterator[Problem]:
    engine = family.get("tensorrt_llm")
    if engine is not None:
        yield from _batches(engine, family)
        yield from _decoupled(engine, family)
    yield from _tokenizers(family)


def _batches(engine: ConfigFile, family: _Family) -> Iterator[Problem]:
    size = engine.config.max_batch_size
    for file in family.values():
        if file.config.max_batch_size != size:
            what = f"max_batch_size is {file.config.max_batch_size}, and that of {engine.name} is {size}"
            why = "the smallest of them bounds what a request or a batch may hold on its way through all"
            yield file.at(what, why, f"write max_batch_size: {size}", "max_batch_size", "warning")


def _decoupled(engine: ConfigFile, family: _Family) -> Iterator[Problem]:
    is_decoupled = engine.config.model_transaction_policy.decoupled
    bls, post = family.get("tensorrt_llm_bls"), family.get("postprocessing")
    fix = "write model_transaction_policy { decoupled: true } in both: streams need it"
    if bls is not None and is_decoupled != bls.config.model_transaction_policy.decoupled:
        if is_decoupled:
            why = (
                f"Triton refuses its calls: who calls a decoupled model such as {engine.name} must expect many answers"
            )
            yield bls.at(f"it is not decoupled, and {engine.name} is", why, fix, "decoupled")
        else:
            why = "a request with stream: true fails; others work"
            yield engine.at(f"it is not decoupled, and {bls.name} is", why, fix, "decoupled", "warning")
    if is_decoupled and post is not None and (count := _instances(post)) > 1:
        what = f"{count} instances of {post.name} after a decoupled {engine.name}"
        # A consequence of Triton's ensemble scheduler, which sends each response on when its own step is done.
        why = "pieces of one stream run side by side and can arrive out of order"
        yield post.at(what, why, "write count: 1, or do not stream", "instance_group", "warning")


def _tokenizers(family: _Family) -> Iterator[Problem]:
    pre, post = family.get("preprocessing"), family.get("postprocessing")
    first, second = (file.parameter("tokenizer_dir") if file else "" for file in (pre, post))
    if post is not None and first and second and first != second:
        what = f"tokenizer_dir is {second!r}, and that of preprocessing is {first!r}"
        why = "token ids mean other text in another tokenizer"
        yield post.at(what, why, f"write {first!r} in both", '"tokenizer_dir"')


def _instances(file: ConfigFile) -> int:
    return sum(group.count or 1 for group in file.config.instance_group) or 1


@cache
def _template(role: str) -> ModelConfig:
    assert role in MODELS
    return TemplateModel(role, InflightBatcherLlm("tokenizer", engine="engine")).config()


def _written(tensor: Any) -> str:
    dims: Iterable[int] = tensor.dims
    return f'name: "{tensor.name}" data_type: {enum_name(schema().DataType, tensor.data_type)} dims: {list(dims)}'
