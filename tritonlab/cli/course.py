"""`tritonlab run`, `runs` and `lab`: the notebooks, executed as course or as runbooks, or opened."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from tritonlab.errors import CourseError

if TYPE_CHECKING:
    from tritonlab.course.records import Record

BAD_PARAMETERS = 2
PAIR = ("-p", "--parameter")
RunsFolder = Annotated[Path | None, typer.Option(help="The folder of the records; by default the course's runs/.")]


class PairsCommand(TyperCommand):
    """A command whose option -p takes two words, KEY and VALUE, as papermill's does; typer knows no such option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two words to one before they are parsed."""
        joined, words = [], iter(args)
        for word in words:
            joined.append(word)
            if word == "--":
                joined += words
            elif word in PAIR:
                pair = [value for _, value in zip(range(2), words, strict=False)]
                if pair and "=" in pair[0]:
                    # Neither word is repeated: there may be a secret in it.
                    raise typer.BadParameter(f"Write {word} KEY VALUE, in two words and without the sign =.")
                if len(pair) < 2:
                    raise typer.BadParameter(f"{word} takes two words: {word} KEY VALUE.")
                joined.append("=".join(pair))
        return super().parse_args(ctx, joined)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    # Its help is its own, since with a NAME it tells of that notebook.
    app.command(cls=PairsCommand, context_settings={"help_option_names": []})(run)
    app.command()(runs)
    app.command()(lab)


def run(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Numbers or names, e.g. 02 or launch-vllm.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="KEY VALUE", help="A parameter; may be repeated.")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="All cells of the notebooks that are named.")] = False,
    resume: Annotated[
        str, typer.Option(metavar="RUN", help='Go on with an earlier run, by its id or "last": skip what is done.')
    ] = "",
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that the whole run may take.")] = None,
    cell_timeout: Annotated[int, typer.Option(min=1, help="Seconds that one cell may take.")] = 600,
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Run nothing: write the runbooks there, for other schedulers.")
    ] = None,
    runs: RunsFolder = None,
    wants_help: Annotated[bool, typer.Option("--help", help="Show this; with a NAME, that notebook's part.")] = False,
) -> None:
    """Run notebooks: those named as runbooks, all of the course without any name.

    As a runbook a notebook runs only the cells that look at your server, repository or log, and its verdict is
    theirs. A notebook without such cells runs whole. What came of it is kept in a folder of its own under runs/: the
    executed notebook, a page without code, the servers' logs, and result.json.

    Exit codes: 0 well, 1 failed, 2 a wrong name or parameter and nothing was started, 3 undecided, 124 --timeout was
    over, 130 interrupted by Ctrl-C, 143 by SIGTERM.
    """
    from tritonlab import course
    from tritonlab.course import records, runner

    try:
        if wants_help:
            print("\n\n".join(_help(path) for path in course.notebooks(names)) if names else context.get_help())
            return
        folder = runs or course.root() / "runs"
        given = _given(parameter or [])
        earlier = records.find(folder, resume) if resume else None
        if earlier is not None:
            if names or given or whole:
                raise CourseError(
                    "--resume takes names and parameters from the earlier run.", "Leave out all but --resume."
                )
            if earlier.status == "running":
                raise CourseError(
                    f"The run {earlier.id} still runs, as process {earlier.pid} on {earlier.host}.",
                    "Wait for its end, or end it with Ctrl-C.",
                )
            names, given, whole = [entry.name for entry in earlier.notebooks], earlier.given, earlier.whole
        jobs = runner.prepared(course.notebooks(names or ()), given, whole=whole or not names)
        if export is not None:
            print(*(runner.exported(job, export) for job in jobs), sep="\n")
            return
        # As they were understood: a path that was relative here is another one elsewhere.
        given = {name: str(next(job.values[name] for job in jobs if name in job.values)) for name in given}
        entries = [_taken_over(earlier, job.entry) for job in jobs]
        record = records.new(folder, entries, given, whole=whole or not names, resumes=earlier.id if earlier else "")
    except CourseError as error:
        print(f"tritonlab: {error}", file=sys.stderr)
        raise typer.Exit(BAD_PARAMETERS) from None
    for entry in runner.run(jobs, record, timeout=timeout, cell_timeout=cell_timeout, progress=sys.stderr.isatty()):
        print(entry, flush=True)
        if entry.fault:
            print(f"  {entry.fault}", flush=True)
        for found in entry.findings if not entry.whole else ():
            print(f"  {found['severity']}: {found['title']}\n    What to do: {found['fix']}", flush=True)
    _conclude(record)


