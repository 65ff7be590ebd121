"""How far a long step is: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
from typing import Self


class Progress:
    """A rich bar on a terminal, one line a step elsewhere; `quiet` leaves the lines out, where programs read them."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._is_quiet = quiet

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        # The clock shows that a step which cannot say how far it is, such as unpacking, still works.
        told = TextColumn("{task.description}", markup=False)
        columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), told)
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("", total=1.0)
        self._step = ""
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, sentence: str, fraction: float) -> None:
        self._bar.start()  # only now: what is done at once needs no bar
        step = sentence.split(":")[0]
        if self._bar.disable and not self._is_quiet and step != self._step:
            print(step, flush=True)
        self._step = step
        self._bar.update(self._task, description=sentence, completed=fraction)
