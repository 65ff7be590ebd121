"""vLLM's own offline engine, run inside the engine's environment: reads `CONCURRENCY REQUESTS` lines, prints tokens/s.

Called by serving.py; the engine stays up between lines so that measurements can alternate with those of servers.
"""

import json
import sys
import time

from vllm import LLM, SamplingParams


def main() -> None:
    settings, question, tokens = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    engine = LLM(**settings, disable_log_stats=True)
    params = SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0)
    print("READY", flush=True)
    for line in sys.stdin:
        concurrency, requests = map(int, line.split())
        started = time.perf_counter()
        for _ in range(requests // concurrency):
            engine.generate([question] * concurrency, params, use_tqdm=False)
        print("RATE", requests * tokens / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":  # vLLM spawns processes that import this file again
    main()
