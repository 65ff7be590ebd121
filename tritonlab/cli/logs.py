"""`tritonlab logs`: a log read, explained, followed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from tritonlab.errors import TritonlabError

if TYPE_CHECKING:
    from tritonlab.logs import Finding

VERDICT_CODES = {"ready": 0, "built": 0, "failed": 1}
UNREADABLE, UNDECIDED = 2, 3


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(logs)


def logs(
    source: Annotated[str, typer.Argument(help="A log file, or - for standard input.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each finding what it means, and which line proves it.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as the file grows, until Ctrl-C.")] = False,
    list_causes: Annotated[
        bool, typer.Option("--list-causes", help="List the causes that it knows, and read nothing.")
    ] = False,
) -> None:
    """Read a log: how far a start came, what it holds, what is wrong.

    Exit code 0 ready or built, 1 failed, 2 unreadable, 3 anything else, such as stopped or starting.
    """
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
