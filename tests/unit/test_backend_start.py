"""What the vllm backend says of a start that does not end. vLLM and Triton are stood in for: a real one ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tritonlab

BACKEND = Path(tritonlab.__file__).parent / "engine" / "backends" / "vllm"
COMPAT = """
import asyncio, time
REFUSALS, EngineDeadError = (), OSError
engine_args, runner = dict, asyncio.Runner

def start(arguments, stat_logger):
    time.sleep(arguments["seconds"])
    raise RuntimeError("the start has ended")
"""
TRITON = "TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1\n"


def start(folder: Path, seconds: float) -> str:
    (folder / "compat.py").write_text(COMPAT)
    (folder / "triton_python_backend_utils.py").write_text(TRITON)
    code = f"import engine; engine.STANDS_STILL_S = 0.5; engine.Engine('gemma', {{'seconds': {seconds}}})"
    paths = os.pathsep.join(map(str, [folder, BACKEND]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert "RuntimeError: the start has ended" in done.stderr
    return done.stderr


def test_the_log_tells_where_a_start_stands(tmp_path: Path) -> None:
    said = start(tmp_path, 2)
    assert said.startswith("Timeout (0:00:00.500000)!\nThread 0x")
    assert 'compat.py", line 7 in start' in said
    assert 'engine.py"' in said.partition("in start")[2]


def test_a_start_that_ends_says_nothing_more(tmp_path: Path) -> None:
    assert "Timeout" not in start(tmp_path, 0)
