"""`tritonlab doctor`: what this machine can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(doctor)


def doctor(
    target: Annotated[
        list[str] | None,
        typer.Option(help="local, docker, all or a server's URL; may be given again. What it lacks is a failure."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
    mount: Annotated[Path | None, typer.Option(help="Also try whether Docker sees this folder.")] = None,
) -> None:
    """What this machine can run, on one screen, within ten seconds. Exit code 1 when something needed is missing."""
    from tritonlab import doctor as look

    if mount is not None:
        _try_mount(mount)
    report = look(target)
    print(json.dumps(report.as_dict(), indent=1, ensure_ascii=False) if as_json else report.screen())
    raise typer.Exit(0 if report.healthy else 1)


def _try_mount(folder: Path) -> None:
    from tritonlab.docker_checks import mount_test
    from tritonlab.servers import engines

    with engines.connect() as engine:
        names = mount_test(engine, folder.absolute())
    print(f"A container sees {folder}. It holds:", *(f"  {name}" for name in names or ["nothing"]), sep="\n")
