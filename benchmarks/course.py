"""Seconds per notebook on an installed engine, and their share of what each notebook promises a reader to take.

python benchmarks/course.py
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from tritonlab import course
from tritonlab.course import runner


def main() -> None:
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for result in runner.run(course.notebooks(), Path(folder)):
            first = "".join(json.loads(result.notebook.read_text())["cells"][0]["source"])
            minutes = int(re.search(r"\*\*Takes\*\* (\d+) minutes", first)[1])
            total += result.seconds
            print(
                f"{result.seconds:6.1f} s, {result.seconds / 60 / minutes:5.1%} of {minutes} min {result.notebook.stem}"
            )
            if result.fault:
                raise SystemExit(result.fault)
    print(f"{total:6.1f} s  in all")


if __name__ == "__main__":
    main()
