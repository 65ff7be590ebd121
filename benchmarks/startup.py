"""Seconds from nothing to READY: our Triton with vLLM against `vllm serve`, the same model, in alternating rounds.

    python benchmarks/startup.py [--rounds 3]

Also printed: what ours is made of, stage by stage, and what `import tritonlab` takes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import peers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ours, theirs, stages = [], [], defaultdict(list)
    for _ in range(rounds):
        started = time.monotonic()
        with peers.ours(ready=False) as server:
            server.wait_ready(quiet=True)
            ours.append(time.monotonic() - started)
            for stage in server.report().stages.itertuples():
                stages[stage.stage].append(stage.seconds or 0.0)
        started = time.monotonic()
        with peers.vllm_serve(ready=False) as url:
            peers.wait_for(f"{url}/health")
            theirs.append(time.monotonic() - started)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"ours {mine:6.1f} s, vllm serve {other:6.1f} s, ratio {mine / other:.2f} (below 1: ours is faster)\n")
    for name, seconds in stages.items():
        print(f"{statistics.median(seconds):8.1f} s  {name}")
    print(f"\nimport tritonlab: {_import_seconds():.3f} s, limit 0.2 s, ratio {_import_seconds() / 0.2:.2f}")


def _import_seconds() -> float:
    code = "import time; t = time.perf_counter(); import tritonlab; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return statistics.median(float(run.stdout) for run in runs)


if __name__ == "__main__":
    main()
