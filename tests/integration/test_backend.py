"""The vLLM backend's contract, on the real server: what NVIDIA's backend promises, and that nothing kills the stub."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc

from tests.integration.conftest import ENGINE_ARGUMENTS, tutor_repository
from tritonlab import ModelRepository, VllmModel, serve
from tritonlab.engine import Engine
from tritonlab.engine.tutor import MODEL, questions
from tritonlab.errors import ClientError, ModelNotReady, RequestRejected
from tritonlab.servers import Server, leftovers

QUESTION = "Why is the sky blue?"
ANSWER = next(q.answer for q in questions() if q.question == QUESTION)


def generate(server: Server, model: str = "tutor", **body: Any) -> requests.Response:
    return requests.post(f"{server.url}/v2/models/{model}/generate", json=body, timeout=60)


def events(server: Server, model: str = "tutor", **body: Any) -> list[dict[str, Any]]:
    url = f"{server.url}/v2/models/{model}/generate_stream"
    with requests.post(url, json=body, stream=True, timeout=60) as reply:
        return [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith(b"data: ")]


def greedy(**more: Any) -> str:
    return json.dumps({"temperature": 0, "max_tokens": 100, **more})


class TestAnswers:
    def test_prompt_comes_first_unless_excluded(self, server: Server) -> None:
        whole = generate(server, text_input=QUESTION, sampling_parameters=greedy()).json()
        assert whole["text_output"] == f"{QUESTION} {ANSWER}"
        bare = generate(server, text_input=QUESTION, sampling_parameters=greedy(), exclude_input_in_output=True)
        assert bare.json()["text_output"] == f" {ANSWER}"

    def test_stream_sends_the_same_text_in_pieces(self, server: Server) -> None:
        pieces = events(server, text_input=QUESTION, stream=True, sampling_parameters=greedy())
        assert len(pieces) > 5
        assert "".join(piece["text_output"] for piece in pieces) == f" {ANSWER}"

    def test_stream_with_echo_is_refused(self, server: Server) -> None:
        [event] = events(server, text_input=QUESTION, stream=True, exclude_input_in_output=False)
        assert "exclude_input_in_output" in event["error"]

    def test_optional_outputs(self, server: Server) -> None:
        wants = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens", "num_output_tokens")
        asked = {f"return_{name}": True for name in wants}
        sampling = greedy(max_tokens=5, logprobs=2)
        reply = generate(server, text_input=QUESTION, sampling_parameters=sampling, **asked).json()
        assert reply["finish_reason"] == "length"
        assert reply["num_output_tokens"] == 5
        assert reply["num_input_tokens"] > 3
        assert reply["cumulative_logprob"] <= 0
        steps = json.loads(reply["logprobs"])
        assert len(steps) == 5
        assert {"logprob", "rank", "decoded_token"} == set(next(iter(steps[0].values())))
        assert set(wants).isdisjoint(generate(server, text_input=QUESTION).json())

    def test_counts_of_a_stream_add_up(self, server: Server) -> None:
        sampling = greedy(max_tokens=20, ignore_eos=True)
        pieces = events(
            server, text_input=QUESTION, stream=True, sampling_parameters=sampling, return_num_output_tokens=True
        )
        assert sum(piece["num_output_tokens"] for piece in pieces) == 20

    def test_several_answers_to_one_request(self, server: Server) -> None:
        sampling = json.dumps({"n": 3, "temperature": 1.5, "seed": 1, "max_tokens": 12})
        reply = generate(server, text_input=QUESTION, sampling_parameters=sampling, exclude_input_in_output=True).json()
        assert len(reply["text_output"]) == 3

    def test_several_answers_in_one_stream(self, server: Server) -> None:
        # A prompt that the model has no answer to: with a known one the three are the same at any temperature.
        asked = {
            "text_input": "zq",
            "sampling_parameters": json.dumps({"n": 3, "temperature": 2, "seed": 1, "max_tokens": 12}),
            "ignore_eos": True,
            "return_num_output_tokens": True,
        }
        pieces = events(server, stream=True, **asked)
        counts = np.array([piece["num_output_tokens"] for piece in pieces])  # (pieces, 3)
        assert counts.sum(axis=0).tolist() == [12, 12, 12]
        texts = ["".join(parts) for parts in zip(*(piece["text_output"] for piece in pieces), strict=True)]
        whole = generate(server, exclude_input_in_output=True, **asked).json()
        assert sorted(texts) == sorted(whole["text_output"])
        assert len(set(texts)) == 3

    def test_parameters_of_the_request_and_nested(self, server: Server) -> None:
        flat = generate(server, text_input=QUESTION, exclude_input_in_output=True, max_tokens=4, temperature=0)
        nested = generate(
            server,
            text_input=QUESTION,
            parameters={"exclude_input_in_output": True, "max_tokens": 4, "temperature": 0},
        )
        assert flat.json()["text_output"] == nested.json()["text_output"]
        # The tensor counts more than the parameter.
        both = generate(
            server,
            text_input=QUESTION,
            max_tokens=4,
            sampling_parameters=greedy(max_tokens=2),
            return_num_output_tokens=True,
        )
        assert both.json()["num_output_tokens"] == 2

    def test_official_casts(self, server: Server) -> None:
        sampling = json.dumps({"max_tokens": "3", "temperature": "0", "ignore_eos": "true"})
        reply = generate(server, text_input=QUESTION, sampling_parameters=sampling, return_num_output_tokens=True)
        assert reply.json()["num_output_tokens"] == 3

    def test_guided_decoding(self, server: Server) -> None:
        sampling = greedy(guided_decoding=json.dumps({"choice": ["yes", "no"]}))
        reply = generate(server, text_input="Is it?", sampling_parameters=sampling, exclude_input_in_output=True)
        assert reply.json()["text_output"] in ("yes", "no")

    def test_minimal_config_is_completed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "models" / "short" / "1").mkdir(parents=True)
        config = 'backend: "vllm"\ninstance_group [{ kind: KIND_MODEL }]\n'
        (tmp_path / "models" / "short" / "config.pbtxt").write_text(config)
        (tmp_path / "models" / "short" / "1" / "model.json").write_text(json.dumps(ENGINE_ARGUMENTS))
        # A learner's own files in the working folder do not stand in for modules of the backend or of Python.
        monkeypatch.chdir(tmp_path)
        for name in ("request", "metrics", "tensors", "compat", "queue", "vllm"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('this file is not the one that was meant')\n")
        with serve("models", target="local") as server:
            server.wait_ready(quiet=True)
            assert ANSWER in generate(server, "short", text_input=QUESTION, sampling_parameters=greedy()).text
            inputs = {tensor["name"] for tensor in server.client.model_metadata("short")["inputs"]}
            written = {tensor.name for tensor in VllmModel("x", model="y").config().input}
            assert inputs == written


MALFORMED = {
    "sampling parameters that are no JSON": ({"sampling_parameters": "{max_tokens: 3"}, "not JSON"),
    "JSON that is no object": ({"sampling_parameters": "[1, 2]"}, "no object"),
    "deep JSON": ({"sampling_parameters": "[" * 100_000}, "not JSON"),
    "unknown parameter": ({"sampling_parameters": '{"max_token": 3}'}, "Did you mean 'max_tokens'"),
    "unknown key of the body": ({"temprature": 3}, "Did you mean 'temperature'"),
    "wrong type": ({"sampling_parameters": '{"temperature": "hot"}'}, "'temperature' wants"),
    "object for a number": ({"sampling_parameters": '{"max_tokens": {}}'}, "max_tokens"),
    "list for a text": ({"sampling_parameters": '{"stop": 7}'}, "stop"),
    "negative": ({"sampling_parameters": '{"max_tokens": -1}'}, "max_tokens must be at least 1"),
    "beyond one": ({"sampling_parameters": '{"top_p": 7}'}, "top_p must be in"),
    "not a number": ({"sampling_parameters": '{"temperature": NaN}'}, ""),
    "huge number": ({"sampling_parameters": '{"max_tokens": 1e400}'}, "max_tokens"),
    "too many logprobs": ({"sampling_parameters": '{"logprobs": 1000}'}, "max allowed: 20"),
    "unknown adapter": ({"sampling_parameters": '{"lora_name": "doll"}'}, "LoRA doll is not supported"),
    "image for a text model": ({"image": ["aGVsbG8="]}, "takes no images"),
    "image that is no base64": ({"image": ["§§"]}, "not base64"),
    "prompt too long": (
        {"text_input": "word " * 5000},
        "vLLM refused the request: This model's maximum context length",
    ),
    "two prompts": ({"text_input": ["one", "two"]}, ""),
    "thousands of prompts": ({"text_input": ["one"] * 5000}, ""),
    "number for a prompt": ({"text_input": 7}, "Unable to parse JSON bytes array"),
    "private field": ({"sampling_parameters": '{"_eos_token_id": 7}'}, "no sampling parameter"),
}


PARSED_BY_TRITON = {"number for a prompt"}


class TestMalformedRequests:
    """Each gets an answer that names the fault, and afterwards the model still serves."""

    @pytest.mark.parametrize("name", MALFORMED)
    def test_is_answered(self, server: Server, name: str) -> None:
        body, words = MALFORMED[name]
        reply = generate(server, **{"text_input": QUESTION, **body})
        assert reply.status_code == (500 if name in PARSED_BY_TRITON else 400), reply.text
        assert words in reply.json()["error"]
        assert "could not be read" not in reply.text
        self.still_serves(server)

    @pytest.mark.parametrize("prompt", ["", " ", "\0", "a\0b", "🦙" * 50, "\u202e"])
    def test_odd_prompts_are_served(self, server: Server, prompt: str) -> None:
        assert generate(server, text_input=prompt, max_tokens=2).status_code == 200

    def test_invalid_utf8_over_grpc(self, server: Server) -> None:
        assert "not UTF-8" in self.over_grpc(server, np.array([b"\xff\xfe\xfa"], dtype=object))
        self.still_serves(server)

    def test_shape_that_the_config_forbids(self, server: Server) -> None:
        assert self.over_grpc(server, np.array([b"a", b"b"], dtype=object))
        self.still_serves(server)

    def test_infer_is_refused_by_triton(self, server: Server) -> None:
        tensor = {"name": "text_input", "shape": [1], "datatype": "BYTES", "data": [QUESTION]}
        reply = requests.post(f"{server.url}/v2/models/tutor/infer", json={"inputs": [tensor]}, timeout=30)
        assert "decoupled" in reply.json()["error"]

    def over_grpc(self, server: Server, prompt: np.ndarray[Any, Any]) -> str:
        """The error that a prompt of raw bytes gets."""
        answers: queue.Queue[Any] = queue.Queue()
        tensor = grpc.InferInput("text_input", list(prompt.shape), "BYTES")
        tensor.set_data_from_numpy(prompt)
        with grpc.InferenceServerClient(server.grpc_url) as client:
            client.start_stream(lambda result, error: answers.put(error))
            client.async_stream_infer("tutor", [tensor])
            return str(answers.get(timeout=30))

    def still_serves(self, server: Server) -> None:
        assert server.client.generate("tutor", QUESTION, max_tokens=3, temperature=0).num_output_tokens == 3


def running(server: Server) -> int:
    metrics = server.client.metrics()
    return int(metrics[metrics.name == "vllm:num_requests_running"].value.max())


def eventually(condition: Any, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class TestCancellation:
    """`gemma` reports vLLM's metrics. A request of 900 tokens takes seconds; a cancelled one is gone long before."""

    def test_closed_stream(self, server: Server) -> None:
        assert running(server) == 0
        stream = server.client.stream("gemma", QUESTION, max_tokens=900, ignore_eos=True)
        next(iter(stream))
        assert eventually(lambda: running(server) == 1)
        stream.close()
        closed = time.monotonic()
        assert eventually(lambda: running(server) == 0)
        assert time.monotonic() - closed < 1.5

    def test_grpc_cancel(self, server: Server) -> None:
        stream = server.client.stream_grpc("gemma", QUESTION, max_tokens=900, ignore_eos=True)
        next(iter(stream))
        stream.close()
        assert eventually(lambda: running(server) == 0, within=1.5)

    def test_client_that_gives_up_on_a_plain_request(self, server: Server) -> None:
        with pytest.raises(ClientError, match="no answer within"):
            server.client.generate("gemma", QUESTION, timeout=0.3, max_tokens=900, ignore_eos=True)
        # Triton's HTTP front end sees a closed connection when it writes, and here it writes once, at the end.
        assert eventually(lambda: running(server) == 0, within=60)


