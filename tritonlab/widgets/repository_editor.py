"""`RepositoryEditor`: a model repository's tree, a model's two files side by side, and what is wrong with them."""

from __future__ import annotations

import os
from typing import Any

import ipywidgets as widgets

from tritonlab import compatibility
from tritonlab.drafts import Drafts
from tritonlab.errors import RepositoryError, TritonlabError
from tritonlab.problems import Problem, Problems
from tritonlab.repository import ModelRepository
from tritonlab.vllm import LOCAL_VERSION
from tritonlab.widgets import fields
from tritonlab.widgets.panel import Panel, preformatted, status, text

LONGEST_TREE, LONGEST_LINE = 200, 200


class RepositoryEditor(Panel):
    """A model repository, to be looked at and edited.

    What is typed is checked as if it were saved. The files are written by the Save buttons alone.

    Args:
        repo: the repository, or its folder.

    Attributes:
        drafts: what is typed and not saved.
        problems: what is wrong, as it is typed.
    """

    def __init__(self, repo: ModelRepository | str | os.PathLike[str]) -> None:
        self.repo = repo if isinstance(repo, ModelRepository) else ModelRepository(repo)
        self.drafts = Drafts(self.repo)
        self.problems = Problems([])
        self._tree, self._said, self._unsaved = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._found = widgets.HTML()
        versions = {f"{LOCAL_VERSION}, of the local engine": LOCAL_VERSION}
        versions |= {
            f"{r.vllm.version}, of container {r.tag}": r.vllm.version for r in compatibility.releases().values()
        }
        self.model = fields.field(widgets.Dropdown, "Model", "240px")
        self.version = fields.field(widgets.Dropdown, "vLLM that reads model.json", "260px", options=versions)
        self.reread = fields.button("Read the folder again", self.refresh)
        self.areas = [_Area(self, index) for index in (0, 1)]
        self.model.observe(lambda _: self._open(), "value")
        self.version.observe(lambda _: self._check(), "value")
        super().__init__(
            fields.style(),
            self._tree,
            fields.row(self.model, self.version, self.reread),
            fields.row(*(area.box for area in self.areas), top=True),
            self._said,
            self._unsaved,
            fields.heading("Problems"),
            self._found,
        )
        self.refresh()

    def refresh(self) -> None:
        """Read the folder again; what is typed and not saved stays."""
        self.drafts.refresh()
        self._tree.value = preformatted(_bounded(str(self.repo.tree())), "Files", height="14em")
        names = [model.name for model in self.repo]
        chosen = self.model.value
        self.model.options = names
        self.model.value = chosen if chosen in names else next(iter(names), None)
        self._open()

    def plain(self) -> str:
        parts = [_bounded(str(self.repo.tree()))]
        for area in self.areas:
            if area.file:
                parts.append(f"{area.file}:\n{self.drafts.text(area.file) or area.note()}")
        unsaved = self.drafts.unsaved()
        parts.append(f"unsaved: {', '.join(unsaved)}" if unsaved else "nothing is unsaved")
        return "\n\n".join([*(part.rstrip() for part in parts), f"problems:\n{self.problems}"])

    def say(self, said: object, *, bad: bool = False) -> None:
        """Tell what came of a click."""
        self._said.value = status(said, "bad" if bad else "good") if said else ""

    def changed(self) -> None:
        """Something was typed, saved or discarded."""
        unsaved = self.drafts.unsaved()
        self._unsaved.value = status(
            f"Unsaved: {', '.join(unsaved)}. The files are as they were." if unsaved else "Nothing is unsaved.",
            "warning" if unsaved else "",
        )
        self._check()

    def wrote(self) -> None:
        """A file was written or made."""
        self._tree.value = preformatted(_bounded(str(self.repo.tree())), "Files", height="14em")

    def _open(self) -> None:
        name = self.model.value
        try:
            files = self.drafts.files(name) if name else ("", "")
        except RepositoryError as error:  # the folder went away meanwhile
            self.say(error, bad=True)
            files = ("", "")
        for area, file in zip(self.areas, files, strict=True):
            area.open(file)
        self.changed()

    def _check(self) -> None:
        try:
            self.problems = self.drafts.problems(self.version.value)
        except TritonlabError as error:
            self._found.value = status(error, "bad")
            return
        errors = sum(problem.severity == "error" for problem in self.problems)
        others = len(self.problems) - errors
        self._found.value = (
            status(f"Errors: {errors}, warnings: {others}, in the files as typed.", "warning" if not errors else "bad")
            + f'<ol class="tl-list">{"".join(map(self._told, self.problems))}</ol>'
            if self.problems
            else status("No problems.", "good")
        )

    def _told(self, problem: Problem) -> str:
        lines = self.drafts.text(problem.file).splitlines() if problem.line else []
        line = lines[problem.line - 1].strip() if 0 < problem.line <= len(lines) else ""
        where = f"{problem.file}, line {problem.line}" if problem.line else problem.file
        quoted = f"<br><code>{text(line[:LONGEST_LINE])}</code>" if line else ""
        return (
            f"<li><b>{text(problem.severity)} in {text(where)}: {text(problem.what)}</b>{quoted}"
            f"<br>Why: {text(problem.why)}<br>What to do: {text(problem.fix)}</li>"
        )


