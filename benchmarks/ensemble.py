"""What TensorRT-LLM's five models cost around the engine: ensemble and tensorrt_llm_bls against the plain vLLM model.

    python benchmarks/ensemble.py [--rounds 3]

One server has them all; both engines have the same settings, and only one is asked at a time. 64 output tokens,
1 to 32 requests at once, measured in turn, round after round; the tables have medians. A ratio above 1 means that the
five are faster than the plain model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import peers
from load import Measured, measure

from tritonlab import ModelRepository, VllmModel, serve
from tritonlab.trtllm import InflightBatcherLlm

QUESTION = "Why is the sky blue?"
TOKENS = 64
REQUESTS = {1: 16, 4: 48, 16: 128, 32: 256}
QUIET_S = 1.5  # the processes of an engine that has just worked go on spinning for a second
WAYS = ("plain", "ensemble", "tensorrt_llm_bls")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[tuple[str, bool, int], list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, serve(_repository(Path(folder)), target="local") as server:
        server.wait_ready(quiet=True)
        for turn in range(rounds + 1):
            for concurrency, requests in REQUESTS.items():
                print(f"round {turn} of {rounds}, {concurrency} at once", file=sys.stderr)
                for stream in (False, True):
                    for model in WAYS:
                        time.sleep(QUIET_S)
                        path = f"{server.url}/v2/models/{model}/generate{'_stream' if stream else ''}"
                        count = requests if turn else concurrency
                        done = measure(path, [_body(model, stream)] * count, concurrency, TOKENS)
                        if turn:  # the first turn warms everything up
                            found[model, stream, concurrency].append(done)
    _report(found)
    return 0


def _repository(folder: Path) -> ModelRepository:
    repository = ModelRepository(folder / "models")
    repository.add(VllmModel("plain", **peers.SETTINGS))
    for model in InflightBatcherLlm(peers.SETTINGS["model"], vllm=peers.SETTINGS, max_batch_size=32):
        repository.add(model)
    return repository


def _body(model: str, stream: bool) -> dict:
    own = {"ignore_eos": True, "temperature": 0} if model == "plain" else {"end_id": -1}
    return {"text_input": QUESTION, "stream": stream, "exclude_input_in_output": True, "max_tokens": TOKENS, **own}


def _report(found: dict[tuple[str, bool, int], list[Measured]]) -> None:
    for stream in (False, True):
        print("\nin pieces" if stream else "in one piece")
        print("at once".rjust(8), *(f"{model} tokens/s".rjust(27) for model in WAYS), "ratios".rjust(14), sep="")
        for concurrency in REQUESTS:
            rates, firsts = (
                [statistics.median(getattr(one, name) for one in found[model, stream, concurrency]) for model in WAYS]
                for name in ("tokens_per_s", "ttft_ms")
            )
            ratios = "  ".join(f"{rate / rates[0]:.2f}" for rate in rates[1:])
            first = f"   first token after {', '.join(f'{ms:.1f}' for ms in firsts)} ms" if stream else ""
            print(f"{concurrency:8d}", *(f"{rate:27.0f}" for rate in rates), f"{ratios:>14}", first, sep="")


if __name__ == "__main__":
    raise SystemExit(main())
