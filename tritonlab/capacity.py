"""How many GPUs, and what a token costs: from users, lengths and a latency target to replicas, step by step.

    model = model_shape("meta-llama/Llama-3.1-8B")
    plan = plan_capacity(
        model.shape, users=500, prompt_tokens=1000, output_tokens=300, ttft=0.5, itl=0.05,
        gpu_memory=80 * GIB, throughput=Throughput(2000, 64, "assumed"), price_per_hour=2.5,
    )
    plan.replicas, plan.cost_per_million, plan.limit
    little(row)     # Little's law against a row of a measured run

Memory says how many requests a GPU can hold. It says nothing of speed: how many tokens a second a replica makes has to
be measured at your lengths, and a plan without such a figure says that it is one of memory alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonlab.errors import RepositoryError, TritonlabError
from tritonlab.memory import GIB, fit_tensorrt_llm, fit_vllm, kv_bytes
from tritonlab.vllm import ModelShape

if TYPE_CHECKING:
    import pandas as pd

LITTLE = "Little 1961, Operations Research 9(3)"
PAGED = "Kwon et al. 2023, PagedAttention, arXiv 2309.06180"
QUEUES = "Kleinrock 1975, Queueing Systems 1: M/M/1"
YOURS, CHOSEN, ARITHMETIC, MEMORY = "yours", "your choice", "arithmetic", "tritonlab.memory"
LEAST, MOST = 1e-6, 1e12  # of any quantity that is asked for: beyond them is a slip of the keyboard
NEEDED = ("requests_per_s", "latency_ms_mean", "in_flight_mean")


class Model(NamedTuple):
    """A model for which to plan; `max_positions` is the longest text that it was made for, 0 if that is not known."""

    name: str
    shape: ModelShape
    max_positions: int


class Row(NamedTuple):
    """A step of a plan."""

    quantity: str
    value: float
    unit: str
    formula: str
    source: str


@dataclass(frozen=True)
class Throughput:
    """What one replica does: output tokens a second, with so many requests in flight.

    Measure it at your lengths of prompts and answers: both change it. `source` says where the figure is from.
    """

    output_tokens_per_s: float
    concurrency: float
    source: str = "assumed"

    @classmethod
    def of(cls, row: Mapping[str, Any], source: str = "measured") -> Throughput:
        """The throughput in a row of a `Benchmark`'s frame.

        Raises:
            TritonlabError: the row lacks a column.
        """
        columns = _columns(row, ("output_tokens_per_s", "concurrency"))
        return cls(columns["output_tokens_per_s"], columns["concurrency"], source)


@dataclass(frozen=True)
class CapacityPlan:
    """What a load takes, and each step to it.

    Attributes:
        rows: the steps, in order.
        concurrency: requests in flight, on average, while the latency target is just met.
        concurrency_per_replica: requests that a replica's KV cache holds at their full length.
        replicas, gpus: how many, and GPUs in all.
        limit: what decides their number: "memory" or "throughput".
        cost_per_million: per million output tokens at this load, in the currency of the price; None without a price.
        warnings: what speaks against the plan, as sentences.
    """

    rows: tuple[Row, ...]
    concurrency: float
    concurrency_per_replica: int
    replicas: int
    gpus: int
    limit: str
    cost_per_million: float | None
    warnings: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The steps as a table: quantity, value, unit, formula, source."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def __getitem__(self, quantity: str) -> float:
        """The value of a step, by its name."""
        return next(row.value for row in self.rows if row.quantity == quantity)

    @property
    def verdict(self) -> str:
        """The plan as a sentence."""
        replicas = f"{self.replicas:,} {'replica' if self.replicas == 1 else 'replicas'}"
        gpus = f"{self.gpus:,} {'GPU' if self.gpus == 1 else 'GPUs'}"
        cost = "" if self.cost_per_million is None else f", {_text(self.cost_per_million)} per million output tokens"
        return f"{replicas} on {gpus}, decided by {self.limit}{cost}."

    def as_dict(self) -> dict[str, Any]:
        """The plan for programs."""
        names = ("concurrency", "concurrency_per_replica", "replicas", "gpus", "limit", "cost_per_million", "warnings")
        return {**{name: getattr(self, name) for name in names}, "rows": [row._asdict() for row in self.rows]}

    def __repr__(self) -> str:
        values = [_text(row.value) for row in self.rows]
        widths = (
            max(len(row.quantity) for row in self.rows),
            max(map(len, values)),
            max(len(r.unit) for r in self.rows),
        )
        lines = [
            f"{row.quantity:{widths[0]}}  {value:>{widths[1]}} {row.unit:{widths[2]}}  {row.formula}  [{row.source}]"
            for row, value in zip(self.rows, values, strict=True)
        ]
        return "\n".join([*lines, self.verdict, *(f"Mind: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        heads = "".join(f"<th style='text-align:left'>{name}</th>" for name in Row._fields)
        rows = "".join(
            "<tr>" + "".join(
                f"<td style='text-align:{'right' if at == 1 else 'left'}'>{html.escape(text)}</td>"
                for at, text in enumerate((row.quantity, _text(row.value), *row[2:]))
            ) + "</tr>"
            for row in self.rows
        )  # fmt: skip
        said = "".join(f"<p>{html.escape(text)}</p>" for text in (self.verdict, *(f"Mind: {w}" for w in self.warnings)))
        return f"<table><thead><tr>{heads}</tr></thead>{rows}</table>{said}"


def plan_capacity(
    shape: ModelShape,
    *,
    users: float,
    prompt_tokens: int,
    output_tokens: int,
    ttft: float,
    itl: float,
    gpu_memory: int,
    requests_per_user_minute: float = 1.0,
    throughput: Throughput | None = None,
    price_per_hour: float | None = None,
    utilization: float = 0.7,
    gpus_per_replica: int = 1,
    backend: str = "vllm",
    weights: str = "bfloat16",
    kv_cache: str = "bfloat16",
    max_positions: int = 0,
) -> CapacityPlan:
    """How many replicas and GPUs a load takes, and what a million output tokens cost.

    Args:
        shape: the model's; `model_shape` reads one.
        users: people who are at it at the same time, at the busiest.
        prompt_tokens, output_tokens: of a request, on average; with them the model's whole context is reserved.
        ttft: seconds to the first token that you allow.
        itl: seconds from one token to the next that you allow.
        gpu_memory: bytes of one GPU.
        requests_per_user_minute: how often each of them asks.
        throughput: what one replica does at the most; without it the plan is one of memory alone.
        price_per_hour: of one GPU, in any currency.
        utilization: the share of a replica's capacity to plan for; arrivals are random, and a full server is a queue.
        gpus_per_replica: GPUs that share each layer (tensor parallelism).
        backend: "vllm" or "tensorrtllm", which split a GPU's memory differently.
        weights, kv_cache: data types, as for `fit_vllm`.
        max_positions: the longest text that the model was made for; 0 if that is not known.

    Raises:
        TritonlabError: a number makes no sense, or one request does not fit on a replica.
    """
    _check(
        {"users": users, "requests_per_user_minute": requests_per_user_minute, "ttft": ttft, "itl": itl},
        {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "gpus_per_replica": gpus_per_replica},
        utilization,
        price_per_hour,
    )
    if backend not in ("vllm", "tensorrtllm"):
        raise TritonlabError(f"There is no backend {backend!r} to plan for.", "There are vllm and tensorrtllm.")
    if throughput is not None:
        _positive("output_tokens_per_s", throughput.output_tokens_per_s)
        _positive("concurrency", throughput.concurrency)

    rate = users * requests_per_user_minute / 60
    seconds = ttft + (output_tokens - 1) * itl
    in_flight = rate * seconds
    context = prompt_tokens + output_tokens
    if max_positions and context > max_positions:
        raise TritonlabError(
            f"A request of {context:,} tokens is longer than the {max_positions:,} that the model was made for.",
            "Plan for shorter prompts or answers.",
        )
    per_token = kv_bytes(shape, kv_cache, gpus_per_replica) * gpus_per_replica
    needed = in_flight * context * per_token
    fitted = fit_vllm if backend == "vllm" else fit_tensorrt_llm
    fit = fitted(
        shape, gpu_memory, weights=weights, kv_cache=kv_cache, tensor_parallel=gpus_per_replica,
        max_positions=max_positions,
    )  # fmt: skip
    each = fit.concurrent(context)
    if each < 1:
        raise TritonlabError(
            f"Not one request of {context:,} tokens fits on a replica. {fit.answer(context, 1).text}",
            "Take a GPU with more memory, more GPUs for a replica, or weights and KV cache of fewer bits.",
        )
    by_memory = _whole(in_flight / (utilization * each))
    demand = rate * output_tokens
    rows = [
        Row("arrival rate", rate, "requests/s", "users × requests per user-minute / 60", YOURS),
        Row("time in the system", seconds, "s", "TTFT + (output tokens − 1) × ITL, as you allow", YOURS),
        Row("requests in flight", in_flight, "requests", "L = λ W", LITTLE),
        Row("context of a request", context, "tokens", "prompt + output tokens: its length at the end", YOURS),
        Row("KV cache per token", per_token, "bytes", "2 × layers × KV heads × head size × bytes", PAGED),
        Row("KV cache in use", needed / GIB, "GiB", "requests in flight × context × bytes per token", PAGED),
        Row(
            "weights per GPU", fit.weights / GIB, "GiB", f"parameters × bits / 8 / GPUs per replica, {weights}", MEMORY
        ),
        Row("KV cache that fits", fit.tokens * per_token / GIB, "GiB/replica", "what the rest leaves", MEMORY),
        Row("requests that fit", each, "requests/replica", "KV cache that fits / context, in whole blocks", PAGED),
        Row("utilization", utilization, "", "the share of the capacity to plan for", CHOSEN),
        Row("replicas by memory", by_memory, "", "⌈L / (utilization × requests that fit)⌉", ARITHMETIC),
        Row("tokens to make", demand, "tokens/s", "arrival rate × output tokens", YOURS),
    ]
    replicas, limit = by_memory, "memory"
    warnings = ["this is a plan of memory alone: no throughput of a replica was given, and it may need more."]
    if throughput is not None:
        by_speed = _whole(demand / (utilization * throughput.output_tokens_per_s))
        replicas = max(by_memory, by_speed)
        limit = "memory" if by_memory > by_speed else "throughput" if by_speed > by_memory else "memory and throughput"
        rows += _speed(throughput, demand, by_speed, replicas)
        warnings = _doubts(throughput, itl, each)
    gpus = replicas * gpus_per_replica
    rows.append(Row("replicas", replicas, "", f"the larger: {limit}", ARITHMETIC))
    rows.append(Row("GPUs", gpus, "", "replicas × GPUs per replica", ARITHMETIC))
    cost = None
    if price_per_hour is not None:
        hourly = gpus * price_per_hour
        cost = hourly / (demand * 3600) * 1e6
        both = hourly / (rate * context * 3600) * 1e6
        rows += [
            Row("price", hourly, "per hour", "GPUs × price of one", YOURS),
            Row("cost per million output tokens", cost, "", "price / output tokens in an hour × 10⁶", ARITHMETIC),
            Row("cost per million tokens", both, "", "the same, prompts counted too", ARITHMETIC),
        ]
    return CapacityPlan(tuple(rows), in_flight, each, replicas, gpus, limit, cost, tuple(warnings))


def _speed(throughput: Throughput, demand: float, by_speed: int, replicas: int) -> list[Row]:
    most, at = throughput.output_tokens_per_s, f"at {throughput.concurrency:g} in flight"
    load = demand / (replicas * most)
    return [
        Row("throughput of a replica", most, "tokens/s", at, throughput.source),
        Row("replicas by throughput", by_speed, "", "⌈tokens to make / (utilization × throughput)⌉", ARITHMETIC),
        Row("load of a replica", load, "", "tokens to make / (replicas × throughput)", ARITHMETIC),
        Row("slower by random arrivals", 1 / (1 - load), "times", "1 / (1 − load), roughly", QUEUES),
        Row("time per token, full", _pace(throughput), "s", "requests in flight / throughput", LITTLE),
    ]


def _doubts(throughput: Throughput, itl: float, each: int) -> list[str]:
    at, found = f"{throughput.concurrency:g} in flight", []
    if _pace(throughput) > itl:
        found.append(
            f"with {at} a token takes {_pace(throughput):.3g} s, and you allow {itl:g}: "
            "measure with fewer in flight, and plan with that."
        )
    if throughput.concurrency > each:
        found.append(f"the throughput is one with {at}, and only {each:,} fit at your lengths.")
    return found


def _pace(throughput: Throughput) -> float:
    """Seconds from a request's token to its next, prefill included: Little's law, L = requests and λ = tokens."""
    return throughput.concurrency / throughput.output_tokens_per_s


@dataclass(frozen=True)
class Little:
    """Little's law on a measured run: L requests in flight, λ arrivals a second, W seconds in the system.

    `ratio` is L / (λ W): 1 when the law holds. It holds for any order of service and any arrivals, but over a run that
    began and ended empty and lost nothing: failed requests are in L and not in λ.
    """

    in_flight: float
    arrival_rate: float
    seconds: float

    @property
    def product(self) -> float:
        """λ W: what the law says is in flight."""
        return self.arrival_rate * self.seconds

    @property
    def ratio(self) -> float:
        """L / (λ W)."""
        return self.in_flight / self.product

    def as_dict(self) -> dict[str, float]:
        """A row for a table."""
        return {
            "arrival rate λ, 1/s": self.arrival_rate, "time W, s": self.seconds, "λ W": self.product,
            "in flight L": self.in_flight, "L / λ W": self.ratio,
        }  # fmt: skip

    def __repr__(self) -> str:
        law = f"{self.arrival_rate:.2f} requests/s × {self.seconds:.3f} s = {self.product:.2f}"
        return f"λ W = {law} in flight; counted: {self.in_flight:.2f}; ratio {self.ratio:.3f}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>"


def little(row: Mapping[str, Any]) -> Little:
    """Little's law against a row of a `Benchmark`'s frame, of which it takes requests_per_s, latency_ms_mean and
    in_flight_mean (Little 1961, Operations Research 9(3), 383-387).

    Raises:
        TritonlabError: the row lacks one of them, or has no request that succeeded.
    """
    found = _columns(row, NEEDED)
    return Little(found["in_flight_mean"], found["requests_per_s"], found["latency_ms_mean"] / 1000)


def model_shape(model: str | Path) -> Model:
    """The shape of a model: a folder with config.json, that file, or a model known here, e.g. "Llama-3.1-8B".

    Raises:
        RepositoryError: it is none of these, or config.json is not one of a Llama-like model.
    """
    import json

    from tritonlab.trtllm import shapes

    path = Path(model)
    file = path / "config.json" if path.is_dir() else path
    known = shapes()
    short = [name for name in known if str(model).lower() in (name.lower(), name.rpartition("/")[2].lower())]
    if short:
        name, text = short[0], json.dumps(known[short[0]])
    elif file.is_file():
        name = file.parent.resolve().name if file.name == "config.json" else file.stem
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RepositoryError(f"{file} cannot be read: {error}.") from None
    else:
        raise RepositoryError(
            f"There is no model {str(model)!r}: no folder with a config.json, and none of those known here.",
            f"Give a folder, or one of {', '.join(known)}.",
        )
    shape = ModelShape.parse(text)
    positions = json.loads(text).get("max_position_embeddings")
    return Model(name, shape, positions if isinstance(positions, int) and positions > 0 else 0)


def _columns(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for name in names:
        try:
            found[name] = float(row[name])
        except (KeyError, IndexError, TypeError, ValueError):
            raise TritonlabError(
                f"This is no row of a measured run: it has no number {name!r}.",
                'Take one of its table, e.g. benchmark.frame.to_dict("records")[0].',
            ) from None
        _positive(name, found[name])
    return found


def _check(
    numbers: Mapping[str, float], whole: Mapping[str, int], utilization: float, price_per_hour: float | None
) -> None:
    for name, value in numbers.items():
        _positive(name, value)
    for name, value in whole.items():
        _positive(name, value, whole=True)
    if not 0.01 <= utilization < 1:
        raise TritonlabError(
            f"A utilization of {utilization} cannot be planned for.", "Give a number between 0.01 and 1, e.g. 0.7."
        )
    if price_per_hour is not None and not 0 <= price_per_hour <= MOST:
        raise TritonlabError(f"A price of {price_per_hour} is none.", "Give what one GPU costs in an hour, e.g. 2.5.")


def _positive(name: str, value: float, whole: bool = False) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not LEAST <= value <= MOST or (whole and value != int(value)):
        kind = "a whole number above 0" if whole else "a number above 0"
        raise TritonlabError(f"{name} is {value!r} and has to be {kind}.")


def _whole(replicas: float) -> int:
    """Up to the next whole number, of which there is at least one; the dust of floating point makes no replica."""
    return max(1, math.ceil(round(replicas, 9)))


def _text(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