class TestMetrics:
    def test_counts_are_right(self, server: Server) -> None:
        def value(name: str) -> float:
            metrics = server.client.metrics()
            return float(metrics[metrics.name == name].value.sum())

        names = [
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
            "vllm:time_to_first_token_seconds_count",
            "vllm:e2e_request_latency_seconds_count",
            "vllm:request_generation_tokens_sum",
            "vllm:request_params_n_sum",
        ]
        before = {name: value(name) for name in names}
        answers = [server.client.generate("gemma", QUESTION, max_tokens=7, ignore_eos=True) for _ in range(3)]
        prompt = answers[0].num_input_tokens
        assert prompt is not None
        wanted = dict(zip(names, (3 * prompt, 21, 3, 3, 21, 3), strict=True))
        # Triton gathers a page's figures at intervals.
        assert eventually(lambda: {name: value(name) - before[name] for name in names} == wanted), wanted

    def test_only_models_that_ask_for_them(self, server: Server) -> None:
        metrics = server.client.metrics()
        models = {labels["model"] for labels in metrics[metrics.name.str.startswith("vllm:")].labels}
        assert models == {"gemma"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ModelRepository]]:
    """A server with nothing loaded, for tests that load, break and reload."""
    repository = tutor_repository(tmp_path_factory.mktemp("stage"), "plain")
    with serve(repository, models=[], target="local") as server:
        yield server.wait_ready(quiet=True), repository


