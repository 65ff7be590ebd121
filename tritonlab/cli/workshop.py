"""`tritonlab workshop`: hand-outs, progress of many learners, a kit for rooms with no network."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tritonlab.errors import CourseError

workshop_app = typer.Typer(no_args_is_help=True, help="For whoever teaches the course to others.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(workshop_app, name="workshop")


@workshop_app.command("handout")
def workshop_handout(
    folder: Annotated[Path, typer.Argument(help="An empty folder, or one to be made.")],
    notebook: Annotated[list[str] | None, typer.Option(help="A number, e.g. 02; all without any.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run each against a real server.")] = False,
) -> None:
    """Write clean notebooks for learners: no outputs, no answers, and what they read. Exit code 1 when one fails."""
    from tritonlab.workshop import handout

    written = handout.make(folder, notebook or ())
    print(f"{len(written)} notebooks and README.md are in {folder}.", flush=True)
    raise typer.Exit(1 if check and not handout.check(folder) else 0)


@workshop_app.command("collect")
def workshop_collect(
    paths: Annotated[list[Path], typer.Argument(help="Exported progress files, or folders that hold them.")],
    csv: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
) -> None:
    """Show the progress of many learners in one table; whoever is stuck comes first."""
    from tritonlab.workshop.collect import collect, for_spreadsheet

    found = collect(paths)
    table = found.table()
    print(table.to_string(index=False))
    for remark in found.remarks:
        print(f"tritonlab: {remark}", file=sys.stderr)
    if csv is not None:
        try:
            for_spreadsheet(table).to_csv(csv, index=False)
        except OSError as error:
            raise CourseError(f"{csv} cannot be written: {error.strerror or error}.", "Name another file.") from None


@workshop_app.command("kit")
def workshop_kit(
    folder: Annotated[Path, typer.Argument(help="An empty folder, or one to be made, e.g. on a stick.")],
    engine: Annotated[bool, typer.Option(help="With the local engine.")] = True,
) -> None:
    """Make a folder from which laptops of this kind are set up with no network."""
    from tritonlab.progress_bar import Progress
    from tritonlab.workshop import kit

    started = time.monotonic()
    with Progress() as progress:
        size = kit.make(folder, progress, engine=engine)
    print(
        f"The kit is in {folder}: {size / 1e9:.2f} GB, {time.monotonic() - started:.0f} s. Its README.md says the rest."
    )
