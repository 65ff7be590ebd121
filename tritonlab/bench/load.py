"""One run of AIPerf: a load at one concurrency after another, in one process that is started once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tritonlab.bench import environment, exports, request
from tritonlab.bench.exports import Answer
from tritonlab.client import Client
from tritonlab.engine import Progress
from tritonlab.errors import BenchError

LOOK_EVERY_S = 0.2
START_S = 240.0  # AIPerf's own start, about 15 s on two cores, and its end
END_S = 10.0


@dataclass(frozen=True)
class Settings:
    """A load.

    Attributes:
        concurrency: requests under way at once, one after another.
        requests: how many are measured, for each.
        warmup: how many are sent before and not counted, for each.
        prompt_tokens, output_tokens: the length of each prompt, and of each answer.
        seed: of the prompts.
        timeout: seconds that a request may take.
    """

    concurrency: tuple[int, ...]
    requests: tuple[int, ...]
    warmup: tuple[int, ...]
    prompt_tokens: int
    output_tokens: int
    seed: int
    timeout: float

    @property
    def total(self) -> int:
        """All requests, warm-ups among them."""
        return sum(self.requests) + sum(self.warmup)

    @property
    def limit(self) -> float:
        """Seconds after which the run cannot be alive: every request has taken its time-out by then."""
        pairs = zip((*self.requests, *self.warmup), self.concurrency * 2, strict=True)
        return START_S + self.timeout * sum(-(-count // at_once) for count, at_once in pairs)

    def as_dict(self) -> dict[str, Any]:
        """As JSON would give it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def run(
    client: Client, model: str, tokenizer: str, settings: Settings, turn: int, progress: Progress, label: str
) -> list[Answer]:
    """Put the load on the model and return what became of each request.

    Raises:
        BenchError: AIPerf cannot be installed, failed or hung, or the model cannot be asked.
    """
    program = environment.install(progress)
    body = request.template(client, model, settings.output_tokens, settings.seed)
    # Short, since AIPerf's sockets lie in it, and a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="tritonlab-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "template.jinja").write_text(body, encoding="utf-8")
        written, secrets = configuration(client, model, tokenizer, settings, folder)
        (folder / "load.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
        variables = {**environment.variables(folder, tokenizer), **secrets}
        command = [str(program), "profile", "--config", str(folder / "load.json")]
        code = _follow(command, folder, variables, settings, progress, label, tuple(secrets.values()))
        answers = exports.read(folder / "artifacts", _phases(settings), turn)
        if len(answers) < sum(settings.requests):
            raise BenchError(
                f"AIPerf measured {len(answers)} of {sum(settings.requests)} requests and ended with code {code}: "
                f"{_hidden(_last_words(folder), tuple(secrets.values()))}",
                "If it comes again, report that text.",
            )
    return [answer._replace(message=_hidden(answer.message, tuple(secrets.values()))) for answer in answers]


def configuration(
    client: Client, model: str, tokenizer: str, settings: Settings, folder: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """AIPerf's configuration file, and the variables that it refers to: the headers' values stand in no file.

    Its format: docs.nvidia.com/aiperf, "YAML configuration" (version 2.0, of AIPerf 0.13).
    """
    secrets = {f"TRITONLAB_HEADER_{at}": value for at, value in enumerate(client.headers.values())}
    # The second variable is empty: a value that is one variable and nothing else would be read as a number or a truth.
    headers = {
        name: f"${{{variable}}}${{TRITONLAB_NONE:}}" for name, variable in zip(client.headers, secrets, strict=True)
    }
    phases = []
    for at_once, count, warmup in zip(settings.concurrency, settings.requests, settings.warmup, strict=True):
        alike = {"type": "concurrency", "concurrency": at_once}
        phases.append({"name": f"warmup_{at_once}", "kind": "warmup", **alike, "requests": warmup})
        phases.append({"name": f"load_{at_once}", "kind": "profiling", **alike, "requests": count})
    whole = {
        "schemaVersion": "2.0",
        "randomSeed": settings.seed,
        "benchmark": {
            "model": model,
            "endpoint": {
                "url": client.url,
                "path": f"/v2/models/{quote(model, safe='')}/generate_stream",
                "type": "template",
                "streaming": True,
                "timeout": settings.timeout,
                "template": {"body": str(folder / "template.jinja"), "responseField": "text_output"},
                "headers": headers,
            },
            # A prompt for each request: none is in the server's prefix cache.
            "dataset": {
                "type": "synthetic",
                "entries": settings.total,
                "isl": {"mean": settings.prompt_tokens, "stddev": 0},
            },
            "phases": phases,
            "tokenizer": {"name": tokenizer},
            "artifacts": {"dir": str(folder / "artifacts"), "summary": ["json"], "records": ["jsonl"], "raw": True},
            "gpuTelemetry": {"enabled": False},
            "serverMetrics": {"enabled": False},
            "runtime": {"ui": "none"},
        },
    }
    return whole, secrets


def _phases(settings: Settings) -> dict[str, int]:
    return {f"load_{at_once}": at_once for at_once in settings.concurrency}


def _follow(
    command: list[str],
    folder: Path,
    variables: Mapping[str, str],
    settings: Settings,
    progress: Progress,
    label: str,
    secrets: tuple[str, ...],
) -> int:
    """Run AIPerf to its end and tell how far it is."""
    deadline = time.monotonic() + settings.limit
    progress(f"Starting AIPerf for {label}", 0.0)
    with _process(command, folder, variables) as process:
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise BenchError(
                    f"AIPerf has not ended after {settings.limit:.0f} s, though each request may take "
                    f"{settings.timeout:g} s: {_hidden(_last_words(folder), secrets)}",
                    "Ask for fewer requests, or see in the server's log what it is busy with.",
                )
            if done := exports.count(folder / "artifacts"):
                progress(f"Measuring {label}: {done} of {settings.total} requests", min(done / settings.total, 1.0))
            time.sleep(LOOK_EVERY_S)
        progress(f"Measured {label}", 1.0)
        return process.returncode


@contextmanager
def _process(command: list[str], folder: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which ends as a whole however the block is left."""
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / "output.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it wrote nothing"
    lines = [line.strip(" │╭╮╰╯─•") for line in lines]
    errors = [line for line in lines if "ERROR" in line or line.startswith(("Error", "Reason"))]
    return " ".join((errors or [line for line in lines if line])[-4:])[-600:] or "it wrote nothing"


def _hidden(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "…")
    return text