def engine_processes(server: Server) -> list[int]:
    found = []
    for pid in leftovers.processes(server.id):
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        if b"VLLM::" in name:
            found.append(pid)
    return found


class TestLoading:
    @pytest.mark.alone
    def test_five_times_leaves_nothing(self, stage: tuple[Server, ModelRepository]) -> None:
        server, _ = stage
        counts = []
        for _ in range(5):
            server.load("plain")
            assert generate(server, "plain", text_input=QUESTION, max_tokens=2).status_code == 200
            server.unload("plain")
            assert eventually(lambda: engine_processes(server) == [])
            counts.append([len(leftovers.processes(server.id)), len(list(Path("/dev/shm").iterdir()))])
        # The first load may leave what the others use again; a leak grows.
        assert all(last <= second for last, second in zip(counts[-1], counts[1], strict=True)), counts

    @pytest.mark.parametrize(
        ("arguments", "config", "words"),
        [
            (None, {}, "'model.json' containing vllm engine args must be provided"),
            ('{"model": ', {}, "model.json is not JSON"),
            ("[]", {}, "no object of engine arguments"),
            ({"gpu_mem": 0.5}, {}, "unexpected keyword argument 'gpu_mem'"),
            ({"engine_args": {}}, {}, "unexpected keyword argument 'engine_args'"),
            ({}, {"decoupled": False}, "must be decoupled"),
            ({}, {"max_batch_size": 8}, "max_batch_size 8"),
            ({"max_model_len": 1_000_000}, {}, "max_model_len"),
            ({"model": "/nowhere/to/be/found"}, {}, "/nowhere/to/be/found"),
            ({"enable_lora": True}, {}, "multi_lora.json"),
        ],
    )
    def test_faults_are_named(
        self, stage: tuple[Server, ModelRepository], arguments: Any, config: dict[str, Any], words: str
    ) -> None:
        server, repository = stage
        more = arguments if isinstance(arguments, dict) else {}
        model = repository.add(VllmModel("faulty", **{**ENGINE_ARGUMENTS, **more}), replace=True)
        if arguments is None:
            (model.path / "1" / "model.json").unlink()
        elif isinstance(arguments, str):
            (model.path / "1" / "model.json").write_text(arguments)
        text = str(model.config_text)
        if "decoupled" in config:
            text = text.replace("decoupled: true", "decoupled: false")
        if "max_batch_size" in config:
            text += f"max_batch_size: {config['max_batch_size']}\n"
        (model.path / "config.pbtxt").write_text(text)
        with pytest.raises(ClientError) as caught:
            server.load("faulty")
        assert words in caught.value.what

    def test_dead_engine_turns_the_model_not_ready(self, stage: tuple[Server, ModelRepository]) -> None:
        """NVIDIA's backend leaves every health endpoint at 200 here, and every request fails."""
        server, _ = stage
        server.load("plain")
        for pid in engine_processes(server):
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        assert eventually(lambda: not server.client.model_ready("plain"))
        assert time.monotonic() - killed < 5
        with pytest.raises(ModelNotReady):
            server.client.generate("plain", QUESTION)
        assert "the vLLM engine of model plain has died" in server.log_path.read_text()
        server.load("plain")
        assert server.client.generate("plain", QUESTION, max_tokens=100, temperature=0).text == f" {ANSWER}"
        server.unload("plain")

    def test_request_in_flight_when_the_engine_dies(self, stage: tuple[Server, ModelRepository]) -> None:
        server, _ = stage
        server.load("plain")
        stream = iter(server.client.stream("plain", QUESTION, max_tokens=900, ignore_eos=True))
        next(stream)
        for pid in engine_processes(server):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(RequestRejected, match="has died"):
            list(stream)
        assert eventually(lambda: not server.client.model_ready("plain"))

    def test_unload_with_a_request_in_flight(self, stage: tuple[Server, ModelRepository]) -> None:
        server, _ = stage
        server.load("plain")
        stream = iter(server.client.stream("plain", QUESTION, max_tokens=300, ignore_eos=True))
        next(stream)
        server.unload("plain")
        assert not server.client.model_ready("plain")
        list(stream)  # Triton lets it finish first

    def test_lora(self, stage: tuple[Server, ModelRepository], tmp_path: Path) -> None:
        server, repository = stage
        subprocess.run([Engine.find().python, "-c", MAKE_ADAPTER, str(MODEL), str(tmp_path)], check=True)
        model = repository.add(
            VllmModel("adapted", **ENGINE_ARGUMENTS, enable_lora=True, max_lora_rank=8), replace=True
        )
        (model.path / "1" / "multi_lora.json").write_text(json.dumps({"loud": str(tmp_path)}))
        server.load("adapted")
        plain = server.client.generate("adapted", QUESTION, max_tokens=30, temperature=0).text
        loud = server.client.generate("adapted", QUESTION, max_tokens=30, temperature=0, lora_name="loud").text
        again = server.client.generate("adapted", QUESTION, max_tokens=30, temperature=0).text
        assert plain == again != loud
        with pytest.raises(RequestRejected, match="we currently support \\['loud'\\]"):
            server.client.generate("adapted", QUESTION, lora_name="quiet")
        server.unload("adapted")


# Random low-rank weights for the query projections, strong enough to change what the model says.
MAKE_ADAPTER = """
import json, pathlib, sys, torch
from safetensors.torch import save_file

config = json.loads((pathlib.Path(sys.argv[1]) / "config.json").read_text())
hidden, rank = config["hidden_size"], 8
torch.manual_seed(0)
weights = {}
for layer in range(config["num_hidden_layers"]):
    name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    weights[f"{name}.lora_A.weight"] = torch.randn(rank, hidden)
    weights[f"{name}.lora_B.weight"] = torch.randn(hidden, rank)
folder = pathlib.Path(sys.argv[2])
save_file(weights, folder / "adapter_model.safetensors")
adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16, "lora_dropout": 0.0,
           "bias": "none", "target_modules": ["q_proj"], "base_model_name_or_path": sys.argv[1]}
(folder / "adapter_config.json").write_text(json.dumps(adapter))
"""
