"""The `tritonlab` command. It parses, calls the package, prints, and turns errors into exit codes."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tritonlab.errors import TritonlabError

if TYPE_CHECKING:
    from tritonlab.logs import Finding

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Learn and do LLM serving on NVIDIA Triton.",
    rich_markup_mode=None,
)
engine_app = typer.Typer(no_args_is_help=True, help="The local engine: tritonserver and vLLM without Docker or GPU.")
app.add_typer(engine_app, name="engine")
image_app = typer.Typer(no_args_is_help=True, help="The CPU image for the docker target.")
app.add_typer(image_app, name="image")

VERDICT_CODES = {"ready": 0, "built": 0, "failed": 1}
UNREADABLE, UNDECIDED = 2, 3


def main() -> None:
    """Run the command; an error of ours becomes its sentences on stderr and exit code 1."""
    try:
        app()
    except TritonlabError as error:
        print(f"tritonlab: {error}", file=sys.stderr)
        sys.exit(UNREADABLE if type(error).__name__ == "LogUnreadable" else 1)


@app.command()
def doctor(
    mount: Annotated[Path | None, typer.Option(help="Also try whether Docker sees this folder.")] = None,
) -> None:
    """What this machine can run. Exit code 1 when something is missing."""
    from tritonlab import doctor as look

    if mount is not None:
        _try_mount(mount)
    report = look()
    print(report)
    raise typer.Exit(0 if report.healthy else 1)


def _try_mount(folder: Path) -> None:
    from tritonlab.docker_checks import mount_test
    from tritonlab.servers import engines

    with engines.connect() as engine:
        names = mount_test(engine, folder.absolute())
    print(f"A container sees {folder}. It holds:", *(f"  {name}" for name in names or ["nothing"]), sep="\n")


@engine_app.command("install")
def engine_install() -> None:
    """Install the local engine; what is there already is kept."""
    from tritonlab import engine
    from tritonlab.progress import Progress

    started = time.monotonic()
    with Progress() as progress:
        installed = engine.install(progress)
    print(f"The engine is in {installed.path} ({_versions(installed.versions)}; {time.monotonic() - started:.0f} s).")


@engine_app.command("status")
def engine_status() -> None:
    """What is installed, where, how big. Exit code 1 when the engine is not installed."""
    from tritonlab import engine

    found = engine.status()
    if found.installed:
        print(f"installed in {found.path}: {_versions(found.versions)}, {found.size / 1e9:.1f} GB")
    else:
        print(f"not installed ({found.path}); `tritonlab engine install` does it")
    for path in found.stale:
        print(f"left from another version: {path}; `tritonlab engine remove` takes it away too")
    raise typer.Exit(0 if found.installed else 1)


@engine_app.command("remove")
def engine_remove() -> None:
    """Delete every engine of this user."""
    from tritonlab import engine

    removed = engine.remove()
    print("\n".join(f"removed {path}" for path in removed) or "there was no engine to remove")


@image_app.command("build")
def image_build(
    base: Annotated[
        str, typer.Option(help="Debian 12, Ubuntu 22.04 or later, with Python 3.11 and its venv module.")
    ] = "",
    anew: Annotated[
        bool, typer.Option(help="Build even if a current one is there, and use nothing of earlier.")
    ] = False,
) -> None:
    """Build the CPU image, unless a current one is there, and show its layers."""
    from tritonlab.progress import Progress
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


@app.command()
def ps() -> None:
    """List the servers of this user's that run, and all that have a container on the Docker engine."""
    from tritonlab.servers.running import running

    print("\n".join(map(repr, running())) or "no server of tritonlab runs")


@app.command()
def stop(
    servers: Annotated[list[str] | None, typer.Argument(help="Ids, as ps shows them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of this user's.")] = False,
) -> None:
    """End servers, whatever holds them, and take away what belongs to them."""
    from tritonlab.servers.running import own, running
    from tritonlab.servers.running import stop as end

    wanted = own() if every else servers or []
    if not wanted and not every:
        raise TritonlabError("No server was named.", "Name one that `tritonlab ps` shows, or --all.")
    for server_id in wanted:
        if every and server_id not in {server.id for server in running()}:
            continue  # it ended with another one
        end(server_id)
        print(f"stopped {server_id}")


