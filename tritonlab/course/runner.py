"""Run notebooks with papermill: the whole course as its test, or the cells of a notebook that are its runbook.

Whatever ends a run, its record is left and nothing else: a signal or the time's end kills the kernel, which papermill
then finds dead; a kernel notices when this process has gone; and servers end with their kernel (see the module
`tritonlab.servers.keeper`).
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from tritonlab.course import pages
from tritonlab.course.parameters import Parameter, of, refuse_secrets
from tritonlab.course.records import Entry, Record
from tritonlab.course.runbook import LONGEST, RESULT, unknown
from tritonlab.errors import CourseError
from tritonlab.servers import leftovers
from tritonlab.variables import variables

# Without a limit papermill waits for a cell for ever. The slowest cell of the course takes about 30 s on two cores.
CELL_TIMEOUT_S = 600
TAG = "runbook"
HEADING = "## As a runbook"
MARK = "TRITONLAB_RUN"
"""A variable that every process of a run carries."""
ENDING_S = 45.0
"""How long servers may take to end by themselves."""
TIMEOUT_CODE = 124


@dataclass(frozen=True)
class Job:
    """A notebook to run: all of its cells, or those of its runbook."""

    notebook: Path
    whole: bool
    known: Mapping[str, Parameter]
    values: Mapping[str, Any]

    @property
    def entry(self) -> Entry:
        """The job as a record begins with it."""
        defaults = {name: parameter.default for name, parameter in self.known.items()}
        return Entry(self.notebook.stem, self.whole, {**defaults, **self.values})


def prepared(notebooks: Iterable[Path], given: Mapping[str, str], *, whole: bool = False) -> list[Job]:
    """Look everything over before anything starts.

    Args:
        notebooks: each is run in the folder that it lies in.
        given: values for the `parameters` cells, as texts; each goes to the notebooks that know it.
        whole: run all cells of those notebooks too that have a runbook.

    Raises:
        CourseError: no notebook knows a parameter, or a value will not do, or is a secret.
    """
    refuse_secrets(given)
    jobs = []
    lessons: set[str] = set()
    for path in notebooks:
        known = of(path)
        as_runbook = not whole and bool(used := uses(path))
        if as_runbook:
            lessons |= known.keys() - used
            known = {name: parameter for name, parameter in known.items() if name in used}
        values = {name: known[name].read(text, as_runbook=as_runbook) for name, text in given.items() if name in known}
        jobs.append(Job(path, not as_runbook, known, values))
    _refuse_unknown(given, {name for job in jobs for name in job.known}, lessons)
    return jobs


def uses(path: Path) -> set[str]:
    """The parameters that a notebook's runbook reads; none if it has no runbook."""
    text = "\n".join(cell.source for cell in pages.read(path).cells if _is_tagged(cell))
    return {name for name in of(path) if re.search(rf"\b{name}\b", text)}


