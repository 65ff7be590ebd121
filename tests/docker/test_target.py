"""The docker target on a real engine: it serves, it says what Docker refuses, and nothing of it is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.integration.conftest import tutor_repository
from tritonlab import DockerRun, ModelRepository, doctor, read_log, serve
from tritonlab.docker_checks import mount_test
from tritonlab.errors import ClientError, DockerError, ServerFailed, TritonlabError
from tritonlab.faults import FAULTS, provoke
from tritonlab.servers import engines, image
from tritonlab.servers.container_keeper import LABEL
from tritonlab.servers.docker import DockerServer, _folders, labelled, sweep
from tritonlab.servers.running import running
from tritonlab.servers.running import stop as stop_running

ANSWER = "Sunlight holds all colours"
HOLDER = """
import sys
from tritonlab import serve
server = serve(sys.argv[1], target="docker")
sys.stdin.read()
"""
KILLS = 20


def test_serves_what_the_local_target_serves(server: DockerServer) -> None:
    assert server.client.generate("tutor", "Why is the sky blue?", max_tokens=64).text.strip().startswith(ANSWER)
    pieces = list(server.client.stream("tutor", "Why is the sky blue?", max_tokens=64))
    assert len(pieces) > 5
    assert "nv_inference_request_success" in requests.get(str(server.metrics_url), timeout=10).text
    report = server.report()
    assert report.verdict == "ready"
    assert set(report.services) == {"grpc", "http", "metrics"}
    assert read_log(server._container).verdict == "ready", "the SDK's container is a log, too"


def test_container_is_confined(server: DockerServer) -> None:
    attributes = server._container.attrs
    bindings = server._container.ports.values()
    assert {binding["HostIp"] for bound in bindings for binding in bound} == {"127.0.0.1"}
    binds = [mount for mount in attributes["Mounts"] if mount["Type"] == "bind"]
    assert binds
    assert not any(mount["RW"] for mount in binds)
    assert server._container.exec_run(["id", "-u"]).output.strip() == b"1000"


def test_line_says_what_was_started(server: DockerServer) -> None:
    run, attributes = DockerRun.parse(server.run.render()), server._container.attrs
    made = run.sdk_arguments()
    assert attributes["Config"]["Image"] == run.image
    assert attributes["Config"]["Cmd"] == list(run.command)
    assert attributes["Config"]["WorkingDir"] == made["working_dir"]
    assert attributes["HostConfig"]["ShmSize"] == 1 << 30
    assert {mount["Destination"] for mount in attributes["Mounts"]} == {mount["Target"] for mount in made["mounts"]}
    assert not [advice for advice in run.lint() if "open on every address" in advice.what]


def test_model_is_added_changed_and_broken(server: DockerServer, repository: ModelRepository) -> None:
    tutor_repository(repository.path, "second")
    try:
        server.load("second")
        settings = repository["second"].path / "1" / "model.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_model_len": 512}))
        server.load("second")
        assert "max_seq_len=512" in server.log_path.read_text()
        settings.write_text("{")
        with pytest.raises(ClientError, match="JSON"):
            server.load("second")
        server.unload("second")
    finally:
        repository.remove("second")


def test_processes_are_those_in_the_container(server: DockerServer) -> None:
    found = server.processes()
    assert any(command.startswith("tritonserver ") for command in found.values())
    assert "VLLM::EngineCore" in found.values()


def test_token_travels_by_name(engine: engines.DockerEngine, echo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_canary0123456789"
    monkeypatch.setenv("HF_TOKEN", secret)
    with serve(echo, target="docker", environment={"OTHER": "value"}) as server:
        assert isinstance(server, DockerServer)
        server.wait_ready(quiet=True)
        assert server._container.exec_run(["sh", "-c", "echo $HF_TOKEN $OTHER"]).output.split() == [
            secret.encode(),
            b"value",
        ]
        assert secret not in repr(server.run)
        assert secret not in server.run.render()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
    for path in server._folder.iterdir():
        assert secret not in path.read_text()


def test_failed_start_tells_the_cause_and_removes_the_container(engine: engines.DockerEngine, tmp_path: Path) -> None:
    repository = tutor_repository(tmp_path / "models", "broken", gpu_memory_utilisation=0.9)
    with serve(repository, target="docker") as server:
        with pytest.raises(ServerFailed, match="gpu_memory_utilisation"):
            server.wait_ready(quiet=True)
        assert isinstance(server, DockerServer)
        assert server.id not in labelled(engine)
    assert read_log(server.log_path).verdict == "failed"


def test_command_that_cannot_run_is_told_of(engine: engines.DockerEngine, echo: Path) -> None:
    with (
        serve(echo, target="docker", arguments=["--no-such-option"]) as server,
        pytest.raises(ServerFailed, match=r"The container ended before it was ready \(exit code 1\)"),
    ):
        server.wait_ready(quiet=True)


def test_wanted_port(engine: engines.DockerEngine, echo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TritonlabError, match=f"Port {port}"):
            serve(echo, target="docker", ports={"http": port})
    with serve(echo, target="docker", ports={"http": port}) as server:
        assert server.url == f"http://127.0.0.1:{port}"
        server.wait_ready(quiet=True)


def test_image_that_cannot_be_had(engine: engines.DockerEngine, echo: Path) -> None:
    before = {server.id for server in running()}
    with pytest.raises(DockerError, match="The image cannot be pulled"):
        serve(echo, target="docker", image="tritonlab/nowhere@sha256:" + "0" * 64)
    assert {server.id for server in running()} == before


@pytest.mark.parametrize("wrong", [{"models": [Path("tutor")]}, {"ports": {"htp": 1}}, {"environment": {1: "x"}}])
def test_wrong_arguments_leave_nothing(engine: engines.DockerEngine, echo: Path, wrong: dict[str, Any]) -> None:
    before = labelled(engine)
    with pytest.raises(TritonlabError):
        serve(echo, target="docker", **wrong)
    assert labelled(engine) == before
    assert not keepers()


# Notebook 07 kills the stub and the server; CI runs it on this target.
@pytest.mark.parametrize("name", ["engine-killed", "no-permission"])
def test_fault_shows_on_this_target_too(engine: engines.DockerEngine, tmp_path: Path, name: str) -> None:
    repository = tutor_repository(tmp_path / "models", "gemma")
    report = read_log(provoke(FAULTS[name], repository, "gemma", "docker"))
    assert report.findings[0].id == FAULTS[name].cause


def test_memory_limit_is_told_of(engine: engines.DockerEngine, echo: Path) -> None:
    with serve(echo, target="docker") as server:
        assert isinstance(server, DockerServer)
        server.wait_ready(quiet=True)
        [triton] = [pid for pid, command in server.processes().items() if command.startswith("tritonserver ")]
        server._container.update(mem_limit="128m", memswap_limit="128m")
        program = f"open('/proc/{triton}/oom_score_adj', 'w').write('1000'); bytearray(300_000_000)"
        server._container.exec_run(["python3", "-c", program], user="root")
        server._keeper.wait(30)
        assert server._exit() == "exit code 137, killed because its memory ran out"


def test_ps_and_stop_find_it(engine: engines.DockerEngine, echo: Path) -> None:
    with serve(echo, target="docker") as server:
        assert isinstance(server, DockerServer)
        [found] = [one for one in running() if one.id == server.id]
        assert (found.target, found.url, found.parent) == ("docker", server.url, os.getpid())
        stop_running(server.id)
        assert server.id not in {one.id for one in running()}
        with pytest.raises(TritonlabError, match="tritonlab ps"):
            stop_running(server.id)


def held(engine: engines.DockerEngine, server_id: str) -> bool:
    return server_id in labelled(engine)


def test_container_ends_with_its_holder_killed_at_any_moment(engine: engines.DockerEngine, echo: Path) -> None:
    chance = random.Random(0)
    before = labelled(engine)
    reached = 0
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", HOLDER, str(echo)], stdin=subprocess.PIPE) as holder:
            time.sleep(chance.uniform(0.3, 3))
            reached += bool(labelled(engine) - before)
            holder.kill()
    # A keeper that had not yet made its container when its parent died must make none later.
    deadline = time.monotonic() + 60
    while keepers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert labelled(engine) == before
    assert reached > KILLS / 4, "most were killed before they had a container"


def keepers() -> list[str]:
    """The keepers of containers that run, but for those of servers that this very process started."""
    mine = f"{os.getpid()}"
    return [
        process.info["name"]
        for process in psutil.process_iter(["name", "cmdline"])
        if "tritonlab.servers.container_keeper" in (process.info["cmdline"] or [])
        and process.info["cmdline"][-1] != mine
    ]


def test_killed_keeper_is_swept_up_after(engine: engines.DockerEngine, echo: Path) -> None:
    with serve(echo, target="docker") as server:
        assert isinstance(server, DockerServer)
        os.kill(server._keeper.pid, signal.SIGKILL)
        server._keeper.wait()
        assert held(engine, server.id)
        assert server.id in sweep(engine)
        assert not held(engine, server.id)


@pytest.mark.parametrize("place", ["docker.sock", "podman/podman.sock", "context"])
def test_engine_is_found(
    engine: engines.DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A rootless engine, Podman, and the context that `docker context use` chose."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if place == "context":
        meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"lab").hexdigest() / "meta.json"
        meta.parent.mkdir(parents=True)
        endpoint = {"Host": engine.address, "SkipTLSVerify": False}
        meta.write_text(json.dumps({"Name": "lab", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": "lab"}))
        with engines.connect() as found:
            assert found.address == engine.address
        monkeypatch.setenv("DOCKER_CONTEXT", "no-such")
        with pytest.raises(DockerError, match="no-such"):
            engines.connect()
        return
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(engine.address.removeprefix("unix://"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert f"unix://{tmp_path / place}" in list(engines._sockets())
    with engines.connect() as found:
        assert found.version == engine.version


@pytest.fixture
def remote(engine: engines.DockerEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same engine as if it were on another host: over TCP, through a relay on loopback."""
    relay = Path(__file__).with_name("relay.py")
    socket_path = engine.address.removeprefix("unix://")
    with subprocess.Popen([sys.executable, str(relay), socket_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = f"tcp://127.0.0.1:{int(process.stdout.readline())}"
        monkeypatch.setenv("DOCKER_HOST", address)
        yield address
        process.terminate()


def test_remote_engine_is_handed_a_copy(remote: str, tmp_path: Path) -> None:
    repository = tutor_repository(tmp_path / "models", "tutor")
    with serve(repository, models=["tutor"], target="docker") as server:
        assert isinstance(server, DockerServer)
        assert server.engine.is_remote
        server.wait_ready(quiet=True)
        assert not [mount for mount in server._container.attrs["Mounts"] if mount["Type"] == "bind"]
        assert server.client.generate("tutor", "Why is the sky blue?", max_tokens=64).text.strip().startswith(ANSWER)
        settings = repository["tutor"].path / "1" / "model.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_model_len": 512}))
        server.unload("tutor")
        server.load("tutor")
        assert "max_seq_len=512" in server.log_path.read_text()
    with engines.connect() as engine:
        assert not engine.client.volumes.list(filters={"label": f"{LABEL}={server.id}"})


