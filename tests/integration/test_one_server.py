"""Several instances and models on one real server: what the rate limiter holds back, and what the cache remembers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.conftest import ECHO_CONFIG
from tritonlab import serve
from tritonlab.errors import ServerFailed
from tritonlab.servers import Server

MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            begin = time.time()
            time.sleep(0.2)
            word = f"{begin} {time.time()}".encode()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("text_output", np.array([word], dtype=object))]))
        return answers
"""
TWO = "instance_group [ { count: 2 kind: KIND_CPU %s } ]"
SHARED = 'rate_limiter { resources [ { name: "turn" global: true count: 1 } ] }'
CACHED = "response_cache { enable: true }"
CACHE = "--cache-config=local,size=1048576"


def _add(folder: Path, name: str, more: str) -> None:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(ECHO_CONFIG.replace("echo", name) + more)
    (folder / name / "1" / "model.py").write_text(MODEL)


def _overlaps(server: Server, *models: str) -> int:
    """How many of some executions, asked for at once, begin before the one before has ended."""
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda at: server.client.generate(models[at % len(models)], f"{at}"), range(8))
        times = sorted(tuple(map(float, answer.text.split())) for answer in answers)
    return sum(after[0] < before[1] for before, after in pairwise(times))


def test_instances_run_side_by_side_unless_they_share_a_resource(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _add(tmp_path, name, TWO % SHARED)
    with serve(tmp_path, target="local") as server:
        server.wait_ready(quiet=True)
        assert _overlaps(server, "one", "two"), "without --rate-limit the file's resources count for nothing"
    with serve(tmp_path, target="local", arguments=["--rate-limit=execution_count"]) as server:
        server.wait_ready(quiet=True)
        assert _overlaps(server, "one", "two") == 0
        assert {"one", "two"} == set(server.client.index().query("state == 'READY'").name)


def test_an_answer_from_the_cache_is_not_computed_again(tmp_path: Path) -> None:
    _add(tmp_path, "cached", TWO % "" + CACHED)
    with serve(tmp_path, target="local", arguments=[CACHE]) as server:
        server.wait_ready(quiet=True)
        first, again, other = [server.client.generate("cached", prompt).text for prompt in ("a", "a", "b")]
        assert first == again != other
        [counted] = server.client.statistics("cached").to_dict("records")
        assert (counted["inference_stats.success.count"], counted["execution_count"]) == (3, 2)
        assert counted["inference_stats.cache_hit.count"] == 1


def test_a_decoupled_model_cannot_be_cached_and_triton_says_so(tmp_path: Path) -> None:
    _add(tmp_path, "stream", CACHED + "model_transaction_policy { decoupled: true }")
    with (
        serve(tmp_path, target="local", arguments=[CACHE]) as server,
        pytest.raises(
            ServerFailed, match="does not currently support model stream with 'decoupled' transaction policy"
        ),
    ):
        server.wait_ready(quiet=True)
