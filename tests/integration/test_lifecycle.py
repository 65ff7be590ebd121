"""A server ends with whatever held it, and leaves nothing behind. Linux's /proc is the judge."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.conftest import ECHO_CONFIG, tutor_repository
from tritonlab import Client, serve
from tritonlab.errors import ServerFailed, TritonlabError
from tritonlab.servers import leftovers, ports
from tritonlab.servers.kept import STOP_WAIT_S

ECHO_MODEL = """
import multiprocessing, os, time
import triton_python_backend_utils as pb_utils


def engine():
    import setproctitle

    setproctitle.setproctitle("VLLM::EngineCore")
    memory = b"x" * (int(os.environ.get("ECHO_MIB", "0")) << 20)
    time.sleep(600)


class TritonPythonModel:
    def initialize(self, args):
        # As vLLM does: a process with a title of its own, which outlives a killed stub unless someone ends it.
        self.engine = multiprocessing.get_context("fork").Process(target=engine)
        self.engine.start()

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("text_output", pb_utils.get_input_tensor_by_name(r, "text_input").as_numpy())]
            )
            for r in requests
        ]

    def finalize(self):
        self.engine.kill()
"""
HOLDER = """
import sys
from tritonlab import serve
server = serve(sys.argv[1], target="local")
print(server.id, server._keeper.pid, flush=True)
server.wait_ready(quiet=True)
print("ready", flush=True)
sys.stdin.read()
"""
KILLS = 30


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one small Python model: starts in two seconds, with a child process as vLLM has."""
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo" / "1").mkdir(parents=True)
    (folder / "echo" / "config.pbtxt").write_text(ECHO_CONFIG)
    (folder / "echo" / "1" / "model.py").write_text(ECHO_MODEL)
    return folder


@pytest.fixture(autouse=True)
def nothing_new_in_shared_memory() -> Iterator[None]:
    before = _shared_memory()
    yield
    assert _shared_memory() <= before


def _shared_memory() -> set[str]:
    """Regions of servers that have ended; tests that run beside these have their own."""
    names = {name for name in os.listdir("/dev/shm") if name.startswith("tritonlab_")}
    return {name for name in names if not leftovers.processes(name.removeprefix("tritonlab_").split("_")[0])}


