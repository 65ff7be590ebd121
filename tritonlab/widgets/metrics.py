"""Live metrics: requests, tokens, times and memory, from the server's metrics page, again every second."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tritonlab.errors import ClientError
from tritonlab.metrics import Figures
from tritonlab.widgets.panel import Kind, Panel, plain_table, status, table, text

if TYPE_CHECKING:
    from tritonlab.client import Client

KEPT = 60
HEADINGS = ("figure", "value")
WIDTH, HEIGHT = 300, 48


class LiveMetrics(Panel):
    """The figures of a server while it works. They are renewed until Stop, or until the server has gone.

    Args:
        client: a server's client.
        every: seconds between two looks.
    """

    def __init__(self, client: Client, *, every: float = 1.0) -> None:
        self._client, self._every = client, every
        self._figures: Figures | None = None
        self._rates: deque[float] = deque(maxlen=KEPT)
        self._looked = 0.0
        self._said, self._kind = "", ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._state, self._chart, self._table = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._start = widgets.Button(description="Start", tooltip="Look at the metrics again, every second")
        self._stop = widgets.Button(description="Stop", tooltip="Look at the metrics no more")
        self._start.on_click(lambda _: self.start())
        self._stop.on_click(lambda _: self.stop())
        super().__init__(widgets.HBox([self._start, self._stop]), self._state, self._chart, self._table)
        self.start()

    def start(self) -> None:
        """Look now, and then again and again in the background; harmless when it does already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._ended.clear()
        self._rates.clear()
        self._figures = None
        self._table.value = self._chart.value = ""
        if self._look():
            self._thread = threading.Thread(target=self._follow, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look no more; the last figures stay. Harmless when called again."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._tell(f"{self._address()}: stopped. The figures are the last that were seen.")

    def plain(self) -> str:
        rows = self._rows()
        return f"{self._said}\n{plain_table(rows, HEADINGS)}" if rows else self._said

    def _follow(self) -> None:
        while not self._ended.wait(self._every) and self._look():
            pass

    def _look(self) -> bool:
        """Look once; False when there is nothing to look at."""
        try:
            now = Figures.of(self._client.metrics())
        except ClientError as error:
            gone = "no more: the figures are the last that were seen." if self._figures else "none."
            self._tell(f"{self._address()}: {gone}\n{error}", "warning" if self._figures else "bad")
            return False
        looked = time.monotonic()
        before, self._figures = self._figures, now
        if before and before.generated_tokens is not None and now.generated_tokens is not None:
            # A model that is loaded anew counts from 0 again.
            made = max(0.0, now.generated_tokens - before.generated_tokens)
            self._rates.append(made / (looked - self._looked))
        self._looked = looked
        self._tell(f"{self._address()}: looked at every {self._every:g} s.", "good")
        self._table.value = table(self._rows(), HEADINGS)
        self._chart.value = sparkline(list(self._rates), "tokens per second") if self._rates else ""
        return True

    def _rows(self) -> list[tuple[str, str]]:
        if self._figures is None:
            return []
        rate = [("tokens per second, now", f"{self._rates[-1]:.0f}")] if self._rates else []
        return [*self._figures.told(), *rate]

    def _address(self) -> str:
        return f"Metrics of {self._client.url}"

    def _tell(self, said: str, kind: Kind = "") -> None:
        self._said = said
        self._state.value = status(said, kind)


def sparkline(values: list[float], name: str) -> str:
    """SVG of values over time, with the last and the highest in words."""
    most = max(values)
    step = WIDTH / (KEPT - 1)
    points = " ".join(
        f"{WIDTH - (len(values) - 1 - i) * step:.1f},{HEIGHT - 2 - value / (most or 1) * (HEIGHT - 4):.1f}"
        for i, value in enumerate(values)
    )
    said = f"{name}: now {values[-1]:.0f}, at most {most:.0f} in the last {len(values)} looks"
    return (
        f'<div style="display: flex; flex-wrap: wrap; align-items: center; gap: 12px">'
        f'<svg role="img" aria-label="{text(said)}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'style="border-bottom: 1px solid var(--jp-border-color1, #777)">'
        f'<polyline points="{points}" fill="none" stroke="var(--jp-brand-color1, #1976d2)" stroke-width="2"/></svg>'
        f"<span>{text(said)}</span></div>"
    )
