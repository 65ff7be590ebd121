"""What every panel has: a widget for JupyterLab, and a plain form with the same facts for everywhere else."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import ipywidgets as widgets

Kind = Literal["", "good", "warning", "bad"]

# JupyterLab's own variables, so that a panel is as readable in the dark theme as in the light one. A fallback stands
# behind each for pages that are no JupyterLab.
STYLE = """
<style>
.tl-panel { color: var(--jp-content-font-color1, #000); font-size: var(--jp-content-font-size1, 14px);
  line-height: 1.5; max-width: 1000px; padding: 4px; overflow: hidden; }
.tl-panel .widget-html-content { line-height: 1.5; }
.tl-panel .widget-box { overflow: visible; }
.tl-panel table { border-collapse: collapse; margin: 4px 0; }
.tl-panel caption { text-align: left; font-weight: bold; color: var(--jp-content-font-color1, #000); }
.tl-panel th, .tl-panel td { text-align: left; vertical-align: top; padding: 2px 12px 2px 0;
  color: var(--jp-content-font-color1, #000); overflow-wrap: anywhere; }
.tl-panel thead th { border-bottom: 1px solid var(--jp-border-color1, #777); white-space: nowrap; }
.tl-panel td.tl-number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tl-panel pre { font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, 13px);
  line-height: 1.4; margin: 4px 0; padding: 6px 8px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  word-break: normal; display: flex; flex-direction: column-reverse; /* scrolled to its end */
  color: var(--jp-content-font-color1, #000); background: var(--jp-layout-color2, #eee);
  border: 1px solid var(--jp-border-color2, #999); }
.tl-panel pre code { background: none; color: inherit; font: inherit; white-space: inherit; padding: 0; }
.tl-panel .tl-status { padding: 2px 8px; margin: 4px 0; overflow-wrap: anywhere;
  border-left: 4px solid var(--jp-border-color1, #777); }
.tl-panel .tl-good { border-left-color: var(--jp-success-color1, #2e7d32); }
.tl-panel .tl-warning { border-left-color: var(--jp-warn-color1, #b26a00); }
.tl-panel .tl-bad { border-left-color: var(--jp-error-color1, #c62828); }
.tl-panel .tl-quiet { color: var(--jp-content-font-color2, #444); }
.tl-panel a { color: var(--jp-content-link-color, #0645ad); }
.tl-panel :focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
</style>
"""


class Panel(ABC):
    """A widget and its plain form. A notebook shows the widget; papermill, exports and `print` get the plain form.

    A subclass builds its controls, hands them to `super().__init__` and writes `plain`. It holds no logic: what it
    shows comes from the package, and what can be clicked can be called.

    Attributes:
        widget: the box to show.
    """

    def __init__(self, *children: Any) -> None:
        self.widget = widgets.VBox([widgets.HTML(STYLE, layout={"margin": "0", "height": "0"}), *children])
        self.widget.add_class("tl-panel")
        self._shown: Any = None

    @abstractmethod
    def plain(self) -> str:
        """What the panel shows now, complete, as text."""

    def show(self) -> Self:
        """Show the panel now, before the cell ends; `store` then renews what is kept of it."""
        from IPython.display import display

        self._shown = display(self, display_id=True)  # type: ignore[no-untyped-call]
        return self

    def store(self) -> None:
        """Renew the plain form of a panel that was shown with `show`; outside of IPython, print it.

        The widget is drawn anew, and loses the keyboard's focus: call it at an end, never while a person types.
        """
        if self._shown is None:
            print(self)
        else:
            self._shown.update(self)

    def __repr__(self) -> str:
        return self.plain()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        return {**bundle, "text/plain": self.plain()}


def text(value: object) -> str:
    """Any value as text for HTML."""
    return html.escape(str(value))


def status(said: object, kind: Kind = "") -> str:
    """HTML of a line that a screen reader reads out when it changes; what is bad interrupts, the rest waits.

    The colour repeats what the words say: `said` has to say it.
    """
    role = "alert" if kind == "bad" else "status"
    lines = "<br>".join(html.escape(str(said)).splitlines())
    return f'<div class="tl-status tl-{kind or "neutral"}" role="{role}">{lines}</div>'


def preformatted(said: object, label: str = "", *, height: str = "") -> str:
    """HTML of text as it stands, such as a log. Higher than `height`, e.g. "12em", it scrolls, from its end up."""
    limit = f' style="max-height: {height}"' if height else ""
    named = f' role="region" aria-label="{html.escape(label)}" tabindex="0"' if label else ""
    return f"<pre{named}{limit}><code>{html.escape(str(said))}</code></pre>"


def table(rows: Iterable[Sequence[object]], headings: Sequence[str], caption: str = "") -> str:
    """HTML of a table of text."""
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    named = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plain_table(rows: Iterable[Sequence[object]], headings: Sequence[str]) -> str:
    """The same as text, in columns."""
    lines = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
