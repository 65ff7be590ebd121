"""AIPerf against a real server: a sweep, two models in turn, a model that fails, an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import tutor_repository
from tritonlab import serve, tutor_model
from tritonlab.bench import Benchmark, bench
from tritonlab.bench.table import COLUMNS
from tritonlab.servers import Server

CANARY = "canary-5f3a91"
SMALL = {"prompt_tokens": 32, "output_tokens": 8}
# Of three requests one is answered, one fails at once and one after its first token.
UNSTEADY = """
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, arguments):
        self.seen = 0

    def execute(self, requests):
        for request in requests:
            sender, self.seen = request.get_response_sender(), self.seen + 1
            for at in range(8):
                if (self.seen % 3, at) in ((1, 0), (2, 1)):
                    sender.send(pb.InferenceResponse(error=pb.TritonError(f"no luck after {at} tokens")))
                    break
                text = pb.Tensor("text_output", np.array([b" sky"], dtype=object))
                sender.send(pb.InferenceResponse([text]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
UNSTEADY_CONFIG = """
name: "unsteady"
backend: "python"
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] }
]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tutor_repository(tmp_path_factory.mktemp("bench"), "tutor")
    version = repository.path / "unsteady" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(UNSTEADY)
    (version.parent / "config.pbtxt").write_text(UNSTEADY_CONFIG)
    with serve(repository, models=["tutor", "unsteady"], target="local") as running:
        yield running.wait_ready(quiet=True)


def test_sweep(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[str, float]] = []
    found = bench(
        server, "tutor", concurrency=(1, 3), requests=6, rounds=1, headers={"Authorization": CANARY}, **SMALL,
        progress=lambda sentence, fraction: steps.append((sentence, fraction)),
    )  # fmt: skip
    frame = found.frame
    assert tuple(frame.columns) == COLUMNS
    assert list(frame.concurrency) == [1, 3]
    assert list(frame.requests) == [6, 6]
    assert list(frame.errors) == [0, 0]
    assert found.errors.empty
    # The server's own counts: what was asked for is what was measured.
    assert list(frame.input_tokens_mean) == [32, 32]
    assert list(frame.output_tokens_mean) == [8, 8]
    assert (frame.output_tokens_per_s - 8 * frame.requests_per_s).abs().max() < 1e-6
    assert (frame.ttft_ms_p50 < frame.latency_ms_p50).all()
    for times in ("ttft_ms", "itl_ms", "latency_ms"):
        assert (frame[f"{times}_p50"] <= frame[f"{times}_p99"]).all()
    assert (frame.in_flight_mean <= frame.concurrency + 1e-6).all()
    assert frame.in_flight_mean[1] > 1
    # Little's law: the mean number under way is rate times time.
    little = frame.requests_per_s * frame.latency_ms_mean / 1000
    assert (abs(little / frame.in_flight_mean - 1) < 0.1).all()
    assert {"triton", "vllm", "aiperf", "tritonlab"} <= set(found.versions)
    assert steps[-1] == ("Measured tutor", 1.0)
    assert any(sentence.startswith("Measuring tutor: ") for sentence, _ in steps)

    saved = found.save(tmp_path / "record.json")
    assert Benchmark.load(saved) == found
    assert CANARY not in saved.read_text() + repr(found) + found._repr_html_() + str(steps)
    assert '"Authorization": "${' in json.dumps(found.record())
    assert found.figure().axes
    assert len(found.percentiles().axes) == 3


def test_comparison_with_a_model_that_fails(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tritonlab", "bench", "tutor", "--url", server.url, "--concurrency", "2"]
    command += ["--requests", "6", "--prompt-tokens", "32", "--output-tokens", "8", "--tokenizer", tutor_model()]
    command += ["--compare", f"{server.url}/unsteady", "--header", "Authorization=SECRET", "--json"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "record.json")],
        capture_output=True, text=True, env={**os.environ, "SECRET": CANARY}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    record = json.loads(done.stdout)
    assert record == json.loads((tmp_path / "record.json").read_text())
    steady, unsteady = record["benchmarks"].values()
    assert steady["errors"] == []
    assert {error["message"]: error["count"] for error in unsteady["errors"]} == {
        "no luck after 0 tokens": 2,
        "no luck after 1 tokens": 2,
    }
    (row,) = unsteady["rows"]
    assert (row["requests"], row["errors"], row["output_tokens_mean"]) == (6, 4, 8)
    (ratio,) = record["ratios"]
    assert ratio["errors"] == 4
    assert ratio["requests_per_s"] == pytest.approx(row["requests_per_s"] / steady["rows"][0]["requests_per_s"])
    assert CANARY not in done.stdout + done.stderr
    assert repr(Benchmark.of(unsteady)).startswith("4 of 6 requests FAILED")


def test_interruption_leaves_nothing(server: Server) -> None:
    command = [sys.executable, "-m", "tritonlab", "bench", "tutor", "--url", server.url, "--requests", "4000"]
    command += ["--concurrency", "4", "--prompt-tokens", "16", "--header", "Authorization=SECRET"]
    environment = {**os.environ, "SECRET": CANARY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("Measuring tutor"):
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) > 3
        assert CANARY not in str([child.cmdline() for child in children])
        process.send_signal(signal.SIGINT)
        process.wait(60)
    deadline = time.monotonic() + 30
    while alive := [child for child in children if child.is_running() and child.status() != "zombie"]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
