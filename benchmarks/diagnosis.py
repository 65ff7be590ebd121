"""How often the log reader tells the right verdict and the right cause, on a folder of labelled logs.

    python benchmarks/diagnosis.py FOLDER [--misses]

FOLDER holds `labels.jsonl`, a line for each log with id, kind, outcome, cause and evidence, and `items/ID.log`. Prints
the share of right answers by kind of item. A quote of one message says nothing of how its log ended, so its verdict is
not counted. The evidence is right when the line told, or one of its neighbours, holds the label's line or is held by
it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

from tritonlab import read_log

VERDICTS = {"ready": {"ready", "stopped"}, "built": {"built"}, "failed": {"failed"}}
NEIGHBOURS = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--misses", action="store_true", help="tell each wrong answer")
    options = parser.parse_args()
    right, asked = defaultdict(int), defaultdict(int)
    for label in map(json.loads, (options.folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()):
        log = options.folder / "items" / f"{label['id']}.log"
        for question, good, said in _marks(label, log):
            for kind in (label["kind"], "all"):
                asked[kind, question] += 1
                right[kind, question] += good
            if options.misses and not good:
                print(f"{question:12} {label['id']}: {said}")
    for kind, question in sorted(asked):
        share = right[kind, question] / asked[kind, question]
        print(f"{kind:12} {question:12} {right[kind, question]:4} of {asked[kind, question]:4}  {share:7.1%}")
    return 0 if right == asked else 1


def _marks(label: dict, log: Path) -> list[tuple[str, bool, str]]:
    """(question, whether the answer is right, what was said instead of what)."""
    report = read_log(log)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    marks = []
    if label["kind"] != "doc-quote" and label["outcome"] in VERDICTS:
        good = report.verdict in VERDICTS[label["outcome"]]
        marks.append(("verdict", good, f"{report.verdict}, wanted {label['outcome']}"))
    if label["cause"] == "none":
        told = [(finding.id, finding.evidence[:150]) for finding in errors]
        marks.append(("no alarm", not errors, f"{told}"))
        return marks
    top = report.findings[0] if report.findings else None
    found = top.id if top else "nothing"
    marks.append(
        ("top cause", found == label["cause"], f"{found} ({top and top.cause[:120]}), wanted {label['cause']}")
    )
    if top:
        lines = log.read_bytes().decode(errors="replace").split("\n")
        near = lines[max(top.line - 1 - NEIGHBOURS, 0) : top.line + NEIGHBOURS]
        good = any(_same(line, label["evidence"]) for line in near)
        marks.append(("evidence", good, f"line {top.line}: {top.evidence[:140]!r}, wanted {label['evidence'][:140]!r}"))
    return marks


def _same(line: str, wanted: str) -> bool:
    line, wanted = (re.sub(r"\x1b\[[0-9;]*m|\W", "", text) for text in (line, wanted))
    return bool(line) and (line in wanted or wanted in line)


if __name__ == "__main__":
    raise SystemExit(main())
