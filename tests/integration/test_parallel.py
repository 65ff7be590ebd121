"""One model in two ranks on this processor: the answers stay, and no rank or memory of one outlives its server."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.conftest import tutor_repository
from tritonlab import serve
from tritonlab.servers import Server, leftovers

QUESTIONS = ("Why is the sky blue?", "What is tensor parallelism?")
SMALL = {"kv_cache_memory_bytes": 128 << 20}


def _ends_whole(server_id: str, within: float = 20.0) -> bool:
    """Whether the server's processes and all that they shared are gone soon."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        shared = list(Path("/dev/shm").glob(f"{leftovers.shm_prefix(server_id)}*"))
        if not shared and not leftovers.processes(server_id):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.alone
@pytest.mark.parametrize("size", ["tensor_parallel_size", "pipeline_parallel_size"])
def test_two_ranks_answer_as_one_and_leave_nothing(size: str, server: Server, tmp_path: Path) -> None:
    """One of the two is stopped, the other killed: tensor parallelism's server gets no chance to clean up."""
    before = set(os.listdir("/dev/shm"))
    with serve(tutor_repository(tmp_path, "tutor", **SMALL, **{size: 2}), target="local") as split:
        split.wait_ready(quiet=True)
        titles = " ".join(split.processes().values())
        letters = "".join(word[0].upper() for word in size.split("_")[:2])
        assert all(f"VLLM::Worker_{letters}{rank}" in titles for rank in range(2)), titles
        for question in QUESTIONS:
            [one, two] = [s.client.generate("tutor", question, max_tokens=48, temperature=0) for s in (server, split)]
            assert two.text == one.text
        assert "tokens, Maximum concurrency" in split.log_path.read_text()
        if size == "tensor_parallel_size":
            [pid] = [pid for pid, line in split.processes().items() if line.split()[0].endswith("/tritonserver")]
            os.kill(pid, signal.SIGKILL)
            assert _ends_whole(split.id)
    assert _ends_whole(split.id)
    assert set(os.listdir("/dev/shm")) <= before


def test_single_gpu_instances_refuse_a_split_model(tmp_path: Path) -> None:
    for size in ("tensor_parallel_size", "pipeline_parallel_size"):
        repository = tutor_repository(tmp_path / size, "tutor", kind="KIND_GPU", **{size: 2})
        [problem] = repository.validate()
        assert f"{size} is 2 and config.pbtxt has KIND_GPU" in problem.what
