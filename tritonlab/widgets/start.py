"""Start-up: the stages as a server reaches them, its log below, and the cause when it fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tritonlab.course.showing import without_places
from tritonlab.errors import ServerFailed, TritonlabError
from tritonlab.widgets.panel import Kind, Panel, plain_table, preformatted, status, table

if TYPE_CHECKING:
    from tritonlab.logs import Finding
    from tritonlab.servers.base import Server

# A mark and a word for each status: neither says it alone, nor does a colour.
STATUSES = {"reached": "✓ reached", "running": "▸ running", "failed": "✗ failed", "missing": "· to come"}
LONGEST_LINE = 300
HEADINGS = ("stage", "status", "seen after")


class StartPanel(Panel):
    """Show a server's start as it happens.

        with serve(repo, models=["tutor"], target="local") as server:
            StartPanel(server).wait_ready()

    Args:
        server: the handle that `serve` gives.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began = time.monotonic()
        self._seen: dict[str, float] = {}
        self._outcome: str = "starting"
        self._took = 0.0
        self._failure: ServerFailed | None = None
        self._finding: Finding | None = None
        self._headline, self._clock = widgets.HTML(), widgets.HTML()
        self._stages, self._cause, self._log = widgets.HTML(), widgets.HTML(), widgets.HTML()
        super().__init__(self._headline, self._clock, self._stages, self._cause, self._log)
        self._refresh()

    def wait_ready(self, timeout: float = 600.0) -> Server:
        """Show the panel and wait as `server.wait_ready` does; gives the server.

        Raises:
            ServerFailed: it did not become ready; the panel shows where and why.
        """
        self.show()
        try:
            self._server.wait_ready(timeout, quiet=True, watch=self._refresh)
            self._outcome = "ready"
        except ServerFailed as error:
            self._outcome, self._failure, self._finding = "failed", error, self._first_finding()
            raise
        except KeyboardInterrupt:
            self._outcome = "no longer watched: the wait was interrupted, the server goes on"
            raise
        finally:
            self._refresh()
            self.store()
        return self._server

    def plain(self) -> str:
        lines = [self._said(), self._after()]
        if rows := self._rows():
            lines += [plain_table(rows, HEADINGS)]
        lines += [f"{name}: {said}" for name, said in self._told()]
        if self._outcome != "ready" and (tail := self._tail()):
            lines += ["the log's last lines:", *(f"  {line}" for line in tail)]
        return "\n".join(lines)

    def _refresh(self) -> None:
        self._took = time.monotonic() - self._began
        for stage in self._server.stages():
            if stage.status in ("reached", "failed"):
                self._seen.setdefault(stage.name, self._took)
        rows, tail = self._rows(), "\n".join(self._tail())
        kinds: dict[str, Kind] = {"ready": "good", "failed": "bad"}
        # An equal value is no change to ipywidgets, and so nothing that a screen reader would read out again.
        self._headline.value = status(self._said(), kinds.get(self._outcome, ""))
        self._clock.value = f'<span class="tl-quiet">{self._after()}</span>'
        self._stages.value = table(rows, HEADINGS) if rows else ""
        self._cause.value = table(self._told(), ("why it failed", "")) if self._failure else ""
        log = preformatted(tail, "log", height="14em") if tail else ""
        if self._outcome == "ready":
            log = f"<details><summary>The log's last lines</summary>{log}</details>"
        self._log.value = log

    def _said(self) -> str:
        stages = self._server.stages()
        reached = sum(stage.status == "reached" for stage in stages)
        where = f"Server at {self._server.url} ({self._server.target})"
        how_far = f": {reached} of {len(stages)} stages reached" if stages else ""
        failed = [stage.name for stage in stages if stage.status == "failed"]
        at = f", it failed at: {failed[0]}" if failed and self._outcome == "failed" else ""
        return f"{where}: {self._outcome}{how_far}{at}."

    def _after(self) -> str:
        return f"{self._took:.1f} s {'so far' if self._outcome == 'starting' else 'in all'}"

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            (stage.name, STATUSES[stage.status], f"{self._seen[stage.name]:.1f} s" if stage.name in self._seen else "")
            for stage in self._server.stages()
        ]

    def _told(self) -> list[tuple[str, str]]:
        """Why it failed, as names and texts."""
        if self._failure is None:
            return []
        found = self._finding
        if found is None:
            return [("what", self._failure.what.partition("\n")[0]), ("what to do", self._failure.fix)]
        return [
            ("cause", found.title),
            ("the log says", without_places(found.cause)),
            (f"line {found.line}", _cut(without_places(found.evidence))),
            ("what to do", self._failure.fix or found.fix),
        ]

    def _tail(self) -> list[str]:
        return [without_places(line) for line in self._server.tail()]

    def _first_finding(self) -> Finding | None:
        try:
            findings = self._server.report().findings
        except TritonlabError:  # the log is not ours to read
            return None
        return next((found for found in findings if found.severity == "error"), None)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
