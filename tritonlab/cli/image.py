"""`tritonlab image`: the CPU image, built and looked at."""

from __future__ import annotations

from typing import Annotated

import typer

image_app = typer.Typer(no_args_is_help=True, help="The CPU image for the docker target.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(image_app, name="image")


@image_app.command("build")
def image_build(
    base: Annotated[
        str,
        typer.Option(
            help="The image to begin with: Debian 12, Ubuntu 22.04 or later, with Python 3.11 and its venv module."
        ),
    ] = "",
    anew: Annotated[
        bool, typer.Option("--anew", help="Build even if a current one is there, and use nothing of earlier.")
    ] = False,
) -> None:
    """Build the CPU image, unless a current one is there, and show its layers."""
    from tritonlab.progress_bar import Progress
    from tritonlab.servers import engines, image

    with engines.connect() as engine, Progress() as progress:
        built = image.build(engine, progress, base, anew=anew)
    print(built)


@image_app.command("show")
def image_show() -> None:
    """Show the CPU image's size and layers. Exit code 1 when there is none."""
    from tritonlab.servers import engines, image

    with engines.connect() as engine:
        found = image.find(engine)
    print(found or f"{image.NAME} is not there; `tritonlab image build` makes it")
    raise typer.Exit(0 if found else 1)
