"""Throughput and latency of our vLLM backend under Triton, against vLLM's offline engine and `vllm serve`.

    python benchmarks/serving.py [--rounds 3]

Same model (the tutor), same settings, 64 output tokens, 1 to 32 requests at once, everything in one run: all peers are
up, and measured in turn, round after round; the table has medians. Rates are tokens a second; a ratio above 1 means
that ours is faster. "official" is what NVIDIA's backend (r25.06, made to run with the same vLLM 0.32) reached against
the offline engine on two cores without a GPU, measured the same way: ours must not be behind it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack

import peers
from load import measure

QUESTION = "Why is the sky blue?"
TOKENS = 64
CONCURRENCY = (1, 4, 16, 32)
REQUESTS = {1: 24, 4: 80, 16: 256, 32: 448}
OFFICIAL = {  # Triton generate and generate_stream over offline
    1: (361 / 356, 365 / 356),
    4: (1169 / 1328, 1129 / 1328),
    16: (4151 / 4219, 2868 / 4219),
    32: (5520 / 6423, 4606 / 6423),
}
QUIET_S = 1.5  # the processes of a peer that has just worked go on spinning for a second
STREAM_GOAL = 0.85  # of the offline engine, at 16 and 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        offline = stack.enter_context(peers.offline(QUESTION, TOKENS))
        vllm = stack.enter_context(peers.vllm_serve())
        ours = stack.enter_context(peers.ours()).url
        rates, firsts, gaps = defaultdict(list), defaultdict(list), defaultdict(list)
        for turn in range(rounds + 1):
            for concurrency in CONCURRENCY:
                print(f"round {turn} of {rounds}, {concurrency} at once", file=sys.stderr)
                requests = REQUESTS[concurrency] if turn else 2 * concurrency
                found = {}
                time.sleep(QUIET_S)
                offline.stdin.write(f"{concurrency} {requests}\n")
                offline.stdin.flush()
                found["offline"] = float(peers.read(offline, "RATE"))
                for stream in (False, True):
                    way = "stream" if stream else "whole"
                    time.sleep(QUIET_S)
                    path = f"{ours}/v2/models/tutor/generate{'_stream' if stream else ''}"
                    done = measure(path, [_triton(stream)] * requests, concurrency, TOKENS)
                    found[f"ours {way}"] = done.tokens_per_s
                    found[f"ours {way} latency"] = done
                    time.sleep(QUIET_S)
                    done = measure(f"{vllm}/v1/completions", [_openai(stream)] * requests, concurrency, TOKENS)
                    found[f"vllm {way}"] = done.tokens_per_s
                    found[f"vllm {way} latency"] = done
                if turn:  # the first turn warms everything up
                    for name, value in found.items():
                        if name.endswith("stream latency"):
                            firsts[concurrency, name[:4]].append(value.ttft_ms)
                            gaps[concurrency, name[:4]].append(value.itl_ms)
                        elif not name.endswith("latency"):
                            rates[concurrency, name].append(value)
    return _report(*({key: statistics.median(v) for key, v in table.items()} for table in (rates, firsts, gaps)))


def _triton(stream: bool) -> dict:
    return {
        "text_input": QUESTION,
        "stream": stream,
        "exclude_input_in_output": True,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
    }


def _openai(stream: bool) -> dict:
    return {
        "model": "tutor",
        "prompt": QUESTION,
        "stream": stream,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
    }


def _report(rates: dict, firsts: dict, gaps: dict) -> int:
    names = ("offline", "ours whole", "vllm whole", "ours stream", "vllm stream")
    print("tokens/s".rjust(8), *(name.rjust(12) for name in names))
    for c in CONCURRENCY:
        print(f"c={c}".rjust(8), *(f"{rates[c, name]:12.0f}" for name in names))
    print("\nratio of ours to      offline  (official)  vllm serve  |  the same, streaming  | TTFT and ITL in ms")
    behind = []
    for c in CONCURRENCY:
        ratios = []
        for way, official in zip(("whole", "stream"), OFFICIAL[c], strict=True):
            against = rates[c, f"ours {way}"] / rates[c, "offline"]
            goal = max(official, STREAM_GOAL) if way == "stream" and c >= 16 else official
            if against < goal:
                behind.append(f"c={c} {way}: {against:.2f} of offline, wanted {goal:.2f}")
            ratios.append(f"{against:9.2f} {official:12.2f} {rates[c, f'ours {way}'] / rates[c, f'vllm {way}']:15.2f}")
        latency = "; ".join(f"{who} {firsts[c, who]:.1f}, {gaps[c, who]:.2f}" for who in ("ours", "vllm"))
        print(f"c={c}".rjust(16), "  | ".join(ratios), " |", latency)
    print("\n" + ("\n".join(["behind:", *behind]) if behind else "ours is behind nowhere"))
    return 1 if behind else 0


if __name__ == "__main__":
    raise SystemExit(main())
