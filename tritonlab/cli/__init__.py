"""The `tritonlab` command. It parses, calls the package, prints, and turns errors into exit codes."""

from __future__ import annotations

import sys

import typer

from tritonlab.cli import course, engine, image, logs, machine, progress, render, servers, welcome, workshop
from tritonlab.errors import TritonlabError

app = typer.Typer(
    add_completion=False,
    help="Learn and do LLM serving on NVIDIA Triton. Without a command: what to do next.",
    rich_markup_mode=None,
)
for commands in (welcome, machine, engine, image, course, progress, workshop, servers, render, logs):
    commands.add_to(app)


def main() -> None:
    """Run the command; an error of ours becomes its sentences on stderr and exit code 1."""
    try:
        app()
    except TritonlabError as error:
        print(f"tritonlab: {error}", file=sys.stderr)
        sys.exit(logs.UNREADABLE if type(error).__name__ == "LogUnreadable" else 1)
