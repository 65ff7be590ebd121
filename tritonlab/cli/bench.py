"""`tritonlab bench`: a model under load."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonlab.errors import BenchError

if TYPE_CHECKING:
    from tritonlab.bench import Benchmark, Comparison


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(bench)


def bench(
    model: Annotated[str, typer.Argument(help="The model's name on the server.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8000",
    concurrency: Annotated[str, typer.Option(help="How many requests at once: one number, or several.")] = "1,4,16",
    prompt_tokens: Annotated[int, typer.Option(help="The length of a prompt.")] = 128,
    output_tokens: Annotated[int, typer.Option(help="The length of an answer.")] = 64,
    requests: Annotated[
        int | None, typer.Option(help="Requests to measure at each concurrency; by default 8 x it, 20 at least.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often all of it is measured.")] = 1,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another model, or URL/MODEL, measured in turn with the first; can be given again."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A folder or an id on the Hugging Face Hub, where it cannot be found by itself.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VARIABLE: send --url a header whose value is in that environment variable."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the record to this file.")] = None,
) -> None:
    """Put load on a model with NVIDIA's AIPerf, which the first call installs, and measure it.

    Exit code 1 when a request failed; what failed is told first.
    """
    from tritonlab import bench as package
    from tritonlab.progress_bar import Progress

    headers = _headers(header or [])
    at_once = _numbers(concurrency)
    sides = {model: (url, model)}
    for other in compare or []:
        side = _side(other, url)
        sides[other if other not in sides else f"{other} (again)"] = side
    found: Benchmark | Comparison
    with Progress(quiet=as_json) as progress:
        settings = {
            "concurrency": at_once,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
            "requests": requests,
            "rounds": rounds,
            "tokenizer": tokenizer,
            "headers": headers,
            "timeout": timeout,
            "progress": progress,
        }
        found = package.compare(sides, **settings) if compare else package.bench(url, model, **settings)  # type: ignore[arg-type]
    if output:
        found.save(output)
    print(json.dumps(found.record(), indent=1, ensure_ascii=False) if as_json else found)
    if output and not as_json:
        print(f"The record is in {output}.")
    raise typer.Exit(1 if len(found.errors) else 0)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BenchError(f"--concurrency is {text!r}.", "Write whole numbers with commas between: 1,4,16.") from None


def _side(text: str, url: str) -> tuple[str, str]:
    if "/" not in text:
        return url, text
    address, _, name = text.rpartition("/")
    return address, name


def _headers(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, variable = text.partition("=")
        if not equals or not name or variable not in os.environ:
            # What was given may be the secret itself: it is not repeated.
            what = "the variable that it names is not set" if equals and name else "it is not NAME=VARIABLE"
            raise BenchError(
                f"A --header cannot be sent: {what}.",
                "Put the value into an environment variable and name that, so that it is in no command line: "
                "--header Authorization=MY_TOKEN.",
            )
        found[name] = os.environ[variable]
    return found
