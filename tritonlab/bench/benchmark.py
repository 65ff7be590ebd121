"""`bench`: a model under load, and what came of it."""

from __future__ import annotations

import html
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.bench import figures, load, machine, request, table
from tritonlab.bench.exports import Answer
from tritonlab.client import Client
from tritonlab.engine import Progress
from tritonlab.errors import BenchError, TritonlabError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tritonlab.bench.comparison import Comparison
    from tritonlab.servers import Server

SCHEMA = 1
REQUESTS = (20, 8)  # at least, and for each that is under way at once
MOST = 4096


@dataclass(frozen=True)
class Benchmark:
    """What came of a load. Made by `bench`, or read from a record with `Benchmark.load`.

    Attributes:
        name: what figures call it.
        model, url: what was measured.
        answers: what became of each request.
        settings: concurrency, requests, prompt_tokens, output_tokens, rounds, seed and so on.
        versions: "triton", "vllm", "aiperf", "tritonlab" and others -> version, as far as known.
        machine: where AIPerf ran, and with a local server all else: processor, cores, memory, GPUs.
        date: when it began, in UTC.
        commandline: AIPerf's, and the configuration that it read.
    """

    name: str
    model: str
    url: str
    answers: tuple[Answer, ...] = field(repr=False)
    settings: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    date: str
    commandline: dict[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each concurrency; `tritonlab.bench.table.frame` says how each figure is made."""
        return table.frame(self.answers)

    @property
    def errors(self) -> pd.DataFrame:
        """The errors: concurrency, kind, message, count; empty when all requests were answered."""
        return table.errors(self.answers)

    def figure(self) -> Figure:
        """Throughput against latency: a point for each concurrency."""
        return figures.throughput({self.name: self.frame})

    def percentiles(self) -> Figure:
        """p50, p90 and p99 of time to first token, inter-token latency and latency, by concurrency."""
        return figures.percentiles(self.name, self.frame)

    def compare(self, other: Benchmark) -> Comparison:
        """The ratios to another that was measured apart. `tritonlab.bench.compare` measures two in turn."""
        from tritonlab.bench.comparison import Comparison

        names = (self.name, other.name if other.name != self.name else f"{other.name} (2)")
        return Comparison(dict(zip(names, (self, other), strict=True)), in_turn=False)

    def record(self) -> dict[str, Any]:
        """All of it for programs: figures, errors, each answer, settings, versions, machine."""
        rows = self.frame.to_dict(orient="records")
        clean = [{name: _plain(value) for name, value in row.items()} for row in rows]
        return {
            "schema": SCHEMA,
            "errors": [{name: _plain(v) for name, v in row.items()} for row in self.errors.to_dict(orient="records")],
            "name": self.name,
            "model": self.model,
            "url": self.url,
            "date": self.date,
            "versions": self.versions,
            "machine": self.machine,
            "settings": self.settings,
            "commandline": self.commandline,
            "rows": clean,
            "answer_fields": list(Answer._fields),
            "answers": [list(answer) for answer in self.answers],
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON.

        Raises:
            BenchError: it cannot be written.
        """
        return write(Path(path), self.record())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Benchmark:
        """Read a record.

        Raises:
            BenchError: it cannot be read, or is none.
        """
        record = read(Path(path))
        try:
            return cls.of(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BenchError(f"{path} is no record of a benchmark.", "Give a file that `save` wrote.") from None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Benchmark:
        """The benchmark that a record describes."""
        if record["schema"] != SCHEMA:
            raise ValueError
        answers = (Answer(**dict(zip(record["answer_fields"], row, strict=True))) for row in record["answers"])
        names = ("name", "model", "url", "settings", "versions", "machine", "date", "commandline")
        return cls(answers=tuple(answers), **{name: record[name] for name in names})

    def __repr__(self) -> str:
        lines = [table.told(self.answers), self._title(), table.shown(self.frame).to_string(index=False), self._about()]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        return as_html(table.told(self.answers), self._title(), table.shown(self.frame), self._about())

    def _title(self) -> str:
        lengths = f"{self.settings['prompt_tokens']} tokens in, {self.settings['output_tokens']} out"
        return f"{self.name}: {self.model} at {self.url}, {lengths}"

    def _about(self) -> str:
        return f"{table.NOTE}\n{about(self.versions, self.machine, self.date)}"


def bench(
    server: Server | Client | str,
    model: str,
    *,
    concurrency: int | Sequence[int] = (1, 4, 16),
    prompt_tokens: int = 128,
    output_tokens: int = 64,
    requests: int | None = None,
    rounds: int = 1,
    tokenizer: str | None = None,
    name: str | None = None,
    headers: Mapping[str, str] | None = None,
    seed: int | None = None,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Benchmark:
    """Put load on a model with AIPerf, which is installed at the first call, and measure it.

    Prompts are synthetic, and every request has one of its own, so that no prefix cache answers. The model chooses
    greedily and is kept from ending early, so that answers have the length that was asked for.

    Args:
        server: what `serve` returned, a `Client`, or an address such as "http://127.0.0.1:8000".
        model: its name on the server.
        concurrency: how many requests are under way at once, one load after another.
        prompt_tokens, output_tokens: the length of prompts and of answers, in tokens of the model's own tokenizer.
        requests: how many are measured at each concurrency, in each round; by default 8 for each that is under way, and
            20 at least.
        rounds: how often all of it is measured.
        tokenizer: a folder or an id on the Hugging Face Hub, if it cannot be found with the server.
        name: what figures call it; by default the model's.
        headers: sent with every request; their values reach AIPerf through its environment and are recorded nowhere.
        seed: of the prompts; by default others every time, since a server keeps what it has seen in its prefix cache.
        timeout: seconds that a request may take.
        progress: called with a sentence and the fraction done; by default it is shown.

    Raises:
        BenchError: AIPerf cannot be had, the server or the model is not ready, the tokenizer is not known, or no
            request was answered.
    """
    side = Side.of(server, model, tokenizer, headers)
    plan = settings(concurrency, prompt_tokens, output_tokens, requests, rounds, seed, timeout)
    return measure({name or model: side}, plan, rounds, progress)[name or model]


@dataclass(frozen=True)
class Side:
    """A model on a server, and its tokenizer."""

    client: Client
    model: str
    tokenizer: str

    @classmethod
    def of(
        cls,
        server: Server | Client | str,
        model: str,
        tokenizer: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Side:
        """Find out that it can be measured; raises BenchError."""
        own: Client | None = server if isinstance(server, Client) else getattr(server, "client", None)
        if own is None and not isinstance(server, str):
            raise BenchError(f"{server!r} is no server.", "Give what serve() returned, or a URL.")
        if own is None or headers:
            try:
                sent = {**(own.headers if own else {}), **(headers or {})}
                own = Client(own.url if own else str(server), headers=sent)
            except TritonlabError as error:
                raise BenchError(error.what, error.fix) from None
        request.require_ready(own, model)
        return cls(own, model, request.tokenizer_of(own, model, tokenizer))


def settings(
    concurrency: int | Sequence[int],
    prompt_tokens: int,
    output_tokens: int,
    requests: int | None,
    rounds: int,
    seed: int | None,
    timeout: float,
) -> load.Settings:
    """The load, checked; raises BenchError."""
    at_once = (concurrency,) if isinstance(concurrency, int) else tuple(concurrency)
    numbers: dict[str, tuple[int, ...]] = {
        "prompt_tokens": (prompt_tokens,),
        "output_tokens": (output_tokens,),
        "rounds": (rounds,),
        "concurrency": at_once,
        "requests": () if requests is None else (requests,),
    }
    for what, values in numbers.items():
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BenchError(f"{what} is {value!r}.", "Give a whole number, 1 or more.")
    if not at_once or len(set(at_once)) < len(at_once) or max(at_once) > MOST:
        raise BenchError(
            f"concurrency is {list(at_once)}.", f"Give different numbers from 1 to {MOST}, such as (1, 4, 16)."
        )
    if output_tokens < 2:
        raise BenchError("output_tokens is 1.", "Ask for 2 or more: one token has no time between tokens.")
    if not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
        raise BenchError(f"timeout is {timeout!r}.", "Give seconds, more than 0.")
    least, each = REQUESTS
    counts = tuple(requests or max(least, each * number) for number in at_once)
    if requests is not None and requests < max(at_once):
        raise BenchError(
            f"{requests} requests cannot be under way {max(at_once)} at once.",
            f"Give {max(at_once)} requests or more, or a lower concurrency.",
        )
    return load.Settings(
        at_once,
        counts,
        tuple(max(2, number) for number in at_once),
        prompt_tokens,
        output_tokens,
        secrets.randbelow(2**31) if seed is None else int(seed),
        float(timeout),
    )


def measure(
    sides: Mapping[str, Side], plan: load.Settings, rounds: int, progress: Progress | None
) -> dict[str, Benchmark]:
    """Measure each side in turn, round after round.

    Raises:
        BenchError: of one side no request was answered, or AIPerf failed.
    """
    from dataclasses import replace

    from tritonlab.progress_bar import Progress as Bar

    if progress is None:
        with Bar() as bar:
            return measure(sides, plan, rounds, bar)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    found: dict[str, list[Answer]] = {name: [] for name in sides}
    plans: dict[str, load.Settings] = {}
    for turn in range(rounds):
        for at, (name, side) in enumerate(sides.items()):
            # Other prompts each time: two models may share one engine, and with it a prefix cache.
            plans[name] = replace(plan, seed=(plan.seed + turn * len(sides) + at) % 2**31)
            label = f"{name}, round {turn + 1} of {rounds}" if rounds > 1 else name
            found[name] += load.run(side.client, side.model, side.tokenizer, plans[name], turn, progress, label)
    for name, answers in found.items():
        if all(answer.kind for answer in answers):
            raise BenchError(
                f"Nothing was answered by {name}. {table.told(answers)}",
                "The reason is in those messages or in the server's log; ask the model once with `tritonlab ask`.",
            )
    where = machine.here()
    return {
        name: Benchmark(
            name=name,
            model=side.model,
            url=side.client.url,
            answers=tuple(found[name]),
            settings={**plans[name].as_dict(), "seed": plan.seed, "rounds": rounds, "tokenizer": side.tokenizer},
            versions=machine.versions(side.client),
            machine=where,
            date=date,
            commandline=_commandline(side, plans[name]),
        )
        for name, side in sides.items()
    }


def _commandline(side: Side, plan: load.Settings) -> dict[str, Any]:
    written, _ = load.configuration(side.client, side.model, side.tokenizer, plan, Path())
    return {
        "command": ["aiperf", "profile", "--config", "load.json"],
        "load.json": written,
        "template.jinja": request.template(side.client, side.model, plan.output_tokens, plan.seed),
    }


def about(versions: Mapping[str, str], where: Mapping[str, Any], date: str) -> str:
    """Versions, machine and date on one line."""
    parts = [", ".join(f"{name} {version}" for name, version in versions.items() if version)]
    parts += [f"{where.get('cpu')}, {where.get('cores')} cores", ", ".join(where.get("gpus", ())) or "no GPU", date]
    return "; ".join(parts)


def as_html(trouble: str, title: str, shown: pd.DataFrame, note: str, more: Iterable[str] = ()) -> str:
    """Errors first, then a table and what it is of."""
    alarm = ""
    if trouble:
        alarm = f"<pre style='border-left:4px solid #c0392b;padding-left:.6em'><b>{html.escape(trouble)}</b></pre>"
    cells = shown.to_html(index=False, border=0)
    small = "<br>".join(html.escape(line) for line in note.splitlines())
    return f"{alarm}<div><b>{html.escape(title)}</b></div>{cells}{''.join(more)}<small>{small}</small>"


def write(path: Path, record: Mapping[str, Any]) -> Path:
    """Write a record whole, or raise BenchError."""
    from tritonlab.files import write_whole

    try:
        write_whole(path, (json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise BenchError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from None
    return path


def read(path: Path) -> Any:
    """What a record's file holds, or raise BenchError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise BenchError(f"{path} is no record: it is no JSON.", "Give a file that `save` wrote.") from None


def _plain(value: Any) -> Any:
    """A cell for JSON: NaN is none."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
