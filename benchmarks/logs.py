"""How fast a log is read, and in how much memory: `python benchmarks/logs.py [--megabytes 200] [--largest 1000]`.

The log is that of a real server of the local target with --log-verbose=1, under requests; the part under load is
repeated with other times and addresses until it is long enough. The peers read each line of the same file:

- Python's own `for line in file`, which does nothing with it: the limit;
- pandas' `Series.str.extract` with the pattern of Triton's lines;
- pygrok, with the same pattern as a Grok expression;
- drain3, which finds the templates of lines.

pygrok and drain3 are no part of the course's packages (pip install pygrok drain3); one that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from tritonlab import ModelRepository, VllmModel, read_log, serve
from tritonlab.engine.tutor import MODEL

REQUESTS = 1000
MIB = 1 << 20
LIMIT, MEMORY_MIB = 6, 300
LINE = r"^([IWEFV]\d{4}) (\d\d:\d\d:\d\d\.\d+) +(\d+) ([^\]]+:\d+)\] (.*)"
GROK = r"%{DATA:level} %{TIME:clock} +%{INT:pid} %{DATA:source}\] %{GREEDYDATA:message}"


def record() -> bytes:
    """The log of a server that answers requests, every step told."""
    with tempfile.TemporaryDirectory() as folder:
        repository = ModelRepository(Path(folder) / "models")
        repository.add(VllmModel("gemma", model=str(MODEL), dtype="bfloat16", enforce_eager=True, max_model_len=1024))
        with serve(repository, ["gemma"], "local", arguments=["--log-verbose=1"]) as server:
            server.wait_ready(quiet=True)
            with ThreadPoolExecutor(8) as clients:
                ask = lambda number: server.client.generate("gemma", f"Hello {number}", max_tokens=8)  # noqa: E731
                list(clients.map(ask, range(REQUESTS)))
            return server.log_path.read_bytes()  # type: ignore[attr-defined]


def lengthened(log: bytes) -> Iterator[bytes]:
    """The log, then what it says under load again and again, with later times and other addresses."""
    numbers = random.Random(0)
    yield log
    loaded = log[log.index(b"\n", log.index(b"Started Metrics Service")) + 1 :]
    for minute in range(1 << 30):
        clock = b"%02d:%02d:" % divmod(minute % 1440, 60)
        again = re.sub(rb"(?m)^([IWE]\d{4} )\d\d:\d\d:", lambda found: found[1] + clock, loaded)  # noqa: B023
        yield re.sub(rb"0x7f[0-9a-f]+", lambda _: b"0x7f%010x" % numbers.randrange(1 << 40), again)


def write(path: Path, log: bytes, size: int) -> None:
    """A log of at least that many bytes."""
    with path.open("wb") as file:
        for part in lengthened(log):
            file.write(part)
            if file.tell() >= size:
                return


def plain(path: Path) -> None:
    """Read the lines, and do nothing."""
    with path.open(encoding="utf-8") as file:
        for _ in file:
            pass


def ours(path: Path) -> None:
    """Stages, memory, models, findings and verdict."""
    assert read_log(path).verdict == "ready"


def by_pandas(path: Path) -> None:
    """The fields of each line as columns."""
    import pandas as pd

    pd.Series(path.read_text().split("\n")).str.extract(LINE)


def by_pygrok(path: Path) -> None:
    """The fields of each line as a dictionary."""
    from pygrok import Grok

    grok = Grok(GROK)
    with path.open(encoding="utf-8") as file:
        for line in file:
            grok.match(line)


def by_drain3(path: Path) -> None:
    """The template of each line."""
    from drain3 import TemplateMiner

    miner = TemplateMiner()
    with path.open(encoding="utf-8") as file:
        for line in file:
            miner.add_log_message(line)


READERS: dict[str, Callable[[Path], None]] = {
    "for line in file": plain,
    "tritonlab": ours,
    "pandas str.extract": by_pandas,
    "pygrok": by_pygrok,
    "drain3": by_drain3,
}
LIBRARIES = ("pygrok", "drain3")


def main() -> int:
    """Compare, then show how time and memory grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--largest", type=int, default=1000)
    parser.add_argument("--read", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        return _read(*options.read)
    log = record()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.log"
        write(path, log, options.megabytes * MIB)
        readers = [name for name in READERS if name not in LIBRARIES or find_spec(name)]
        took = {name: _measure(name, path)[0] for name in readers}
        print(f"{options.megabytes} MiB; seconds, and times as long as `for line in file`:")
        for name, seconds in took.items():
            print(f"  {name:20} {seconds:8.2f} s {seconds / took['for line in file']:8.1f} x")
        print("tritonlab alone, by size; memory is the process's peak, with Python's own:")
        size, kept = 1, True
        while size <= options.largest:
            write(path, log, size * MIB)
            seconds, peak = _measure("tritonlab", path)
            kept = kept and peak < MEMORY_MIB
            print(f"  {size:6} MiB {seconds:8.2f} s {1000 * seconds / size:8.2f} ms/MiB {peak:6.0f} MiB of memory")
            size *= 10
    ratio = took["tritonlab"] / took["for line in file"]
    behind = [name for name, seconds in took.items() if name != "for line in file" and seconds < took["tritonlab"]]
    print(*(f"{name} is not installed, and was not measured" for name in LIBRARIES if name not in took), sep="\n")
    print(f"{ratio:.1f} times the plain loop (limit {LIMIT}); behind: {', '.join(behind) or 'no peer'}")
    return 0 if ratio <= LIMIT and not behind and kept else 1


def _measure(name: str, path: Path) -> tuple[float, float]:
    """Seconds and MiB of one reader in a process of its own; the best of three, of a slow one the first."""
    best: tuple[float, float] | None = None
    for _ in range(3):
        command = [sys.executable, __file__, "--read", name, str(path)]
        seconds, peak = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        best = min(best or (seconds, peak), (seconds, peak))
        if seconds > 20:
            break
    assert best is not None
    return best


def _read(name: str, file: str) -> int:
    began = time.perf_counter()
    READERS[name](Path(file))
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
