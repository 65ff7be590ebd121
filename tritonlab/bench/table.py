"""From answers to figures: one row a concurrency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tritonlab.bench.exports import Answer

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "concurrency", "requests", "errors", "requests_per_s", "output_tokens_per_s",
    "ttft_ms_p50", "ttft_ms_p90", "ttft_ms_p99", "itl_ms_p50", "itl_ms_p90", "itl_ms_p99",
    "latency_ms_mean", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99",
    "in_flight_mean", "input_tokens_mean", "output_tokens_mean",
)  # fmt: skip
QUANTILES = (50, 90, 99)
SHOWN = {
    "concurrency": "at once", "requests": "requests", "errors": "errors", "output_tokens_per_s": "tokens/s",
    "requests_per_s": "requests/s", "ttft_ms_p50": "TTFT p50", "ttft_ms_p99": "TTFT p99", "itl_ms_p50": "ITL p50",
    "itl_ms_p99": "ITL p99", "latency_ms_p50": "latency p50", "latency_ms_p99": "latency p99",
}  # fmt: skip
"""What is shown of a frame, and under which name; times are in milliseconds."""
NOTE = (
    "TTFT: time to first token, ITL: mean time between tokens of a request, both and latency in ms; "
    "p50, p99: percentiles over the requests that were answered."
)


def frame(answers: Sequence[Answer]) -> pd.DataFrame:
    """A row for each concurrency, the rounds taken together.

    Rates are what was answered in the time from a round's first request to its last byte. Percentiles are over the
    requests that were answered. in_flight_mean is the time that all requests took, over the time that passed: the mean
    number under way.
    """
    import pandas as pd

    rows = []
    for concurrency in dict.fromkeys(answer.concurrency for answer in answers):
        rows.append(_row(concurrency, [answer for answer in answers if answer.concurrency == concurrency]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def errors(answers: Sequence[Answer]) -> pd.DataFrame:
    """The errors by concurrency, kind and message, each with its count."""
    import pandas as pd

    counts = Counter((answer.concurrency, answer.kind, answer.message) for answer in answers if answer.kind)
    rows = [(*key, count) for key, count in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["concurrency", "kind", "message", "count"])


def told(answers: Sequence[Answer]) -> str:
    """The errors as sentences, or nothing."""
    counts = Counter((answer.kind, answer.message) for answer in answers if answer.kind)
    if not counts:
        return ""
    rest = "." if counts.total() == len(answers) else "; the figures marked * are of the others alone."
    lines = [f"{counts.total()} of {len(answers)} requests FAILED{rest}"]
    lines += [f"  {count} x {kind}: {message}" for (kind, message), count in counts.most_common()]
    return "\n".join(lines)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that fit a screen; the rate of a row with errors carries a mark."""
    import pandas as pd

    def text(column: str, value: Any, has_errors: bool) -> str:
        if pd.isna(value):
            return "-"
        if column in ("concurrency", "requests", "errors") or isinstance(value, str):
            return str(value)
        mark = "*" if has_errors else ""
        return f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f}{mark}"

    names = [name for name in table.columns if name in SHOWN or name == "label"]
    cells = [[text(name, row[name], bool(row["errors"])) for name in names] for row in table.to_dict(orient="records")]
    return pd.DataFrame(cells, columns=[SHOWN.get(name, name) for name in names])


def _row(concurrency: int, answers: list[Answer]) -> dict[str, Any]:
    good = [answer for answer in answers if not answer.kind]
    # Between two rounds another model was measured, or nothing.
    seconds = 0.0
    for turn in {answer.round for answer in answers}:
        of_it = [answer for answer in answers if answer.round == turn]
        seconds += max(answer.end for answer in of_it) - min(answer.start for answer in of_it)
    busy = sum(answer.end - answer.start for answer in answers)
    tokens = [answer.output_tokens for answer in good if answer.output_tokens is not None]
    latencies = [answer.latency_ms for answer in good]
    row: dict[str, Any] = {
        "concurrency": concurrency,
        "requests": len(answers),
        "errors": len(answers) - len(good),
        "requests_per_s": len(good) / seconds if seconds else None,
        "output_tokens_per_s": sum(tokens) / seconds if seconds and tokens else None,
        "latency_ms_mean": _mean(latencies),
        "in_flight_mean": busy / seconds if seconds else None,
        "input_tokens_mean": _mean([answer.input_tokens for answer in good]),
        "output_tokens_mean": _mean(tokens),
    }
    for name, values in (
        ("ttft_ms", [answer.ttft_ms for answer in good]),
        ("itl_ms", [answer.itl_ms for answer in good]),
        ("latency_ms", latencies),
    ):
        row |= {f"{name}_p{q}": _quantile(values, q) for q in QUANTILES}
    return {name: float("nan") if row[name] is None else row[name] for name in COLUMNS}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _quantile(values: Sequence[float | None], percent: int) -> float | None:
    import numpy as np

    known = [value for value in values if value is not None]
    return float(np.percentile(known, percent)) if known else None
