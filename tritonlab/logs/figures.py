"""What a report shows as a picture: where the time went, and where the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tritonlab.logs.stages import MEMORY, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIB = 2**30
COLORS = {"reached": "#3b82c4", "running": "#e0a030", "failed": "#c0392b"}
ON_THE_GPU = ("weights", "activations", "non_torch", "kv_cache", "cuda_graphs")
"""What fills the memory that vLLM may take, from the first to the last."""
LIMITS = (("gpu_memory_usable", "vLLM may take"), ("gpu_memory_total", "the GPU has"))


def timeline(stages: Sequence[Stage], verdict: str) -> Figure:
    """A bar per stage, at its time and as long as it took; a stage without a time has no bar."""
    timed = [(stage, stage.start, stage.seconds or 0.0) for stage in stages if stage.start]
    first = min((start for _, start, _ in timed), default=None)
    figure, axes = _bars(len(timed))
    for row, (stage, start, seconds) in enumerate(timed):
        left = (start - first).total_seconds() if first else 0.0
        axes.barh(row, seconds, left=left, color=COLORS[stage.status], height=0.6, linewidth=1.5,
                  edgecolor=COLORS[stage.status])  # fmt: skip
        _note(axes, f"{seconds:.2f} s", left + seconds, row)
    axes.set_yticks(range(len(timed)), [stage.name for stage, _, _ in timed])
    axes.set_xlabel("seconds since the first stage began")
    axes.set_title(f"Where the time went ({verdict})", loc="left")
    return figure


def memory(sizes: Mapping[str, int], facts: Mapping[str, Any]) -> Figure:
    """What lies in the GPU's memory, each use beginning where the one above it ends, and the limits beside it."""
    uses = [use for use in ON_THE_GPU if sizes.get(use, 0) > 0]
    figure, axes = _bars(len(uses))
    left = 0.0
    for row, use in enumerate(uses):
        size = sizes[use] / GIB
        axes.barh(row, size, left=left, color=COLORS["running" if use == "kv_cache" else "reached"], height=0.6)
        left += size
        _note(axes, f"{size:.2f} GiB", left, row)
    limits = [(facts[key] / GIB, what) for key, what in LIMITS if key in facts]
    for above, (limit, what) in enumerate(limits, 1):
        axes.axvline(limit, color=COLORS["failed"], linewidth=1)
        axes.annotate(f"{what} {limit:.2f}", (limit, -0.25 - 0.5 * above), (-4, 0), ha="right", va="center",
                      textcoords="offset points", fontsize="small", color=COLORS["failed"])  # fmt: skip
    axes.set_ylim(max(len(uses), 1) - 0.5, -0.5 - 0.5 * len(limits))
    axes.set_yticks(range(len(uses)), [MEMORY[use] for use in uses])
    axes.set_xlabel("GiB")
    axes.set_title("Where the memory went", loc="left")
    return figure


def _bars(rows: int) -> tuple[Figure, Axes]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.36 * max(rows, 1)), layout="constrained")
    axes.set_ylim(max(rows, 1) - 0.5, -0.75)
    axes.margins(x=0.14)
    axes.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure, axes


def _note(axes: Axes, text: str, x: float, row: int) -> None:
    axes.annotate(text, (x, row), (5, 0), textcoords="offset points", va="center")
