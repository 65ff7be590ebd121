"""`compare`: two models or servers, measured in turn in one run, and their ratios."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.bench import figures, table
from tritonlab.bench.benchmark import Benchmark, Side, about, as_html, measure, read, settings, write
from tritonlab.engine import Progress
from tritonlab.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tritonlab.client import Client
    from tritonlab.servers import Server

RATIOS = ("output_tokens_per_s", "requests_per_s", "ttft_ms_p50", "ttft_ms_p99", "itl_ms_p50", "latency_ms_p50")
SAME = ("prompt_tokens", "output_tokens")


@dataclass(frozen=True)
class Comparison:
    """Benchmarks side by side; the first is what the others are held against.

    Attributes:
        benchmarks: label -> benchmark.
        in_turn: whether they were measured in one run, round after round, or apart.
    """

    benchmarks: dict[str, Benchmark]
    in_turn: bool = True

    @property
    def frame(self) -> pd.DataFrame:
        """Every row of every benchmark, under its label."""
        return self._together({label: benchmark.frame for label, benchmark in self.benchmarks.items()})

    @property
    def ratios(self) -> pd.DataFrame:
        """Each label's figures over those of the first: above 1 is better for rates and worse for times.

        A row for each label but the first and each concurrency that both have; `errors` are those of both.
        """
        import pandas as pd

        first, *others = self.benchmarks
        base = self.benchmarks[first].frame.set_index("concurrency")
        rows: list[dict[str, Any]] = []
        for label in others:
            own = self.benchmarks[label].frame.set_index("concurrency")
            for concurrency in own.index.intersection(base.index):
                row: dict[str, Any] = {"label": f"{label} / {first}", "concurrency": int(concurrency)}
                row["errors"] = int(own.loc[concurrency, "errors"]) + int(base.loc[concurrency, "errors"])
                row |= {name: own.loc[concurrency, name] / base.loc[concurrency, name] for name in RATIOS}
                rows.append(row)
        return pd.DataFrame(rows, columns=["label", "concurrency", "errors", *RATIOS])

    @property
    def errors(self) -> pd.DataFrame:
        """The errors of all, under their labels."""
        return self._together({label: benchmark.errors for label, benchmark in self.benchmarks.items()})

    @staticmethod
    def _together(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        import pandas as pd

        for label, rows in frames.items():
            rows.insert(0, "label", label)
        return pd.concat(frames.values(), ignore_index=True)

    def figure(self) -> Figure:
        """Throughput against latency, a line for each."""
        return figures.throughput({label: benchmark.frame for label, benchmark in self.benchmarks.items()})

    def record(self) -> dict[str, Any]:
        """All of it for programs."""
        whole = {label: benchmark.record() for label, benchmark in self.benchmarks.items()}
        ratios = self.ratios.astype(object).where(self.ratios.notna(), None).to_dict(orient="records")
        return {"in_turn": self.in_turn, "ratios": ratios, "benchmarks": whole}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON; raises BenchError."""
        return write(Path(path), self.record())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read a record; raises BenchError when it cannot be read, or is none."""
        record = read(Path(path))
        try:
            whole = {label: Benchmark.of(one) for label, one in record["benchmarks"].items()}
            return cls(whole, bool(record["in_turn"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BenchError(f"{path} is no record of a comparison.", "Give a file that `save` wrote.") from None

    def __repr__(self) -> str:
        parts = [
            self._trouble(),
            self._title(),
            table.shown(self.frame).to_string(index=False),
            "ratios",
            self._shown_ratios().to_string(index=False),
            self._note(),
        ]
        return "\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        ratios = f"<div><b>ratios</b></div>{self._shown_ratios().to_html(index=False, border=0)}"
        return as_html(self._trouble(), self._title(), table.shown(self.frame), self._note(), [ratios])

    def _trouble(self) -> str:
        told = {label: table.told(benchmark.answers) for label, benchmark in self.benchmarks.items()}
        return "\n".join(f"{label}: {text}" for label, text in told.items() if text)

    def _title(self) -> str:
        return f"{' against '.join(self.benchmarks)}, {'in turn, in one run' if self.in_turn else 'measured apart'}"

    def _shown_ratios(self) -> pd.DataFrame:
        ratios = self.ratios
        marks = ["*" if errors else "" for errors in ratios.errors]
        for name in RATIOS:
            ratios[name] = [f"{value:.2f}{mark}" for value, mark in zip(ratios[name], marks, strict=True)]
        names = {**table.SHOWN, "concurrency": "at once"}
        return ratios.rename(columns={name: names.get(name, name) for name in ratios.columns})

    def _note(self) -> str:
        first = next(iter(self.benchmarks.values()))
        lines = [table.NOTE]
        for name in SAME:
            values = {benchmark.settings[name] for benchmark in self.benchmarks.values()}
            lines += [f"Their {name} differ: {sorted(values)}."] if len(values) > 1 else []
        if not self.in_turn:
            lines.append("Measured apart: what else the machine did then is in the ratios too.")
        return "\n".join([*lines, about(first.versions, first.machine, first.date)])


def compare(
    sides: Mapping[str, tuple[Server | Client | str, str]],
    *,
    concurrency: int | Sequence[int] = (1, 4, 16),
    prompt_tokens: int = 128,
    output_tokens: int = 64,
    requests: int | None = None,
    rounds: int = 1,
    tokenizer: str | None = None,
    headers: Mapping[str, str] | None = None,
    seed: int | None = None,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> Comparison:
    """Measure two models or more in turn, round after round, so that what else a machine does hits each alike.

    Args:
        sides: label -> (server or address, model); the first is what the others are held against.
        concurrency, prompt_tokens, output_tokens, requests, rounds, tokenizer, seed, timeout, progress: as for
            `bench`, and the same for each side.
        headers: sent to the first side's address alone, since they may be secrets; for a server elsewhere give a
            `Client` with headers of its own.

    Raises:
        BenchError: fewer than two sides, or as `bench` does.
    """
    if len(sides) < 2:
        raise BenchError("One side alone cannot be compared.", 'Give two: {"label": (server, "model"), ...}.')
    plan = settings(concurrency, prompt_tokens, output_tokens, requests, rounds, seed, timeout)
    address = _address(next(iter(sides.values()))[0])
    found = {
        label: Side.of(server, model, tokenizer, headers if _address(server) == address else None)
        for label, (server, model) in sides.items()
    }
    return Comparison(measure(found, plan, rounds, progress))


def _address(server: Server | Client | str) -> str:
    return str(getattr(server, "url", server)).rstrip("/")