def _gone(session: int, within: float = 30.0) -> list[str]:
    """What still runs of a server: its keeper leads a session that no process of it leaves, whatever its title."""
    deadline = time.monotonic() + within
    while (left := _members(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _members(session: int) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
    return found


def _is_free(port: int) -> bool:
    return ports.choose({"http": port})["http"] == port


def test_with_block_ends_everything(echo: Path) -> None:
    with serve(echo, target="local") as server:
        server.wait_ready(quiet=True)
        server_id, port = server.id, int(server.url.rsplit(":", 1)[1])
        assert "VLLM::EngineCore" in _members(server._keeper.pid)
    assert _gone(server._keeper.pid, within=0) == []
    assert not leftovers.temporary_folder(server_id).exists()
    assert _is_free(port)
    assert "Started HTTPService" in server.log_path.read_text()
    server.stop()  # a second stop is harmless


def test_stop_waits_for_a_process_that_still_frees_its_memory(echo: Path) -> None:
    with serve(echo, target="local", environment={"ECHO_MIB": "3000"}) as server:
        server.wait_ready(quiet=True)
        time.sleep(3)  # the memory is being filled
        for pid in _pids("tritonserver", 0, server.id):
            os.kill(pid, signal.SIGKILL)
        server._keeper.wait(30)
        assert _gone(server._keeper.pid, within=0) == []


@pytest.mark.parametrize("seed", range(KILLS))
def test_kill_at_a_random_moment(echo: Path, seed: int) -> None:
    """SIGKILL to the process that holds the server, to tritonserver, or to the keeper, at any moment of its life."""
    chance = random.Random(seed)
    with holding(echo) as holder:
        server_id, session = _line(holder).split()
        time.sleep(chance.uniform(0, 4))
        victim = ("holder", "tritonserver", "keeper and holder")[seed % 3]
        for pid in _pids(victim, holder.pid, server_id):
            os.kill(pid, signal.SIGKILL)
    if victim == "keeper and holder":
        # Nobody is left to clean up: the next start does.
        with serve(echo, models=[], target="local"):
            pass
    assert _gone(int(session)) == []
    assert not [name for name in _shared_memory() if server_id in name]
    assert not leftovers.temporary_folder(server_id).exists()


@contextmanager
def holding(repository: Path, script: str = HOLDER) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a server until its standard input closes, in a group of its own as a kernel is."""
    command = [sys.executable, "-c", script, str(repository)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        yield holder


def _line(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline()


def _pids(victim: str, holder: int, server_id: str) -> list[int]:
    if victim == "holder":
        return [holder]
    found = {pid: _words(pid) for pid in leftovers.processes(server_id)}
    if victim == "tritonserver":
        return [pid for pid, words in found.items() if words[0].endswith("/tritonserver")]
    return [holder, *(pid for pid, words in found.items() if "tritonlab.servers.keeper" in words)]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return [""]


@pytest.mark.alone
def test_vllm_ends_with_its_server(tmp_path: Path) -> None:
    """Politely, and when a client that keeps its connection open uses the time for politeness up."""
    repository = tutor_repository(tmp_path, "tutor")
    before = set(os.listdir("/dev/shm"))
    for leave_open in (False, True):
        with serve(repository, target="local") as server:
            server.wait_ready(quiet=True)
            other = Client(server.url)
            other.metadata()
            if not leave_open:
                other.close()
            assert "VLLM::EngineCore" in _members(server._keeper.pid)
        other.close()
        assert _gone(server._keeper.pid, within=0) == []
        assert ("Exiting immediately" in server.log_path.read_text()) is leave_open
        assert set(os.listdir("/dev/shm")) <= before


def test_interrupt_reaches_the_cell_and_not_the_server(echo: Path) -> None:
    with holding(echo, HOLDER.replace("sys.stdin.read()", _INTERRUPTIBLE)) as holder:
        _, session = _line(holder).split()
        assert [_line(holder), _line(holder)] == ["ready\n", "in a cell\n"]
        os.killpg(holder.pid, signal.SIGINT)  # what Jupyter does: the kernel's whole group
        assert _line(holder) == "interrupted, server ready: True\n"
    assert _gone(int(session)) == []


_INTERRUPTIBLE = """
import time
try:
    print("in a cell", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    pass
time.sleep(1)
print("interrupted, server ready:", server.ready(), flush=True)
sys.stdin.read()
"""


def test_two_servers_do_not_collide(echo: Path) -> None:
    with serve(echo, target="local") as one, serve(echo, target="local") as two:
        one.wait_ready(quiet=True)
        two.wait_ready(quiet=True)
        assert one.url != two.url
        one.stop()
        assert two.ready()


def test_taken_port_is_refused_before_anything_starts(echo: Path) -> None:
    with serve(echo, models=[], target="local") as server:
        taken = int(server.url.rsplit(":", 1)[1])
        server.wait_ready(quiet=True)
        with pytest.raises(TritonlabError, match=f"Port {taken}, wanted for http, is taken"):
            serve(echo, target="local", ports={"http": taken})


def test_failing_model_ends_the_server_with_a_diagnosis(echo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "config.pbtxt").write_text(ECHO_CONFIG.replace("echo", "broken"))
    (tmp_path / "broken" / "1" / "model.py").write_text("import no_such_module\n")
    with serve(tmp_path, target="local") as server, pytest.raises(ServerFailed, match="no_such_module"):
        server.wait_ready(quiet=True)
    assert _gone(server._keeper.pid, within=0) == []


def test_exit_on_error_false_keeps_the_server_and_names_the_model(echo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "config.pbtxt").write_text(ECHO_CONFIG.replace("echo", "broken"))
    (tmp_path / "broken" / "1" / "model.py").write_text("import no_such_module\n")
    with serve(tmp_path, target="local", arguments=["--exit-on-error=false"]) as server:
        with pytest.raises(ServerFailed, match="broken failed to load"):
            server.wait_ready(quiet=True)
        assert server.live()
        assert not server.ready()


def test_triton_stays_after_loading_in_every_control_mode(echo: Path) -> None:
    """The course's sources say that Triton stops after a check of the configuration. It does not."""
    for mode in ("none", "explicit", "poll"):
        load = ["--load-model=echo"] if mode == "explicit" else []
        with serve(echo, target="local", arguments=[f"--model-control-mode={mode}", *load]) as server:
            server.wait_ready(quiet=True)
            time.sleep(2)
            assert server.ready()


def test_url_target_gives_the_same_handle_and_leaves_the_server(echo: Path) -> None:
    with serve(echo, target="local") as server:
        server.wait_ready(quiet=True)
        with serve(echo, models=["echo"], target=server.url) as remote:
            assert remote.wait_ready(quiet=True).ready()
        assert server.ready()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"arguments": ["--http-port=8000"]}, "Use ports="),
        ({"arguments": ["--grpc-address", "0.0.0.0"]}, "from this machine only"),
        ({"arguments": "--log-verbose=1"}, "Give a list"),
        ({"environment": {"A": 1}}, "no text"),
        ({"ports": {"http": "8000"}}, "numbers from 1"),
        ({"ports": {"http": 8000, "grpc": 8000}}, "share a port"),
        ({"log": "/nowhere/triton.log"}, "cannot be written"),
        ({"log": "/"}, "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(echo: Path, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(TritonlabError, match=words):
        serve(echo, target="local", **wanted)


def test_a_forked_child_does_not_hold_up_the_end(echo: Path) -> None:
    with serve(echo, models=[], target="local") as server:
        server.wait_ready(quiet=True)
        with multiprocessing.get_context("fork").Pool(1):
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < STOP_WAIT_S
        assert not server.live()


def test_a_server_that_dies_ends_the_wait(echo: Path) -> None:
    with serve(echo, "echo", target="local") as server:
        server.wait_ready(quiet=True)
        assert server.models == ("echo",)
        for pid in _pids("tritonserver", 0, server.id):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ServerFailed, match="has ended"):
            server.wait()


def test_log_goes_where_it_is_wanted(echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "triton.log").write_text("kept from before\n")
    monkeypatch.chdir(tmp_path)
    with serve(echo, models=[], target="local", log="triton.log") as server:
        monkeypatch.chdir("/")
        server.wait_ready(quiet=True)
        assert server.report().verdict == "ready"
    assert re.match(r"kept from before\n[\s\S]+Started HTTPService", (tmp_path / "triton.log").read_text())
    record = json.loads((server._folder / "exit.json").read_text())
    assert record == {"code": 0}
