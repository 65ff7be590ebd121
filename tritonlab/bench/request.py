"""What is sent: one request's body as a template for AIPerf, and the tokenizer that counts its prompts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tritonlab.client import Client
from tritonlab.errors import BenchError, ClientError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TEXT = "@the prompt@"


def require_ready(client: Client, model: str) -> None:
    """Raise BenchError unless the server answers and has the model ready."""
    if not client.live():
        raise BenchError(
            f"No Triton server answers at {client.url}.",
            "Start one (`tritonlab serve FOLDER`), or give the address of one that runs.",
        )
    if client.model_ready(model):
        return
    try:
        index = client.index()
    except ClientError as error:
        raise BenchError(f"Model {model!r} is not ready at {client.url}: {error.what}", error.fix) from None
    names = list(index[index.state == "READY"].name)
    if model in set(index.name):
        reason = next((text for text in index[index.name == model].reason if text), "it is not loaded")
        raise BenchError(f"Model {model!r} is not ready at {client.url}: {reason}.", "Load it first.")
    near = difflib.get_close_matches(model, names, 1)
    known = f"Ready there: {', '.join(sorted(names)) or 'none'}."
    raise BenchError(
        f"The server at {client.url} has no model {model!r}.", f"Did you mean {near[0]!r}?" if near else known
    )


def template(client: Client, model: str, output_tokens: int, seed: int) -> str:
    """The Jinja template of a request that asks for exactly `output_tokens`, chosen greedily.

    Raises:
        BenchError: the model takes no text, or has no setting for the length.
    """
    names = _inputs(client, model)
    if "text_input" not in names:
        raise BenchError(
            f"Model {model!r} takes no text: its inputs are {', '.join(sorted(names)) or 'unknown'}.",
            "Measure the model that people ask, such as `ensemble`.",
        )
    try:
        body = client.body(model, TEXT, sampling(names, output_tokens, seed), stream=True)
    except ClientError as error:
        raise BenchError(f"No request can be made for model {model!r}: {error.what}", error.fix) from None
    return as_template(body)


def sampling(names: set[str], output_tokens: int, seed: int) -> dict[str, Any]:
    """The settings, by what the model has inputs for.

    min_tokens keeps the model from ending early; unlike ignore_eos it also keeps end-of-text tokens, which have no
    text, out of the answer.
    """
    if "sampling_parameters" in names:
        return {"max_tokens": output_tokens, "min_tokens": output_tokens, "temperature": 0, "seed": seed}
    prefix = "sampling_param_" if "sampling_param_max_tokens" in names else ""
    wanted = {"max_tokens": output_tokens, "min_tokens": output_tokens, "min_length": output_tokens}
    wanted |= {"top_k": 1, "seed": seed}
    found = {f"{prefix}{name}": value for name, value in wanted.items() if f"{prefix}{name}" in names}
    if f"{prefix}max_tokens" not in found:
        raise BenchError(
            f"The model has no input max_tokens, so its answers' length cannot be set ({', '.join(sorted(names))}).",
            "Measure a model that generates text: one of the vllm backend, or TensorRT-LLM's ensemble.",
        )
    return found


def as_template(body: dict[str, Any]) -> str:
    """A body as a Jinja template: all of it as it is, but the prompt, and the id, which differ by request."""
    text = json.dumps(body)
    holes = {json.dumps(TEXT): "{{ text|tojson }}"}
    if "id" in body:
        holes[json.dumps(body["id"])] = "{{ request_info.x_request_id|string|tojson }}"
    for value, hole in holes.items():
        text = text.replace(value, f"{{% endraw %}}{hole}{{% raw %}}", 1)
    return f"{{% raw %}}{text}{{% endraw %}}"


def tokenizer_of(client: Client, model: str, given: str | None = None) -> str:
    """The model's own tokenizer: a folder, or an id on the Hugging Face Hub.

    Without `given` it is looked for in the repository of a server that was started here, and in the server's
    configuration, where TensorRT-LLM's models name it.

    Raises:
        BenchError: there is none to be found.
    """
    for name in [given] if given else dict.fromkeys((*_in_repository(client, model), *_in_config(client, model))):
        folder = Path(name).expanduser()
        if any((folder / file).is_file() for file in TOKENIZER_FILES):
            return str(folder.absolute())
        if HUB_ID.fullmatch(name) and not folder.exists():
            return name
    missing = (
        f"There is no tokenizer in {given!r}." if given else f"The tokenizer of model {model!r} is not known here."
    )
    raise BenchError(
        missing,
        "Give the folder with its tokenizer.json, or the model's id on the Hugging Face Hub: tokenizer=... in Python, "
        "--tokenizer in a shell.",
    )


def _in_repository(client: Client, model: str) -> Iterator[str]:
    from tritonlab.servers.running import recorded

    for server in recorded():
        if server.url != client.url or not server.repository:
            continue
        repository = Path(server.repository)
        for path in sorted(repository.glob("*/*/model.json")):
            if path.parts[-3] != model:
                continue
            try:
                arguments = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            for key in ("tokenizer", "model"):
                if name := arguments.get(key):
                    yield str(name)


def _in_config(client: Client, model: str) -> Iterator[str]:
    """What `tokenizer_dir` says: in the model itself, in an ensemble's steps, or in the one model that has it."""
    try:
        own = client.config(model)
        yield from _tokenizer_dir(own)
        steps = [step["model_name"] for step in own.get("ensemble_scheduling", {}).get("step", ())]
        index = client.index()
        for name in [*steps, *index[index.state == "READY"].name]:
            yield from _tokenizer_dir(client.config(name))
    except (ClientError, KeyError, TypeError):
        return


def _tokenizer_dir(config: dict[str, Any]) -> Iterator[str]:
    if name := config.get("parameters", {}).get("tokenizer_dir", {}).get("string_value"):
        yield str(name)


def _inputs(client: Client, model: str) -> set[str]:
    try:
        return {tensor["name"] for tensor in client.model_metadata(model)["inputs"]}
    except (ClientError, KeyError, TypeError) as error:
        said = error.what if isinstance(error, ClientError) else "its answer has no inputs"
        raise BenchError(f"The server does not describe model {model!r}: {said}", "See its log.") from None
