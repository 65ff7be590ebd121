"""`tritonlab engine`: the local engine, installed, looked at, removed."""

from __future__ import annotations

import time

import typer

engine_app = typer.Typer(no_args_is_help=True, help="The local engine: tritonserver and vLLM without Docker or GPU.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(engine_app, name="engine")


@engine_app.command("install")
def engine_install() -> None:
    """Install the local engine; what is there already is kept."""
    from tritonlab import engine
    from tritonlab.progress_bar import Progress

    started = time.monotonic()
    with Progress() as progress:
        installed = engine.install(progress)
    print(f"The engine is in {installed.path} ({_versions(installed.versions)}; {time.monotonic() - started:.0f} s).")


@engine_app.command("status")
def engine_status() -> None:
    """What is installed, where, and how big. Exit code 1 when the engine is not installed."""
    from tritonlab import engine

    found = engine.status()
    if found.installed:
        print(f"installed in {found.path}: {_versions(found.versions)}, {found.size / 1e9:.1f} GB")
    else:
        print(f"not installed ({found.path}); `tritonlab engine install` installs it")
    for path in found.stale:
        print(f"left from another version: {path}; `tritonlab engine remove` takes it away too")
    raise typer.Exit(0 if found.installed else 1)


@engine_app.command("remove")
def engine_remove() -> None:
    """Delete every engine of this user."""
    from tritonlab import engine

    removed = engine.remove()
    print("\n".join(f"removed {path}" for path in removed) or "there was no engine to remove")


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