@app.command()
def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Numbers, e.g. 00 02; all without any.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE for the notebooks' parameters cells."),
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Where executed copies and HTML go; default runs/TIME.")] = None,
    cell_timeout: Annotated[int, typer.Option(help="Seconds that one cell may take.")] = 600,
) -> None:
    """Execute notebooks with papermill. Exit code 1 when one fails."""
    from tritonlab import course
    from tritonlab.course import runner

    target = runs or course.root() / "runs" / time.strftime("%Y%m%d-%H%M%S")
    chosen = course.notebooks(notebooks or ())
    failed = 0
    for result in runner.run(
        chosen, target, _parameters(parameter or []), cell_timeout=cell_timeout, progress=sys.stderr.isatty()
    ):
        print(result, flush=True)
        if result.fault:
            failed += 1
            print(f"  {result.fault}\n  executed so far: {result.html}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} notebooks ran; executed copies in {target}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def lab() -> None:
    """Open the course in JupyterLab."""
    from tritonlab import course

    command = [sys.executable, "-m", "jupyter", "lab", str(course.root() / course.FIRST)]
    # Jupyter refuses root unless told; a container's only user often is root. Windows has no such number.
    is_root = getattr(os, "geteuid", lambda: None)() == 0
    os.execv(command[0], command + (["--allow-root"] if is_root else []))


@app.command()
def serve(
    repository: Annotated[Path, typer.Argument(help="The model repository.")],
    model: Annotated[list[str] | None, typer.Option(help="A model to load; all without any.")] = None,
    target: Annotated[str, typer.Option(help="local, docker, auto, or a server's URL.")] = "auto",
    http_port: Annotated[int | None, typer.Option(help="A free one is chosen by default.")] = None,
    image: Annotated[str | None, typer.Option(help="On the docker target, the image to run.")] = None,
) -> None:
    """Start a server, tell its stages, and keep it until Ctrl-C."""
    from tritonlab.servers import serve as start

    ports = {} if http_port is None else {"http": http_port}
    with start(repository, model, target, ports=ports, image=image) as server:
        server.wait_ready()
        print(f"{server!r}\nCtrl-C stops it.", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print("stopping")


@app.command()
def ask(
    prompt: str,
    model: Annotated[str, typer.Option(help="The model's name on the server.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8000",
    max_tokens: int = 128,
) -> None:
    """Send a prompt to a running server and print the answer as it comes."""
    from tritonlab.client import Client

    for piece in Client(url).stream(model, prompt, max_tokens=max_tokens):
        print(piece, end="", flush=True)
    print()


@app.command()
def logs(
    source: Annotated[str, typer.Argument(help="A log file, or - for standard input.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    explain: Annotated[bool, typer.Option(help="Tell more of each finding: what it means, what proves it.")] = False,
    follow: Annotated[bool, typer.Option(help="Go on as the file grows, until Ctrl-C.")] = False,
    list_causes: Annotated[bool, typer.Option(help="List what the knowledge base knows, and read nothing.")] = False,
) -> None:
    """Read a log. Exit code 0 ready or built, 1 failed, 2 unreadable, 3 anything else, such as stopped or starting."""
    from tritonlab.logs import read_log, rules

    if list_causes:
        print(*(f"{rule.id:36} {rule.title}" for rule in rules()), sep="\n")
        return
    if not source:
        raise TritonlabError("No log was named.", "Name a file, or - for standard input.")
    if follow:
        raise typer.Exit(_follow(sys.stdin.buffer if source == "-" else Path(source)))
    report = read_log(sys.stdin.buffer if source == "-" else Path(source))
    print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else report)
    if explain and not as_json:
        print(*(_explained(found) for found in report.findings), sep="\n")
    raise typer.Exit(VERDICT_CODES.get(report.verdict, UNDECIDED))


def _explained(found: Finding) -> str:
    lines = [f"\n{found.title} ({found.id})", found.means, f"Line {found.line}: {found.evidence}"]
    lines += [f"What to do: {found.fix}", *(f"On {target}: {advice}" for target, advice in found.on.items())]
    lines += [f"Read: {found.docs}"] if found.docs else []
    return "\n".join([*lines, *(f"What followed from it: {echo}" for echo in found.echoes)])


def _follow(log: Path | IO[bytes]) -> int:
    """Tell each stage, finding and turn of the verdict once, until Ctrl-C or the stream's end; the exit code."""
    from tritonlab.logs import follow

    told: set[str] = set()
    verdict = ""
    try:
        for report in follow(log):
            verdict = report.verdict
            stages = report.stages
            lines = [f"{name}: {status}" for name, status in zip(stages.stage, stages.status, strict=True)]
            lines = [line for line in lines if line.endswith((": reached", ": failed"))]
            lines += [f"{found.title}: {found.cause}" for found in report.findings]
            for line in [*lines, f"== {report.verdict}"]:
                if line not in told:
                    told.add(line)
                    print(line, flush=True)
    except KeyboardInterrupt:
        print()
    return VERDICT_CODES.get(verdict, UNDECIDED)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as parameters."""
    parameters = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise TritonlabError(f"{pair!r} is no parameter.", "Write -p NAME=VALUE.")
        parameters[name] = _value(value)
    return parameters


def _value(text: str) -> Any:
    """3 and 0.5 are numbers, true and True booleans, [1, 2] is a list; anything else is a text as it stands."""
    if text in ("True", "False"):
        return text == "True"
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float, list)) else text