def _refuse_unknown(given: Mapping[str, str], known: set[str], lessons: set[str]) -> None:
    for name in given:
        if name not in known and name in lessons:
            raise CourseError(
                f"The parameter {name!r} is for the lessons, and the runbook does not read it.",
                "Leave it out, or add --whole to run all cells.",
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise CourseError(
                f"No notebook to be run has a parameter {name!r}.",
                f"{hint}There are {', '.join(sorted(known))}.",
            )


def run(
    jobs: Iterable[Job],
    record: Record,
    *,
    timeout: float | None = None,
    cell_timeout: int = CELL_TIMEOUT_S,
    progress: bool = False,
) -> Iterator[Entry]:
    """Run notebooks one after the other, yielding each as it is done; a failed one does not stop the rest.

    The record says all the while how far it came, and has the verdict and the exit code at the end.

    Args:
        jobs: as `prepared` gives them, in the order of the record's notebooks.
        record: where all is kept.
        timeout: seconds that the whole run may take.
        cell_timeout: seconds that one cell may take.
        progress: show papermill's bar.
    """
    # Learners' progress is not kept in runs.
    with variables(**{MARK: record.id, "TRITONLAB_PROGRESS": "off"}), _Watch(record.id, timeout) as watch:
        for job, entry in zip(jobs, record.notebooks, strict=True):
            if entry.taken_from:
                yield entry
                continue
            if watch.reason:
                break
            entry.status = "running"
            record.write()
            _execute(job, entry, record, watch, cell_timeout, progress)
            record.write()
            yield entry
        watch.leave_nothing()
        record.end(watch.reason or "done", watch.exit_code)


def _execute(job: Job, entry: Entry, record: Record, watch: _Watch, cell_timeout: int, progress: bool) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    notebook = _cells(job)
    values, workspace = dict(job.values), record.folder / "workspace" / job.notebook.stem
    if "workspace_folder" in job.known and "workspace_folder" not in values:
        values["workspace_folder"] = entry.parameters["workspace_folder"] = str(workspace)
    entry.executed = job.notebook.name
    executed = record.folder / entry.executed
    kernel_log = executed.with_suffix(".kernel.log")
    started = time.monotonic()
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        papermill.execute_notebook(
            notebook,
            str(executed),
            values,
            kernel_name="python3",
            cwd=str(job.notebook.parent),
            execution_timeout=cell_timeout,
            start_timeout=120,
            progress_bar=progress,
            log_output=False,
            kernel_manager_class=_kernel_manager(kernel_log),
            # Cells and their outputs travel encrypted, where the kernel can.
            config=Config(KernelManager={"transport_encryption": "auto"}),
        )
    except PapermillExecutionError as error:
        entry.fault = f"cell {error.cell_index}: {error.ename}: {error.evalue}"[:LONGEST]
        entry.findings = [_finding(error.ename, error.evalue)]
    except Exception as error:  # a dead kernel, a cell over its time, a notebook that cannot be read
        entry.fault = f"{type(error).__name__}: {error}"[:LONGEST]
        entry.findings = [_finding(type(error).__name__, str(error))]
    watch.leave_nothing()
    _keep_kernel_log(kernel_log, entry)
    entry.seconds = round(time.monotonic() - started, 3)
    entry.status = watch.reason or "done"
    _conclude(entry, executed, watch)
    with suppress(OSError):
        _keep_logs(workspace)
    _write_page(entry, record, executed, job.notebook.parent)


def _kernel_manager(log: Path) -> type:
    """For kernels whose own last words go to a file: when one ends, a race in ipykernel 6 can print a traceback."""
    from jupyter_client.manager import AsyncKernelManager

    class KernelManager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # its types know no coroutine
            with log.open("wb") as file:
                await super().start_kernel(**options, stdout=file, stderr=file)

    return KernelManager


def _keep_kernel_log(log: Path, entry: Entry) -> None:
    with suppress(OSError):
        if not log.stat().st_size:
            log.unlink()
        elif entry.fault:
            entry.fault += f" (its kernel's last words: {log.name})"


def _cells(job: Job) -> Any:
    """The notebook with the cells that are to run."""
    notebook = pages.read(job.notebook)
    if not job.whole:
        notebook.cells = [cell for cell in notebook.cells if _is_tagged(cell) or "parameters" in pages.tags(cell)]
    return notebook


def exported(job: Job, folder: Path) -> Path:
    """Write a runbook as a notebook of its own, which fails when its verdict is not ok; for other schedulers.

    Raises:
        CourseError: the notebook has no runbook, or the folder cannot be written.
    """
    import nbformat

    if job.whole:
        raise CourseError(
            f"{job.notebook.stem} has no runbook to export, or all of its cells were asked for.", "Name another."
        )
    notebook = _cells(job)
    notebook.cells.append(nbformat.v4.new_code_cell("book.require()", id="verdict"))  # type: ignore[no-untyped-call]
    path = folder / job.notebook.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise CourseError(f"{path} cannot be written: {error.strerror}.", "Name a folder of yours.") from None
    return path


def _conclude(entry: Entry, executed: Path, watch: _Watch) -> None:
    """Take over what the runbook told, and decide."""
    if watch.reason:
        entry.fault, entry.findings = watch.told, []
    told = _told(executed)
    entry.title = str(told.get("title", ""))
    entry.steps = told.get("steps", [])
    entry.findings = [*told.get("findings", []), *entry.findings]
    entry.versions = told.get("versions", {})
    if not watch.reason:
        # Of the whole notebook the verdict is that of its cells: the runbook in it is an example then.
        entry.verdict = "failed" if entry.fault else "ok" if entry.whole else told.get("verdict", "ok")


def _told(executed: Path) -> dict[str, Any]:
    """The last result that the executed notebook holds."""
    told: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        for cell in pages.read(executed).cells:
            for output in cell.get("outputs", []):
                told = output.get("data", {}).get(RESULT, told)
    return told


def _finding(name: str, said: str) -> dict[str, Any]:
    """What broke off a notebook: of an error the kernel tells the name, and the text that `str` makes of it."""
    what, _, fix = said.partition("\nWhat to do: ")
    return unknown(name, what, fix)


def _write_page(entry: Entry, record: Record, executed: Path, folder: Path) -> None:
    if not executed.exists():
        entry.executed = ""
        return
    entry.html = executed.with_suffix(".html").name
    try:
        pages.write(executed, record.folder / entry.html, entry, record, folder)
    except Exception as error:
        entry.html = ""
        entry.fault = entry.fault or f"its page could not be written: {type(error).__name__}: {error}"


def _keep_logs(workspace: Path) -> None:
    """Of a workspace that was this run's own, what servers said is kept; repositories and weights are not."""
    for path in sorted(workspace.parent.glob(f"{workspace.name}*")):
        for folder, _, names in os.walk(path, topdown=False):
            for name in names:
                if not name.endswith(".log"):
                    Path(folder, name).unlink()
            with suppress(OSError):  # a log is in it
                Path(folder).rmdir()
    with suppress(OSError):
        workspace.parent.rmdir()


def _is_tagged(cell: Any) -> bool:
    return TAG in pages.tags(cell)


class _Watch:
    """Ends the kernel when a signal comes or the time is up, and sees to it that nothing of the run is left.

    Nothing is raised in the middle of papermill's work: it finds its kernel dead, saves the notebook, and returns.

    Attributes:
        reason: "interrupted" or "timeout"; "" while neither happened.
        exit_code: what that makes the process end with.
        told: the reason as a sentence.
    """

    def __init__(self, run_id: str, timeout: float | None) -> None:
        self.reason, self.told = "", ""
        self.exit_code: int | None = None
        self._run_id, self._timeout = run_id, timeout
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # A process in a shell's background, or under nohup, was started to ignore one.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._signalled)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._wake.set()
        self._thread.join()
        self.leave_nothing()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self._end("interrupted", 128 + number, f"the run was interrupted by {signal.Signals(number).name}")

    def _end(self, reason: str, exit_code: int, told: str) -> None:
        if not self.reason:
            self.exit_code, self.told, self.reason = exit_code, told, reason
            self._wake.set()

    def _watch(self) -> None:
        if not self._wake.wait(self._timeout):
            self._end("timeout", TIMEOUT_CODE, f"the run was not done after {self._timeout:g} s")
        if self.reason:
            print(f"tritonlab: {self.told}; ending what it started", file=sys.stderr, flush=True)
        while not self._over.is_set():
            # Again and again: a kernel may just be starting.
            self._kill_kernels()
            self._over.wait(0.2)

    def _kill_kernels(self) -> None:
        """Servers are left to their keepers, which end them politely once their kernel has gone."""
        for process, is_server in _processes(self._run_id):
            if not is_server:
                _kill(process)

    def leave_nothing(self) -> None:
        """Wait until the run's servers have ended, and kill what else is left."""
        deadline = time.monotonic() + ENDING_S
        while left := _processes(self._run_id):
            for process, is_server in left:
                if not is_server or time.monotonic() > deadline:
                    _kill(process)
            if time.monotonic() > deadline + 5:
                break
            time.sleep(0.1)


def _processes(run_id: str) -> list[tuple[Any, bool]]:
    """The living processes of a run, and of each whether it belongs to a server."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(MARK) != run_id or process.pid == os.getpid():
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append((process, leftovers.MARK in environment))
    return found


def _kill(process: Any) -> None:
    import psutil

    with suppress(psutil.Error):
        process.kill()


def described(path: Path) -> tuple[str, str, bool]:
    """A notebook's title and first paragraph, and whether it has a runbook; then they are those of that section."""
    cells = pages.read(path).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    section = next((text for text in texts if text.startswith(f"{HEADING}: ")), texts[0])
    title, _, rest = section.partition("\n")
    paragraph = " ".join(rest.strip().partition("\n\n")[0].split())
    return title.lstrip("# ").removeprefix("As a runbook: "), paragraph, any(map(_is_tagged, cells))