class _Area:
    """One of the two files: a text area, and what can be done with it."""

    def __init__(self, panel: RepositoryEditor, index: int) -> None:
        self._panel = panel
        self.file = ""
        self._opening = False
        self.text = fields.field(
            widgets.Textarea, "", "100%", code=True, rows=16, continuous_update=True, placeholder=""
        )
        label = ("config.pbtxt", "model.json")[index]
        self.save = fields.button(f"Save {label}", self._save)
        self.discard = fields.button(f"Discard what is typed for {label}", self._discard)
        self.overwrite = fields.button(f"Overwrite {label} on disk", lambda: self._save(overwrite=True))
        self.keep = fields.button(f"Take {label} as it is on disk", self._discard)
        self._note = widgets.HTML()
        self.box = widgets.VBox(
            [self.text, self._note, fields.row(self.save, self.discard), fields.row(self.overwrite, self.keep)],
            layout={"flex": "1 1 320px", "min_width": "0"},
        )
        self.text.observe(self._typed, "value")

    def open(self, file: str) -> None:
        """Show a file, with what was typed for it."""
        drafts = self._panel.drafts
        self.file = file
        self._opening = True
        self.text.description = file or "no file"
        self.text.value = drafts.text(file) if file else ""
        self._opening = False
        self.text.disabled = not file or bool(drafts.why_not(file))
        self._note.value = f'<div class="tl-quiet">{self.note()}</div>'
        self._arrange()

    def note(self) -> str:
        """What is special about the file, if anything."""
        drafts = self._panel.drafts
        if not self.file:
            return ""
        if why := drafts.why_not(self.file):
            return f"Not shown: {why}"
        return "" if drafts.exists(self.file) else "There is no such file; Save makes it."

    def _typed(self, change: Any) -> None:
        if self._opening or not self.file:
            return
        try:
            self._panel.drafts.edit(self.file, change["new"])
        except RepositoryError as error:
            self._panel.say(error, bad=True)
        self._arrange()
        self._panel.changed()

    def _save(self, *, overwrite: bool = False) -> None:
        panel, drafts = self._panel, self._panel.drafts
        try:
            drafts.save(self.file, overwrite=overwrite)
        except RepositoryError as error:
            panel.say(error, bad=True)
            self._arrange(asking=drafts.changed(self.file))
            return
        panel.say(f"Saved {self.file}.")
        panel.wrote()
        self.open(self.file)
        panel.changed()
        self.text.focus()

    def _discard(self) -> None:
        self._panel.drafts.discard(self.file)
        self._panel.say(f"{self.file} is as on disk.")
        self.open(self.file)
        self._panel.changed()
        self.text.focus()

    def _arrange(self, *, asking: bool = False) -> None:
        is_dirty = self.file in self._panel.drafts.unsaved()
        self.save.disabled = self.discard.disabled = not is_dirty
        for button in (self.overwrite, self.keep):
            fields.shown(button, asking)


def _bounded(tree: str) -> str:
    lines = tree.splitlines()
    more = f"\n… and {len(lines) - LONGEST_TREE:,} lines more" if len(lines) > LONGEST_TREE else ""
    return "\n".join(lines[:LONGEST_TREE]) + more