def _taken_over(earlier: Record | None, entry: Any) -> Any:
    """What an earlier run did well need not be done again."""
    for done in earlier.notebooks if earlier else ():
        if done.name == entry.name and done.verdict == "ok":
            done.taken_from = done.taken_from or earlier.id  # type: ignore[union-attr]
            return done
    return entry


def _conclude(record: Record) -> None:
    good = sum(entry.verdict == "ok" for entry in record.notebooks)
    if len(record.notebooks) > 1:
        print(f"{good} of {len(record.notebooks)} notebooks ran well")
    pages = [record.folder / entry.html for entry in record.notebooks if entry.html and not entry.taken_from]
    print(f"{record.verdict or record.status}: {pages[0] if len(pages) == 1 else record.folder}")
    raise typer.Exit(record.exit_code or 0)


def runs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help='One to show, two to compare; ids or "last".')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
    runs: RunsFolder = None,
) -> None:
    """List the runs that are kept, the newest first; show one; or compare two."""
    from tritonlab import course
    from tritonlab.course import records

    folder = runs or course.root() / "runs"
    found = [records.find(folder, name) for name in names or ()]
    if len(found) > 2:
        raise CourseError(f"{len(found)} runs were named.", "Name two to compare them.")
    shown: Any
    if len(found) == 2:
        shown = records.compared(*found)
        text = _comparison(shown)
    elif found:
        shown = found[0].to_dict()
        text = "\n".join([repr(found[0]), str(found[0].folder), *map(repr, found[0].notebooks)])
    else:
        listed = records.listed(folder)
        shown = [record.to_dict() for record in listed]
        text = "\n".join(map(repr, listed)) or f"no run is kept in {folder}"
    print(json.dumps(shown, indent=2, ensure_ascii=False, default=str) if as_json else text)


def _comparison(shown: dict[str, Any]) -> str:
    """The differences in lines: what, before -> after."""
    lines = [" -> ".join(shown["runs"])]

    def tell(label: str, pair: Any, indent: str = "") -> None:
        if pair[0] != pair[1]:
            lines.append(f"{indent}{label}: {pair[0]} -> {pair[1]}")

    tell("verdict", shown["verdicts"])
    tell("seconds", shown["seconds"])
    for name, pair in shown["versions"].items():
        tell(f"version of {name}", pair)
    for name, notebook in shown["notebooks"].items():
        lines.append(name)
        if "only_in" in notebook:
            lines.append(f"  only in {notebook['only_in']}")
            continue
        tell("verdict", notebook["verdicts"], "  ")
        tell("seconds", notebook["seconds"], "  ")
        for kind in ("parameters", "versions", "steps"):
            for key, pair in notebook[kind].items():
                tell(f"{kind.removesuffix('s')} {key}", pair, "  ")
        lines += [f"  new finding: {name}" for name in notebook["new_findings"]]
        lines += [f"  gone finding: {name}" for name in notebook["gone_findings"]]
    return "\n".join(lines)


def lab() -> None:
    """Open the course in JupyterLab, on its first notebook."""
    from tritonlab import course

    # The whole folder, since notebooks link to the README; the address, which people copy where no browser opens by
    # itself, names the notebook. Of Jupyter's own lines only warnings and that address are of use to them.
    command = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={course.root()}"]
    command += [f"--LabApp.default_url=/lab/tree/{course.FIRST.as_posix()}", "--Application.log_level=WARN"]
    print(
        f"JupyterLab opens {course.FIRST.stem} in your browser. Ctrl-C here, twice, ends it and its servers.",
        flush=True,
    )
    # In a terminal of JupyterLab the command is then plainly `tritonlab`.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # Jupyter refuses root unless told; a container's only user often is root. Windows has no such number.
    is_root = getattr(os, "geteuid", lambda: None)() == 0
    os.execv(command[0], command + (["--allow-root"] if is_root else []))


def _given(pairs: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _help(path: Path) -> str:
    """What a notebook does, and its parameters."""
    from tritonlab.course import parameters, runner

    title, summary, is_runbook = runner.described(path)
    used = runner.uses(path)
    known = [parameter for name, parameter in parameters.of(path).items() if not used or name in used]
    lines = [f"tritonlab run {path.stem[:2]}    {title}", "", summary, ""]
    lines += ["It has no cells of its own as a runbook: all of it runs.", ""] if not is_runbook else []
    lines += ["Parameters, each as -p KEY VALUE:", *(f"  {one!r}" for one in known), ""]
    return "\n".join(
        [*lines, *("Exit codes:" + str(run.__doc__).rpartition("Exit codes:")[2]).split("\n    ")]
    ).rstrip()
