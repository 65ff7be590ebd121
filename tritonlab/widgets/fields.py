"""Fields with their label above them, which is where a narrow window has room for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

STYLE = """
<style>
.tl-panel .tl-field { display: flex; flex-flow: column nowrap; align-items: stretch; height: auto;
  margin: 2px 8px 2px 0; }
.tl-panel .tl-field > label.widget-label { width: auto; text-align: left; line-height: 1.5; height: auto;
  white-space: normal; color: var(--jp-content-font-color1, #000); }
.tl-panel .tl-field > label.widget-label + * { width: 100%; }
.tl-panel .tl-field > input, .tl-panel .tl-field > select, .tl-panel .tl-field > textarea { flex: none; width: 100%;
  box-sizing: border-box; }
.tl-panel .tl-field > input, .tl-panel .tl-field > select:not([multiple]) { min-height: 28px; }
/* The arrow of ipywidgets is black in the dark theme too; the browser's own has the text's colour. */
.tl-panel .tl-field > select:not([multiple]) { appearance: auto; background-image: none; padding-right: 4px; }
.tl-panel .tl-code textarea, .tl-panel .tl-code input { font-family: var(--jp-code-font-family, monospace);
  font-size: var(--jp-code-font-size, 13px); }
.tl-panel .tl-code textarea { white-space: pre; overflow: auto; }
.tl-panel .tl-row { display: flex; flex-flow: row wrap; align-items: flex-end; overflow: visible; }
.tl-panel .tl-top { align-items: flex-start; gap: 0 16px; }
.tl-panel .tl-words { overflow-x: auto; }
.tl-panel .tl-words td, .tl-panel .tl-words th { overflow-wrap: break-word; }
.tl-panel .tl-words th[scope="row"] { white-space: nowrap; }
.tl-panel .tl-list li { margin: 0 0 8px; }
.tl-panel .tl-list code { color: var(--jp-content-font-color1, #000); background: var(--jp-layout-color2, #eee); }
.tl-panel .tl-bar { position: relative; height: 56px; }
.tl-panel .tl-bar > div { position: absolute; text-align: center; }
.tl-panel .tl-bar .tl-fill { height: 28px; box-sizing: border-box;
  border: 1px solid var(--jp-content-font-color1, #000); }
.tl-panel .tl-bar .tl-end { top: 22px; height: 52px; box-sizing: border-box; padding: 30px 6px 0 0;
  white-space: nowrap; border-right: 4px solid var(--jp-error-color1, #c62828); }
.tl-panel .jupyter-button, .tl-panel .tl-button { width: auto; margin: 2px 8px 2px 0; }
.tl-panel .tl-wide { width: 100%; text-align: left; height: auto; min-height: 28px; white-space: normal;
  line-height: 1.5; }
.tl-panel h4 { margin: 10px 0 2px; font-size: inherit; font-weight: bold; color: var(--jp-content-font-color1, #000); }
</style>
"""


def style() -> Any:
    """The rules of these fields; a panel that uses them begins with it."""
    return widgets.HTML(STYLE, layout={"margin": "0", "height": "0"})


def field(kind: Callable[..., Any], label: str, width: str = "220px", *, code: bool = False, **settings: Any) -> Any:
    """A widget of ipywidgets with its label above it, as wide as that, or with "" as its row lets it be."""
    size = {"width": width} if width else {"flex": "1 1 280px"}
    made = kind(description=label, layout={**size, "max_width": "100%"}, **settings)
    made.add_class("tl-field")
    if code:
        made.add_class("tl-code")
    return made


def row(*children: Any, top: bool = False) -> Any:
    """Widgets beside each other, below each other where the window is narrow; in line at their ends, or at the top."""
    made = widgets.Box(children)
    made.add_class("tl-row")
    if top:
        made.add_class("tl-top")
    return made


def words(table: str) -> str:
    """A table of sentences, whose words stay whole."""
    return f'<div class="tl-words">{table}</div>'


def button(label: str, click: Callable[[], None], *, wide: bool = False, tooltip: str = "") -> Any:
    """A button that calls what is to be done; `wide` ones hold a sentence."""
    made = widgets.Button(description=label, tooltip=tooltip or None)
    made.add_class("tl-wide" if wide else "tl-button")
    made.on_click(lambda _: click())
    return made


def heading(said: str) -> Any:
    """A heading within a panel."""
    return widgets.HTML(f"<h4>{said}</h4>")


def shown(widget: Any, visible: bool) -> None:
    """Show a widget, or take it out of the page, for the keyboard too."""
    widget.layout.display = "" if visible else "none"
