"""`tritonlab progress`: what a learner has done of the exercises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(progress)


def progress(
    learner: Annotated[str, typer.Option(help="Whose; by default $TRITONLAB_LEARNER, or yours.")] = "",
    export: Annotated[Path | None, typer.Option(help="Also write it to a file, for a teacher to collect.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget all of it; --export writes it down first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it for programs, as --export writes it.")] = False,
) -> None:
    """What you have done of the exercises, by notebook."""
    from tritonlab.course.learner import progress as look

    found = look(learner)
    if export is not None:
        found.export(export)
    if reset:
        found = found.reset()
    print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False) if as_json else found)
    if export is not None and not as_json:
        print(f"Written to {export}.")
