"""The client, the command line and a plain script against the real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import ENGINE_ARGUMENTS, tutor_repository
from tritonlab import Client, VllmModel, course, data, serve
from tritonlab.engine.tutor import questions
from tritonlab.errors import ModelNotReady, RequestRejected, TritonlabError
from tritonlab.servers import Server

QUESTION = "Why is the sky blue?"
ANSWERS = {question.question: question.answer for question in questions()}
RUSSIAN = "Расскажи в трех предложениях, почему небо голубое."

# What a person writes after reading about server-sent events: nothing of this package, [DONE] handled in case it comes.
SCRIPT = """
import json
import requests

url = "http://localhost:8000/v2/models/gemma/generate_stream"
sampling_parameters = {"max_tokens": 256, "temperature": 0.7}
payload = {
    "text_input": "Расскажи в трех предложениях, почему небо голубое.",
    "stream": True,
    "sampling_parameters": json.dumps(sampling_parameters),
}
done = False
with requests.post(url, json=payload, stream=True) as response:
    response.raise_for_status()
    for line in response.iter_lines():
        if line:
            decoded_line = line.decode("utf-8")
            if decoded_line.startswith("data: "):
                content = decoded_line[len("data: "):]
                if content == "[DONE]":
                    done = True
                    break
                print(json.loads(content).get("text_output", ""), end="", flush=True)
