"""`tritonlab` alone: what is there already, and what to do next. It looks at files alone, so it answers at once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import typer

from tritonlab.errors import TritonlabError

INSTALL = ("engine install", "installs Triton and vLLM for the processor: 0.7 GB to download, a few minutes")
DOCTOR = ("doctor", "says what this machine can run, what is missing, and what to do about it")


def add_to(app: typer.Typer) -> None:
    """Let `app` say this where no command is given."""

    @app.callback(invoke_without_command=True)
    def welcome(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            print(text())


def text() -> str:
    """What is there, the next steps, the servers that run, and where help is."""
    from tritonlab.servers.running import recorded

    state, steps = _state()
    steps = [*steps, *_course_steps(), DOCTOR, ("--help", "lists every command")]
    parts = [state, "", "Next", *(f"  tritonlab {command:15} {what}" for command, what in steps)]
    if servers := recorded():
        parts += ["", "Servers that run (tritonlab stop ID ends one)", *(f"  {server!r}" for server in servers)]
    if not shutil.which("tritonlab"):
        here = Path(sys.executable).with_name("tritonlab")
        short = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
        parts += ["", f"Your shell does not find `tritonlab` by its name. Type {short} instead."]
    return "\n".join(parts)


def _state() -> tuple[str, list[tuple[str, str]]]:
    """Where servers will run, and the steps that this takes first."""
    from tritonlab.engine import Engine, machine
    from tritonlab.servers.serve import resolved

    target = resolved("auto")
    if target == "docker":
        return "Servers run in containers: TRITONLAB_TARGET is docker.", []
    if target.startswith(("http://", "https://")):
        return f"Requests go to the server at {target}: TRITONLAB_TARGET says so.", []
    if target != "local":
        return f"TRITONLAB_TARGET is {target!r}, which is no target: local, docker or a URL like http://host:8000.", []
    try:
        versions = Engine.find().versions
    except TritonlabError as missing:
        try:
            machine.require_runnable()
        except TritonlabError as unable:
            return str(unable), []
        return missing.what, [INSTALL]
    return f"The local engine is installed: tritonserver {versions['tritonserver']}, vLLM {versions['vllm']}.", []


def _course_steps() -> list[tuple[str, str]]:
    from tritonlab import course

    try:
        where = _where_in_the_course([path.stem for path in course.notebooks()])
    except TritonlabError:  # the package without its course still serves, asks and reads logs
        return [("serve FOLDER", "starts a server on a model repository"), ("logs FILE", "says what a log means")]
    return [
        ("lab", f"opens the course in JupyterLab: {where}"),
        ("run", "runs every notebook by itself; the executed copies are in runs/"),
    ]


def _where_in_the_course(notebooks: list[str]) -> str:
    """The notebook that this learner comes to next, in words."""
    from tritonlab.course.learner import progress

    rows = progress().rows()
    if not any(tries for _, _, _, tries, _ in rows):
        return f"begin with {notebooks[0]}"
    unfinished = [(name, solved, exercises) for name, solved, exercises, *_ in rows if solved < exercises]
    if not unfinished:
        return "you have solved every exercise"
    name, solved, exercises = unfinished[0]
    return f"go on with {name}, where {solved} of {exercises} exercises are solved"
