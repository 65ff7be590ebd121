"""The page of a run: what came of each cell, without the cells, in one file that needs no network."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tritonlab.course.records import Entry, Record

# No widgets and no scripts: a page is mailed, archived, and opened where there is no network.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }}
main {{ max-width: 64rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ overflow-x: auto; font-size: 14px; line-height: 1.4 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
td, th {{ border: 1px solid #bbb; padding: .2rem .6rem; text-align: left; vertical-align: top }}
img {{ max-width: 100% }}
.anchor-link {{ display: none }}
.failed {{ color: #a40000 }} .ok {{ color: #1b5e20 }}
.ansi-red-fg {{ color: #a40000 }} .ansi-green-fg {{ color: #1b5e20 }} .ansi-bold {{ font-weight: bold }}
</style>
</head>
<body>
<main>
{head}
{body}
</main>
</body>
</html>
"""


def read(path: Path) -> Any:
    """A notebook as nbformat has it."""
    import nbformat

    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def tags(cell: Any) -> list[str]:
    """A cell's tags."""
    return list(cell.get("metadata", {}).get("tags", []))


def write(executed: Path, page: Path, entry: Entry, record: Record, folder: Path) -> None:
    """Write the page of an executed notebook.

    Args:
        executed: the notebook.
        page: the file to write.
        entry: what the record says of the notebook.
        record: what it says of the run.
        folder: where the notebook came from, and its pictures are.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    notebook = read(executed)
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
        config=Config({"NbConvertBase": {"display_data_priority": SHOWN}}),
    )
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(folder), "name": entry.name}})
    title = f"{entry.name}: {entry.verdict or entry.status}"
    page.write_text(PAGE.format(title=html.escape(title), head=_head(entry, record), body=body), encoding="utf-8")


def _head(entry: Entry, record: Record) -> str:
    """The verdict, and what one has to know of the run to believe it."""
    state = entry.verdict or entry.status
    facts = {
        "run": record.id,
        "started": record.started,
        "seconds": f"{entry.seconds:.1f}" if entry.seconds is not None else "",
        **{f"parameter {name}": repr(value) for name, value in entry.parameters.items()},
        "versions": ", ".join(f"{name} {version}" for name, version in (record.versions | entry.versions).items()),
    }
    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in facts.items())
    fault = f"<p class='failed'>{html.escape(entry.fault)}</p>" if entry.fault else ""
    title = html.escape(entry.title or entry.name)
    return (
        f"<h1>{title}: <span class='{html.escape(state)}'>{html.escape(state)}</span></h1>{fault}<table>{rows}</table>"
    )
