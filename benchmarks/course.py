"""Seconds per notebook on an installed engine, and their share of what each notebook promises a reader to take.

python benchmarks/course.py
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from tritonlab import course
from tritonlab.course import records, runner


def main() -> None:
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        jobs = runner.prepared(course.notebooks(), {}, whole=True)
        record = records.new(Path(folder), [job.entry for job in jobs], {}, whole=True)
        for job, entry in zip(jobs, runner.run(jobs, record), strict=False):
            first = "".join(json.loads(job.notebook.read_text())["cells"][0]["source"])
            minutes = int(re.search(r"\*\*Takes\*\* (\d+) minutes", first)[1])
            total += entry.seconds
            print(f"{entry.seconds:6.1f} s, {entry.seconds / 60 / minutes:5.1%} of {minutes} min {entry.name}")
            if entry.fault:
                raise SystemExit(entry.fault)
    print(f"{total:6.1f} s  in all")


if __name__ == "__main__":
    main()
