"""Run notebooks from end to end with papermill, as the course's test and as runbooks."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonlab.errors import CourseError

# Without a limit papermill waits for a cell for ever. The slowest cell of the course takes about 30 s on two cores.
CELL_TIMEOUT_S = 600
FAULT_CHARACTERS = 1500


@dataclass(frozen=True)
class Run:
    """One executed notebook. `fault` is empty when every cell ran; `seconds` is wall time."""

    notebook: Path
    executed: Path
    html: Path
    seconds: float
    fault: str

    def __repr__(self) -> str:
        return f"{'ok    ' if not self.fault else 'FAILED'} {self.seconds:6.1f} s  {self.notebook.stem}"


def run(
    notebooks: Iterable[Path],
    runs: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    cell_timeout: int = CELL_TIMEOUT_S,
    progress: bool = False,
) -> Iterator[Run]:
    """Execute notebooks one after the other, yielding each result as it comes; a failed one does not stop the rest.

    Args:
        notebooks: paths, run in the folder that each lies in.
        runs: a folder, made if needed, for the executed copies and their HTML.
        parameters: values for the `parameters` cells; each goes to the notebooks that know it.
        cell_timeout: seconds that one cell may take.
        progress: show papermill's bar.

    Raises:
        CourseError: before anything runs, when no notebook knows a parameter.
    """
    plan = [(path, _parameters(path)) for path in notebooks]
    _refuse_unknown(parameters or {}, {name for _, known in plan for name in known})
    runs.mkdir(parents=True, exist_ok=True)
    for path, known in plan:
        mine = {name: value for name, value in (parameters or {}).items() if name in known}
        yield _execute(path, runs, mine, cell_timeout, progress)


def _parameters(path: Path) -> list[str]:
    import papermill

    return list(papermill.inspect_notebook(str(path)))


def _refuse_unknown(parameters: Mapping[str, Any], known: set[str]) -> None:
    for name in parameters:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise CourseError(
                f"No notebook to be run has a parameter {name!r}.",
                f"{hint}There are {', '.join(sorted(known))}.",
            )


def _execute(path: Path, runs: Path, parameters: Mapping[str, Any], cell_timeout: int, progress: bool) -> Run:
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    executed = runs / path.name
    html = executed.with_suffix(".html")
    for earlier in (executed, html):
        earlier.unlink(missing_ok=True)
    started = time.monotonic()
    fault = ""
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        papermill.execute_notebook(
            str(path),
            str(executed),
            dict(parameters),
            kernel_name="python3",
            cwd=str(path.parent),
            execution_timeout=cell_timeout,
            start_timeout=120,
            progress_bar=progress,
            log_output=False,
            # Cells and their outputs travel encrypted, where the kernel can.
            config=Config(KernelManager={"transport_encryption": "auto"}),
        )
    except PapermillExecutionError as error:
        fault = f"cell {error.cell_index}: {error.ename}: {error.evalue}"[:FAULT_CHARACTERS]
    except Exception as error:  # a dead kernel, a cell over its time, a notebook that cannot be read
        fault = f"{type(error).__name__}: {error}"[:FAULT_CHARACTERS]
    seconds = time.monotonic() - started
    try:
        _write_html(executed, html)
    except Exception as error:
        fault = fault or f"its HTML could not be written: {type(error).__name__}: {error}"[:FAULT_CHARACTERS]
    return Run(path, executed, html, seconds, fault)


def _write_html(executed: Path, html: Path) -> None:
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(executed))
    html.write_text(body, encoding="utf-8")