print()
print("[DONE] was sent:", done)
"""


def test_script_for_port_8000_works_unchanged(tmp_path: Path) -> None:
    repository = tutor_repository(tmp_path, "gemma")
    with serve(repository, models=["gemma"], target="local", ports={"http": 8000}) as server:
        server.wait_ready(quiet=True)
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    text, sign = done.stdout.strip().splitlines()
    assert text.strip() == ANSWERS[RUSSIAN]
    assert sign == "[DONE] was sent: False"


def test_health_and_metadata(server: Server) -> None:
    client = server.client
    assert client.live()
    assert client.ready()
    assert client.model_ready("tutor")
    assert client.model_ready("tutor", "1")
    assert not client.model_ready("tutor", "7")
    assert not client.model_ready("nobody")
    assert client.metadata()["name"] == "triton"
    assert client.model_metadata("tutor")["name"] == "tutor"
    assert client.config("tutor")["model_transaction_policy"]["decoupled"]
    assert set(client.index().state) == {"READY"}


def test_generate_is_typed(server: Server) -> None:
    answer = server.client.generate("tutor", QUESTION, max_tokens=100, temperature=0)
    assert answer.text == f" {ANSWERS[QUESTION]}"
    assert answer.finish_reason == "stop"
    assert answer.num_input_tokens is not None
    assert answer.num_output_tokens is not None
    assert answer.num_output_tokens > 10
    assert (answer.model, answer.version) == ("tutor", "1")
    assert answer.tokens_per_second
    assert answer.time_to_first_token is None


def test_stream_tells_the_same_over_http_and_grpc(server: Server) -> None:
    sampling = {"max_tokens": 100, "temperature": 0}
    whole = server.client.generate("tutor", QUESTION, **sampling)
    for ask in (server.client.stream, server.client.stream_grpc):
        stream = ask("tutor", QUESTION, **sampling)
        assert "".join(stream) == whole.text
        assert stream.result.finish_reason == "stop"
        assert stream.result.num_output_tokens == whole.num_output_tokens
        assert stream.result.time_to_first_token is not None
        assert 0 < stream.result.time_to_first_token <= stream.result.seconds


@pytest.mark.parametrize("way", ["generate", "stream", "stream_grpc"])
def test_refusals_are_told_the_same_every_way(server: Server, way: str) -> None:
    def ask(model: str, **sampling: object) -> None:
        answer = getattr(server.client, way)(model, QUESTION, **sampling)
        list(answer) if way != "generate" else None

    with pytest.raises(ModelNotReady):
        ask("nobody")
    with pytest.raises(RequestRejected, match="Did you mean 'max_tokens'"):
        ask("tutor", max_token=3)
    ask("tutor", max_tokens=2)


def test_log_probabilities(server: Server) -> None:
    answer = server.client.generate("tutor", QUESTION, max_tokens=3, temperature=0, logprobs=1, return_logprobs=True)
    assert len(json.loads(answer.raw["logprobs"])) == 3


def test_statistics_and_metrics_count(server: Server) -> None:
    def successes() -> float:
        metrics = server.client.metrics()
        rows = metrics[metrics.name == "nv_inference_request_success"]
        return float(
            sum(value for labels, value in zip(rows.labels, rows.value, strict=True) if labels["model"] == "tutor")
        )

    before, counted = int(server.client.statistics("tutor").inference_count[0]), successes()
    for _ in range(3):
        server.client.generate("tutor", QUESTION, max_tokens=2)
    assert int(server.client.statistics("tutor").inference_count[0]) == before + 3
    assert successes() == counted + 3


def test_log_settings(server: Server) -> None:
    assert server.client.log_settings()["log_verbose_level"] == 0
    assert server.client.log_settings(log_verbose_level=1)["log_verbose_level"] == 1
    server.client.log_settings(log_verbose_level=0)


def test_load_with_a_configuration_and_files_of_the_request(tmp_path: Path) -> None:
    """A server without one model is taught one by request alone."""
    with serve(tutor_repository(tmp_path, "base"), models=[], target="local") as server:
        server.wait_ready(quiet=True)
        config = server_config(VllmModel("base", **ENGINE_ARGUMENTS))
        server.client.load("base", config, {"1/model.json": json.dumps(ENGINE_ARGUMENTS).encode()})
        assert server.client.generate("base", QUESTION, max_tokens=2).num_output_tokens == 2
        server.client.unload("base")
        assert not server.client.model_ready("base")


def server_config(model: VllmModel) -> dict[str, object]:
    from google.protobuf import json_format

    config: dict[str, object] = json_format.MessageToDict(model.config(), preserving_proto_field_name=True)
    return config


def test_many_clients_at_once_get_their_own_answers(server: Server) -> None:
    chosen = list(ANSWERS)[:24]

    def ask(question: str) -> str:
        with Client(server.url) as client:
            return "".join(client.stream("tutor", question, max_tokens=120, temperature=0))

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, chosen))
    alone = [server.client.generate("tutor", question, max_tokens=120, temperature=0).text for question in chosen]
    assert sum(together == single for together, single in zip(answers, alone, strict=True)) >= 23


def test_remote_target_and_the_environment_variable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONLAB_TARGET", server.url)
    with serve("nowhere", models=["tutor"]) as remote:
        assert remote.target == "remote"
        assert remote.wait_ready(timeout=5, quiet=True).client.generate("tutor", QUESTION, max_tokens=1).text
        with pytest.raises(TritonlabError, match="where that server runs"):
            remote.report()
    assert server.ready()


def test_ask_from_a_shell(server: Server) -> None:
    command = [Path(sys.executable).with_name("tritonlab"), "ask", QUESTION, "--model", "tutor", "--url", server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ANSWERS[QUESTION][:40] in done.stdout


def test_serve_from_a_shell(tmp_path: Path) -> None:
    """It tells its stages and its address, and Ctrl-C ends it."""
    tutor_repository(tmp_path, "tutor")
    command = [Path(sys.executable).with_name("tritonlab"), "serve", str(tmp_path), "--target", "local"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if "Ctrl-C" in line:
                break
        url = next(word.rstrip(",") for word in "".join(told).split() if word.startswith("http://"))
        assert requests.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "models ready" in "".join(told)


def test_logs_followed_from_a_shell(tmp_path: Path) -> None:
    """Each stage and the cause are told once, when they come; Ctrl-C ends it with the verdict's exit code."""
    log = tmp_path / "server.log"
    whole = data("logs/local-triton-vllm-engine-core-killed.log").read_text().splitlines(keepends=True)
    log.write_text("".join(whole[:20]))
    command = [Path(sys.executable).with_name("tritonlab"), "logs", log, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [next(process.stdout)]
        with log.open("a") as file:
            file.writelines(whole[20:])
        for line in process.stdout:
            told.append(line)
            if line == "== failed\n":
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
    assert "weights: reached\n" in told
    assert len(told) == len(set(told))


def test_server_log_reads_as_ready(server: Server) -> None:
    report = server.report()
    assert report.verdict == "ready"
    assert set(report.services) == {"http", "grpc", "metrics"}
    assert set(report.models.name) == {"tutor", "gemma"}
    assert set(report.models.status) == {"READY"}
    assert report.memory["kv_cache"] == pytest.approx(2**30, rel=0.01)
    assert {"weights", "KV cache", "engine", "models ready", "services"} <= set(report.stages.stage)
    assert (report.stages.status == "reached").all()
    assert not [finding for finding in report.findings if finding.severity == "error"]


def test_course_folder_is_found_from_anywhere_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(course.root() / "notebooks")
    assert course.data("logs/index.toml").exists()
