"""Two real servers behind a real HAProxy: one is killed under load, and no request is lost that had not begun."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tritonlab import serve
from tritonlab.errors import ClientError, ServerUnreachable, TritonlabError
from tritonlab.servers import leftovers
from tritonlab.servers.balancer import Balancer, find
from tritonlab.servers.kept import KeptServer

COUNT_CONFIG = """
name: "count"
backend: "python"
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [ { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
COUNT_MODEL = """
import os, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

SLOWLY = threading.Semaphore(3)  # three answers at a time: the others have not begun


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=[request.get_response_sender()]).start()

    def answer(self, sender):
        with SLOWLY:
            for number in range(10):
                word = f"{os.environ['REPLICA']}{number} ".encode()
                tensor = pb_utils.Tensor("text_output", np.array([word], dtype=object))
                sender.send(pb_utils.InferenceResponse([tensor]))
                time.sleep(0.08)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REQUESTS, AT_ONCE = 30, 16
BEFORE_THE_KILL = 6  # answers of a that have come to their fourth piece: three are done, and three under way


@dataclass
class Answer:
    """What a client got: the pieces, and the error that ended them."""

    pieces: list[str]
    error: ClientError | None = None


@pytest.fixture(autouse=True)
def _haproxy() -> None:
    try:
        find()
    except TritonlabError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(error.what)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[KeptServer]]:
    (tmp_path / "count" / "1").mkdir(parents=True)
    (tmp_path / "count" / "config.pbtxt").write_text(COUNT_CONFIG)
    (tmp_path / "count" / "1" / "model.py").write_text(COUNT_MODEL)
    with (
        serve(tmp_path, target="local", environment={"REPLICA": "a"}) as one,
        serve(tmp_path, target="local", environment={"REPLICA": "b"}) as two,
    ):
        started = [one.wait_ready(quiet=True), two.wait_ready(quiet=True)]
        yield [server for server in started if isinstance(server, KeptServer)]


def test_a_replica_killed_under_load_loses_only_what_it_had_begun(replicas: list[KeptServer]) -> None:
    fourth_piece = threading.Semaphore(0)

    def ask(_: int) -> Answer:
        answer = Answer([])
        try:
            for piece in balancer.client.stream("count", "go"):
                answer.pieces.append(piece)
                if piece == "a3 ":
                    fourth_piece.release()
        except ClientError as error:
            answer.error = error
        return answer

    with Balancer(replicas, ["count"]) as balancer, ThreadPoolExecutor(AT_ONCE) as pool:
        balancer.wait_ready(quiet=True)
        asked = [pool.submit(ask, number) for number in range(REQUESTS)]
        for _ in range(BEFORE_THE_KILL):
            assert fourth_piece.acquire(timeout=30)
        [victim] = [pid for pid, line in replicas[0].processes().items() if line.split()[0].endswith("/tritonserver")]
        os.kill(victim, signal.SIGKILL)
        answers = [future.result(timeout=60) for future in asked]

    lost = [answer for answer in answers if answer.error]
    assert all(answer.pieces for answer in lost), "a request that had not begun was lost"
    assert all(isinstance(answer.error, ServerUnreachable) for answer in lost)
    assert all("broke off in the middle" in str(answer.error) for answer in lost)
    assert lost, "the kill came between two answers: nothing was put to the test"
    whole = [answer for answer in answers if not answer.error]
    assert all([piece[1] for piece in answer.pieces] == list("0123456789") for answer in whole)
    assert {answer.pieces[0][0] for answer in answers} == {"a", "b"}
    assert len(whole) + len(lost) == REQUESTS
    assert {piece[0] for answer in lost for piece in answer.pieces} == {"a"}


def test_the_balancer_ends_with_its_block_and_asks_only_who_is_ready(replicas: list[KeptServer]) -> None:
    with Balancer(replicas, ["count"]) as balancer:
        balancer.wait_ready(quiet=True)
        replicas[0].unload("count")
        _is_told(balancer, "http_replicas/triton1 is DOWN")
        assert {piece[0] for _ in range(4) for piece in balancer.client.stream("count", "go")} == {"b"}
        replicas[1].unload("count")
        _is_told(balancer, "http_replicas/triton2 is DOWN")
        with pytest.raises(ClientError, match="503"):
            list(balancer.client.stream("count", "go"))
    assert leftovers.processes(balancer.id) == []
    assert not balancer.live()


def _is_told(balancer: Balancer, line: str, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while line not in balancer.log_path.read_text():
        assert time.monotonic() < deadline, balancer.log_path.read_text()
        time.sleep(0.1)