def test_image_is_laid_out_as_nvidias(engine: engines.DockerEngine) -> None:
    run = DockerRun.parse(f"docker run {image.NAME} ls /opt/tritonserver/bin /opt/tritonserver/backends")
    from tritonlab.docker_faults import start

    said = start(engine, run)
    assert "== Triton Inference Server ==" in said
    assert {"tritonserver", "python", "vllm"} <= set(said.split())
    attributes = engine.client.images.get(image.NAME).attrs["Config"]
    assert set(attributes["ExposedPorts"]) == {"8000/tcp", "8001/tcp", "8002/tcp"}
    assert attributes["User"] == "triton-server"


def test_health_check(server: DockerServer) -> None:
    deadline = time.monotonic() + 30
    while (health := _health(server)) != "healthy" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert health == "healthy"


def _health(server: DockerServer) -> str:
    server._container.reload()
    return str(server._container.attrs["State"]["Health"]["Status"])


def test_any_user_can_run_it(engine: engines.DockerEngine) -> None:
    from tritonlab.docker_faults import start

    program = "import torch._inductor.codecache, getpass; print(getpass.getuser())"
    line = f"docker run --user 4321:4321 {image.NAME} python3 -c '{program}'"
    assert "exited with code 0" in start(engine, DockerRun.parse(line))


def test_doctor_and_the_mount_test(engine: engines.DockerEngine, repository: ModelRepository) -> None:
    found = {finding.what: finding for finding in doctor()}
    assert engine.version in found["Docker engine"].found
    assert image.NAME in found["image"].found
    names = mount_test(engine, repository.path)
    assert {"tutor", "tutor/config.pbtxt", "tutor/1/model.json"} <= set(names)
    with pytest.raises(DockerError, match="cannot find the folder"):
        mount_test(engine, repository.path / "nowhere")


def test_snapshot_of_the_hub_is_shown_with_what_it_links_to(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    (blobs / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    repository = tutor_repository(tmp_path / "models", "hub", model=str(snapshot), tokenizer="")
    assert {blobs, snapshot} <= set(_folders(repository.path))
    assert Path.cwd() not in set(_folders(repository.path))
