"""`LogExplorer`: open or paste a log; read its verdict, its findings, its events, where time and memory went."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from tritonlab.course.paths import recorded_logs, typed
from tritonlab.errors import CourseError, LogUnreadable, TritonlabError
from tritonlab.logs import Finding, LogReport, read_log
from tritonlab.logs.selection import NONE, Page
from tritonlab.logs.sources import Source
from tritonlab.logs.stages import MEMORY
from tritonlab.memory import GIB
from tritonlab.widgets import fields
from tritonlab.widgets.panel import Kind, Panel, plain_table, preformatted, status, table, text

LEVELS = ("FATAL", "ERROR", "WARNING", "INFO", "DEBUG", "VERBOSE", NONE)
COMPONENTS = ("triton", "vllm", "tensorrt-llm", "tensorrt", "torch", "nccl", "uvicorn", "docker", NONE)
HEADINGS = ("line", "time", "level", "component", "message")
KINDS: dict[str, Kind] = {"ready": "good", "built": "good", "failed": "bad", "starting": "warning"}
LONGEST_MESSAGE, LONGEST_KEPT = 500, 100_000
PLACES = {"a recorded log of the course": "recorded", "a file on this machine": "path", "a file to send here": "upload",
          "a text to paste": "paste"}  # fmt: skip


class LogExplorer(Panel):
    """A log, to be looked through.

    Args:
        source: a `LogReport`, or whatever `read_log` reads: a path, a text, a server. Without it you choose one.

    Attributes:
        report: the report on the log that is open, or None.
        page: the events that are shown.
        finding: the finding that is shown, or None.

    Raises:
        LogUnreadable: the source cannot be read.
    """

    def __init__(self, source: Source | LogReport | None = None) -> None:
        self.report: LogReport | None = None
        self.page = Page([], 0, (1, 0), None)
        self.finding: Finding | None = None
        self._starts = [0]
        self._said = widgets.HTML()
        self._build_opening()
        self._build_events()
        self._findings = widgets.VBox()
        self._detail = widgets.HTML()
        self._pictures = widgets.HTML()
        self._below = widgets.VBox(
            [
                fields.heading("Findings"),
                self._findings,
                self._detail,
                fields.heading("Events"),
                fields.row(self.levels, self.components, self.stage, self.words),
                self._counted,
                self._table,
                fields.row(self.back, self.more),
                fields.heading("Time and memory"),
                self._pictures,
            ]
        )
        super().__init__(fields.style(), *self._opening, self._said, self._below)
        self._show()
        if source is not None:
            self.read(source)

    def read(self, source: Source | LogReport) -> None:
        """Open a log.

        Raises:
            LogUnreadable: it cannot be read; what was open stays so.
        """
        report = source if isinstance(source, LogReport) else read_log(source, self._progress)
        self.report, self.finding, self._starts = report, None, [0]
        stages = report.stage_lines()
        with self.stage.hold_trait_notifications():
            self.stage.options = [("all", ""), *((name, name) for name in stages)]
            self.stage.value = ""
        self._show()

    def show_finding(self, finding: Finding | None) -> None:
        """Show a finding with its line and the lines around it, as a click on it does."""
        self.finding = finding
        try:
            self._detail.value = self._told(finding) if finding else ""
        except TritonlabError as error:
            self._detail.value = status(error, "bad")

    def plain(self) -> str:
        if self.report is None:
            return "No log is open."
        parts = [repr(self.report)]
        if self.finding:
            parts.append(
                "\n".join(
                    [
                        f"{self.finding.id}:",
                        *(f"{name}: {said}" for name, said in self._facts(self.finding)),
                        *self._neighbours(self.finding),
                    ]
                )
            )
        chosen = [
            f"{name} {', '.join(values)}"
            for name, values in (
                ("level", self.levels.value),
                ("component", self.components.value),
                ("stage", [self.stage.value] if self.stage.value else []),
                ("words", [self.words.value] if self.words.value else []),
            )
            if values
        ]
        parts.append(f"{self.page}{'; ' if chosen else ''}{'; '.join(chosen)}:")
        if self.page.events:
            parts.append(plain_table(self._rows(), HEADINGS))
        return "\n\n".join(parts)

    def _build_opening(self) -> None:
        try:
            recorded = recorded_logs()
        except CourseError:  # the package alone, without the course's files
            recorded = {}
        places = [place for place in PLACES.items() if recorded or place[1] != "recorded"]
        self.place = fields.field(widgets.Dropdown, "Open", options=places)
        self.recorded = fields.field(
            widgets.Dropdown, "Recorded log", "520px", options=[("choose one", ""), *recorded.items()]
        )
        self.path = fields.field(widgets.Text, "Path of the file", "420px", continuous_update=False)
        self.paste = fields.field(
            widgets.Textarea, "The log's text", "100%", code=True, rows=8, continuous_update=False
        )
        self.upload = widgets.FileUpload(description="Choose a file", multiple=False)
        self.upload.add_class("tl-button")
        self.open_path = fields.button("Open the file", lambda: self._try(self._file))
        self.read_paste = fields.button("Read the text", lambda: self._try(self._pasted))
        self.recorded.observe(lambda _: self._try(self._chosen), "value")
        self.upload.observe(lambda change: self._try(self._sent) if change["new"] else None, "value")
        ways = {
            "recorded": self.recorded,
            "path": fields.row(self.path, self.open_path),
            "upload": self.upload,
            "paste": widgets.VBox([self.paste, self.read_paste]),
        }

        def choose(_: Any = None) -> None:
            for name, way in ways.items():
                fields.shown(way, name == self.place.value)

        self.place.observe(choose, "value")
        choose()
        self._opening = [fields.row(self.place, ways["recorded"], ways["path"], ways["upload"]), ways["paste"]]

    def _build_events(self) -> None:
        several = "several: Ctrl or Shift; none: all"
        self.levels = fields.field(widgets.SelectMultiple, "Level", "150px", options=LEVELS, rows=7, tooltip=several)
        self.components = fields.field(
            widgets.SelectMultiple, "Component", "150px", options=COMPONENTS, rows=7, tooltip=several
        )
        self.stage = fields.field(widgets.Dropdown, "Stage", "190px", options=[("all", "")], value="")
        self.words = fields.field(
            widgets.Text, "Words in the message (Enter)", "220px", continuous_update=False, placeholder="such as memory"
        )
        for control in (self.levels, self.components, self.stage, self.words):
            control.observe(lambda _: self._filter(), "value")
        self._counted, self._table = widgets.HTML(), widgets.HTML()
        self.back = fields.button("Back", self._go_back)
        self.more = fields.button("More", self._go_on)

    def _try(self, opening: Any) -> None:
        try:
            opening()
        except TritonlabError as error:
            self._said.value = status(error, "bad")

    def _chosen(self) -> None:
        if self.recorded.value:
            self.read(self.recorded.value)

    def _file(self) -> None:
        path = typed(self.path.value.strip())
        if not path.is_file():  # a pipe would never end
            raise LogUnreadable(
                f"There is no file {str(path)!r}.", f"Give a path as it is seen from {Path.cwd().name}/."
            )
        self.read(path)

    def _pasted(self) -> None:
        if not self.paste.value.strip():
            raise LogUnreadable("Nothing is pasted.", "Paste the log's lines into the field, then press the button.")
        # Bytes and not a text: one line alone could be a path.
        self.read(self.paste.value.encode(errors="replace"))
        if len(self.paste.value) > LONGEST_KEPT:  # JupyterLab would save it with the notebook
            self.paste.value = ""

    def _sent(self) -> None:
        data = bytes(self.upload.value[0]["content"])
        self.upload.value = ()
        self.read(data)

    def _progress(self, read: int) -> None:
        self._said.value = status(f"Reading: {read / (1 << 20):,.0f} MiB so far.")

    def _filter(self) -> None:
        self._starts = [0]
        self._show_events()

    def _go_on(self) -> None:
        if self.page.more:
            self._starts.append(self.page.more)
            self._show_events()

    def _go_back(self) -> None:
        if len(self._starts) > 1:
            self._starts.pop()
            self._show_events()

    def _show(self) -> None:
        report = self.report
        fields.shown(self._below, report is not None)
        if report is None:
            self._said.value = status("No log is open.")
            return
        first, last = report.lines
        runs = f"; {len(report.runs)} earlier runs in it, {report.runs[-1].verdict} the last" if report.runs else ""
        self._said.value = status(
            f"Verdict: {report.verdict}. {report.kind}, lines {first:,} to {last:,}{runs}.",
            KINDS.get(report.verdict, ""),
        )
        self._findings.children = [
            fields.button(
                f"{found.severity}, line {found.line:,}: {found.title}",
                lambda found=found: self.show_finding(found),  # type: ignore[misc]
                wide=True,
            )
            for found in report.findings
        ] or [widgets.HTML("<p>Nothing is wrong that the package knows of.</p>")]
        self.show_finding(None)
        self._show_events()
        self._pictures.value = _timeline(report) + _memory(report)

    def _show_events(self) -> None:
        if self.report is None:
            return
        try:
            self.page = self.report.page(
                levels=self.levels.value,
                components=self.components.value,
                stage=self.stage.value or "",
                words=self.words.value,
                start=self._starts[-1],
            )
        except TritonlabError as error:
            self._counted.value = status(error, "bad")
            return
        self._counted.value = status(str(self.page))
        self._table.value = (
            '<div role="region" aria-label="Events" tabindex="0" style="max-height: 24em; overflow: auto">'
            f"{table(self._rows(), HEADINGS)}</div>"
            if self.page.events
            else ""
        )
        self.more.disabled, self.back.disabled = self.page.more is None, len(self._starts) == 1

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                str(event.line),
                f"{event.time:%m-%d %H:%M:%S}" if event.time else "",
                event.level or "",
                event.component or "",
                event.message if len(event.message) <= LONGEST_MESSAGE else event.message[:LONGEST_MESSAGE] + " …",
            )
            for event in self.page.events
        ]

    def _facts(self, found: Finding) -> list[tuple[str, str]]:
        return [
            ("what to do", found.fix),
            *((f"on {target}", what) for target, what in found.on.items()),
            *([("what it means", found.means)] if found.means else []),
            ("cause", found.cause),
            *(("follows from it", echo) for echo in found.echoes),
            *([("read", found.docs)] if found.docs else []),
        ]

    def _neighbours(self, found: Finding) -> list[str]:
        lines = self.report.around(found.line) if self.report else []
        return [f"{'>' if number == found.line else ' '} {number:>6} {said}" for number, said in lines]

    def _told(self, found: Finding) -> str:
        facts = "".join(
            f'<tr><th scope="row">{text(name)}</th><td>{text(said)}</td></tr>' for name, said in self._facts(found)
        )
        lines = preformatted("\n".join(self._neighbours(found)), f"Line {found.line} and its neighbours")
        return f'<div role="status"><b>{text(found.title)}</b>{lines}{fields.words(f"<table>{facts}</table>")}</div>'


def _timeline(report: LogReport) -> str:
    """The figure, and the same as a table: the figure's alt text is the title, and the table tells the rest."""
    stages = report.stages
    if stages.empty:
        return "<p>The log has no stages.</p>"
    took = [
        (name, said, "" if seconds != seconds else f"{seconds:.2f}")
        for name, said, seconds in stages[["stage", "status", "seconds"]].itertuples(index=False)
    ]
    told = table(took, ("stage", "status", "seconds"), "Where the time went")
    if not stages["start"].notna().any():
        return told
    image = io.BytesIO()
    report.timeline().savefig(image, format="png", dpi=90)
    data = base64.b64encode(image.getvalue()).decode()
    alt = "Timeline: a bar for each stage, at its time and as long as it took; the table beside it has the seconds."
    return f'<img alt="{alt}" style="max-width: 100%; height: auto" src="data:image/png;base64,{data}">{told}'


def _memory(report: LogReport) -> str:
    rows = [(use, f"{size / GIB:.4g}", MEMORY[use]) for use, size in report.memory.items()]
    return (
        table(rows, ("use", "GiB", "what it is"), "Where the memory went")
        if rows
        else ("<p>The log says nothing of memory.</p>")
    )
