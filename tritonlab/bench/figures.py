"""Benchmarks as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#3b82c4", "#e0a030", "#4a9d5b", "#8e5ea2", "#7f8c8d")
ERROR = "#c0392b"
METRICS = (("ttft_ms", "time to first token"), ("itl_ms", "inter-token latency"), ("latency_ms", "latency"))


def throughput(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Tokens a second against the latency of most requests, a point for each concurrency."""
    figure, (axes,) = _axes(1, (8, 4.6))
    for at, (name, frame) in enumerate(frames.items()):
        color = COLORS[at % len(COLORS)]
        x, y = frame.latency_ms_p50.to_numpy(), frame.output_tokens_per_s.to_numpy()
        axes.plot(x, y, "o-", color=color, label=name)
        for left, high, at_once in zip(x, y, frame.concurrency, strict=True):
            axes.annotate(f"{at_once}", (left, high), (5, 5), textcoords="offset points", fontsize="small")
        bad = frame[frame.errors > 0]
        if len(bad):
            axes.plot(bad.latency_ms_p50.to_numpy(), bad.output_tokens_per_s.to_numpy(), "x", color=ERROR,
                      markersize=12, markeredgewidth=2, label=f"{name}: with errors")  # fmt: skip
    axes.set_xlabel("latency of a request, p50, ms")
    axes.set_ylabel("output tokens a second, all requests together")
    axes.set_title("Throughput against latency, by requests at once", loc="left")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False)
    return figure


def percentiles(name: str, frame: pd.DataFrame) -> Figure:
    """p50, p90 and p99 by concurrency; a concurrency with errors carries a mark."""
    figure, row = _axes(len(METRICS), (11, 3.8))
    places = range(len(frame))
    names = [
        f"{at_once}*" if errors else f"{at_once}"
        for at_once, errors in zip(frame.concurrency, frame.errors, strict=True)
    ]
    for axes, (metric, title) in zip(row, METRICS, strict=True):
        for at, percent in enumerate((50, 90, 99)):
            left = [place + 0.27 * (at - 1) for place in places]
            axes.bar(left, frame[f"{metric}_p{percent}"].to_numpy(), 0.25, color=COLORS[at], label=f"p{percent}")
        axes.set_xticks(list(places), names)
        axes.set_xlabel("requests at once")
        axes.set_title(title, loc="left", fontsize="medium")
    row[0].set_ylabel("ms")
    row[-1].legend(frameon=False)
    marked = "; * with errors: of the requests that were answered" if (frame.errors > 0).any() else ""
    figure.suptitle(f"{name}{marked}", x=0.01, ha="left")
    return figure


def _axes(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
    for axes in grid[0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.14, y=0.1)
    plt.close(figure)
    return figure, list(grid[0])
