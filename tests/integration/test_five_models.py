"""The five models of TensorRT-LLM's repository on a real server, with the plain vLLM model beside them."""

from __future__ import annotations

import json
import queue
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc

from tritonlab import Client, ModelRepository, VllmModel, serve, tutor_model
from tritonlab.engine.tutor import questions
from tritonlab.errors import ClientError, RequestRejected, TritonlabError
from tritonlab.servers.base import Server
from tritonlab.trtllm import InflightBatcherLlm

BOTH = ("ensemble", "tensorrt_llm_bls")
QUESTION = "What is Triton?"
ENGINE = {"model": str(tutor_model()), "max_model_len": 1024, "max_num_seqs": 32, "enforce_eager": True}
DTYPES = {"BYTES": object, "FP32": "float32"}
DRAWN = {"top_k": 2000, "temperature": 2.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = ModelRepository(tmp_path_factory.mktemp("five"))
    parameters = {"REPORT_CUSTOM_METRICS": True}
    for model in InflightBatcherLlm(str(tutor_model()), vllm=ENGINE, max_batch_size=32, parameters=parameters):
        repository.add(model)
    repository.add(VllmModel("plain", **ENGINE))
    another(repository, "tensorrt_llm_bls", "accumulating", 'string_value: "false"', 'string_value: "true"')
    byte_fallback = fallback_tokenizer(repository.path.parent / "byte-fallback")
    another(repository, "postprocessing", "fallback", str(tutor_model()), str(byte_fallback))
    with serve(repository, target="local", trace=True) as running:
        running.wait_ready(quiet=True)
        yield running


def another(repository: ModelRepository, model: str, name: str, old: str, new: str) -> None:
    """A copy of a model with another name, and one text of its config.pbtxt replaced."""
    shutil.copytree(repository.path / model, repository.path / name)
    config = repository.path / name / "config.pbtxt"
    text = config.read_text().replace(f'name: "{model}"', f'name: "{name}"')
    assert old in text
    config.write_text(text.replace(old, new, 1))


def fallback_tokenizer(folder: Path) -> Path:
    """A tokenizer as Gemma's and Llama 2's: what is no token of its own comes byte by byte, as <0xE6>."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    special = [
        {"id": at, "content": words[at], "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for at in range(3)
    ]
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"))
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "merges": []}
    model["vocab"] = {word: at for at, word in enumerate(words)}
    whole = {"version": "1.0", **empty, "added_tokens": special, "model": model}
    whole["decoder"] = {"type": "Sequence", "decoders": decoders}
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.fixture
def client(server: Server) -> Client:
    return server.client


@pytest.mark.parametrize("model", BOTH)
def test_greedy_text_is_that_of_the_plain_model(client: Client, model: str) -> None:
    for question in [entry.question for entry in questions()][::12]:
        plain = client.generate("plain", question, max_tokens=48, temperature=0).text
        assert client.generate(model, question, max_tokens=48).text == plain
        assert "".join(client.stream(model, question, max_tokens=48)) == plain
    assert "".join(client.stream_grpc(model, question, max_tokens=48)) == plain


@pytest.mark.parametrize("model", BOTH)
def test_a_stream_comes_in_pieces(client: Client, model: str) -> None:
    pieces = list(client.stream(model, QUESTION, max_tokens=20))
    assert len(pieces) >= 15
    assert max(map(len, pieces)) < 20


@pytest.mark.parametrize("model", BOTH)
def test_the_prompt_comes_first_unless_it_is_excluded(server: Server, model: str) -> None:
    answer = requests.post(
        f"{server.url}/v2/models/{model}/generate", json={"text_input": QUESTION, "max_tokens": 5}, timeout=60
    ).json()
    assert answer["text_output"].startswith(QUESTION)
    assert not server.client.generate(model, QUESTION, max_tokens=5).text.startswith(QUESTION)


@pytest.mark.parametrize("model", BOTH)
def test_stop_and_bad_words(client: Client, model: str) -> None:
    whole = client.generate(model, QUESTION, max_tokens=40).text
    # The engine stops behind the stop word: the tokens of the word are part of its answer.
    assert (
        client.generate(model, QUESTION, max_tokens=40, stop_words=["xyz", "models"]).text
        == (whole[: whole.index("models") + len("models")])
    )
    assert "".join(client.stream(model, QUESTION, max_tokens=40, stop_words=["models"])).endswith("models")
    assert "open" in whole
    assert "open" not in client.generate(model, QUESTION, max_tokens=40, bad_words=["open", "source"]).text


@pytest.mark.parametrize("model", BOTH)
def test_sampling(client: Client, model: str) -> None:
    def text(**more: Any) -> str:
        return client.generate(model, QUESTION, max_tokens=24, **more).text

    greedy = text()
    assert text(temperature=2.0) == greedy, "without top_k and top_p TensorRT-LLM is greedy"
    assert text(top_k=1, temperature=2.0) == greedy
    assert (
        text(**DRAWN, seed=2)
        == text(**DRAWN, seed=2)
        == "".join(client.stream(model, QUESTION, max_tokens=24, **DRAWN, seed=2))
    )
    assert len({text(**DRAWN, seed=seed) for seed in range(4)}) > 1
    assert text(**DRAWN) == text(**DRAWN), "the seed is 0 unless the request says otherwise"
    assert text(top_p=1e-6, temperature=2.0) == greedy
    for penalty in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
        # Beyond the end of its answer the tutor repeats itself, and a penalty shows.
        asked = {"max_tokens": 100, penalty: 1.9}
        penalized = client.generate(model, QUESTION, end_id=-1, **asked).text
        assert penalized == client.generate("plain", QUESTION, ignore_eos=True, temperature=0, **asked).text
        assert penalized != client.generate(model, QUESTION, end_id=-1, max_tokens=100).text


@pytest.mark.parametrize("model", BOTH)
def test_where_an_answer_ends(client: Client, model: str) -> None:
    free = client.generate(model, QUESTION, max_tokens=100, return_log_probs=True)
    assert len(free.raw["output_log_probs"]) < 99
    assert (
        client.generate(model, QUESTION, max_tokens=60, end_id=-1, return_log_probs=True).raw["cum_log_probs"]
        < (free.raw["cum_log_probs"])
    )
    count = len(free.raw["output_log_probs"]) + 5
    longer = client.generate(model, QUESTION, max_tokens=100, min_tokens=count, return_log_probs=True)
    assert len(longer.raw["output_log_probs"]) >= count


@pytest.mark.parametrize("model", BOTH)
def test_log_probs_and_times(client: Client, model: str) -> None:
    raw = client.generate(model, QUESTION, max_tokens=8, return_log_probs=True, return_perf_metrics=True).raw
    assert len(raw["output_log_probs"]) == 8
    assert raw["cum_log_probs"] == pytest.approx(sum(raw["output_log_probs"]), abs=1e-4)
    assert raw["arrival_time_ns"] < raw["first_token_time_ns"] <= raw["last_token_time_ns"]
    assert not {"output_log_probs", "arrival_time_ns"} & set(client.generate(model, QUESTION, max_tokens=2).raw)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"beam_width": 2}, "beam_width is 2, and this engine has one beam"),
        ({"return_context_logits": True}, "logits are asked for"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"lora_task_id": 1}, "without LoRA"),
        ({"embedding_bias_words": ["a", "b"], "embedding_bias_weights": [1.0]}, "one for each word"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused_in_words(client: Client, model: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestRejected, match=words):
        client.generate(model, QUESTION, **{"max_tokens": 4, **asked})
    assert client.generate(model, QUESTION, max_tokens=2).text


def test_several_answers_want_a_stream(client: Client) -> None:
    with pytest.raises(RequestRejected, match="use stream"):
        client.generate("ensemble", QUESTION, max_tokens=4, num_return_sequences=2)
    with pytest.raises(ClientError, match="Did you mean max_tokens"):
        client.generate("ensemble", QUESTION, max_token=4)


def test_a_word_can_be_made_likely(client: Client) -> None:
    biased = {"embedding_bias_words": ["server"], "embedding_bias_weights": [100.0]}
    for model in BOTH:
        assert client.generate(model, QUESTION, max_tokens=8, **biased).text.count("server") == 8


@pytest.mark.parametrize("model", BOTH)
def test_a_batch_is_answered_prompt_by_prompt(server: Server, model: str) -> None:
    prompts = [QUESTION, "How do I stop a server?", "What does --shm-size do?"]
    found = batch(server.client, model, prompts, max_tokens=12)
    assert {row: text for row, _, text in found} == {
        row: server.client.generate(model, prompt, max_tokens=12).text for row, prompt in enumerate(prompts)
    }
    longer = batch(server.client, model, [QUESTION] * 3, max_tokens=[4, 8, 12])
    assert {row: text for row, _, text in longer} == {
        row: server.client.generate(model, QUESTION, max_tokens=4 * row + 4).text for row in range(3)
    }
    drawn = batch(server.client, model, [QUESTION] * 2, max_tokens=12, seed=[2, 3], **DRAWN)
    assert {row: text for row, _, text in drawn} == {
        row: server.client.generate(model, QUESTION, max_tokens=12, seed=row + 2, **DRAWN).text for row in range(2)
    }
    several = batch(server.client, model, prompts[:2], max_tokens=12, num_return_sequences=2, seed=2, **DRAWN)
    assert sorted((row, index) for row, index, _ in several) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({text for _, _, text in several}) > 2


def batch(client: Client, model: str, prompts: list[str], **settings: Any) -> list[tuple[int, int, str]]:
    """One request with several prompts: the row, the sequence and the text of each response.

    A setting is one for all prompts, or a list with one for each.
    """

    def tensor(name: str, values: list[Any], kind: str) -> grpc.InferInput:
        array = np.array(values, DTYPES.get(kind, kind.lower())).reshape(len(prompts), 1)
        made = grpc.InferInput(name, list(array.shape), kind)
        made.set_data_from_numpy(array)
        return made

    inputs = [
        tensor("text_input", [prompt.encode() for prompt in prompts], "BYTES"),
        tensor("exclude_input_in_output", [True] * len(prompts), "BOOL"),
    ]
    kinds = {"seed": "UINT64", "temperature": "FP32"}
    inputs += [
        tensor(name, value if isinstance(value, list) else [value] * len(prompts), kinds.get(name, "INT32"))
        for name, value in settings.items()
    ]
    answers: queue.Queue[Any] = queue.Queue()
    found = []
    with grpc.InferenceServerClient(client.grpc_url) as channel:
        channel.start_stream(lambda result, error: answers.put((result, error)))
        channel.async_stream_infer(model, inputs, enable_empty_final_response=True)
        final = False
        while not final:
            result, error = answers.get(timeout=60)
            assert error is None, error
            final = result.get_response().parameters["triton_final_response"].bool_param
            if (text := result.as_numpy("text_output")) is not None:
                row, index = (result.as_numpy(name) for name in ("batch_index", "sequence_index"))
                found.append((int(row.item()), 0 if index is None else int(index.item()), text.item().decode()))
    return found


@pytest.mark.parametrize("model", BOTH)
def test_nothing_is_lost_at_32_at_a_time(client: Client, model: str) -> None:
    asked = [entry.question for entry in questions()][:32]
    expected = [client.generate(model, question, max_tokens=24).text for question in asked]

    def whole(question: str) -> str:
        return client.generate(model, question, max_tokens=24).text

    def streamed(question: str) -> str:
        return "".join(client.stream(model, question, max_tokens=24))

    with ThreadPoolExecutor(32) as pool:
        for ask in (whole, streamed):
            assert list(pool.map(ask, asked)) == expected


TEXT = "Grüße, 日本語 😀👍🏽 naïve"


def pieces_of(server: Server, cut: Callable[[list[int]], list[list[int]]], name: str) -> list[str]:
    """What postprocessing makes of a text's tokens that come in pieces of one stream."""
    prepared = infer(
        server,
        "preprocessing",
        [
            {"name": "QUERY", "shape": [1, 1], "datatype": "BYTES", "data": [TEXT]},
            {"name": "REQUEST_OUTPUT_LEN", "shape": [1, 1], "datatype": "INT32", "data": [1]},
        ],
    )
    ids = prepared["INPUT_ID"][1:]  # without the tokenizer's <s>
    return [text_of(server, "postprocessing", piece, name) for piece in cut(ids)]


def text_of(server: Server, model: str, ids: list[int], name: str) -> str:
    """The text that a postprocessing gives for a piece of a stream."""
    inputs = [
        {"name": "TOKENS_BATCH", "datatype": "INT32", "shape": [1, 1, len(ids)], "data": ids},
        {"name": "SEQUENCE_LENGTH", "datatype": "INT32", "shape": [1, 1], "data": [len(ids)]},
    ]
    text: str = infer(server, model, inputs, name)["OUTPUT"][0]
    return text


def infer(server: Server, model: str, inputs: list[dict[str, Any]], name: str = "") -> dict[str, Any]:
    body = {"id": name, "inputs": inputs}
    answer = requests.post(f"{server.url}/v2/models/{model}/infer", data=json.dumps(body), timeout=30).json()
    return {tensor["name"]: tensor["data"] for tensor in answer["outputs"]}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_no_piece_splits_a_character(server: Server, size: int) -> None:
    found = pieces_of(server, lambda ids: [ids[at : at + size] for at in range(0, len(ids), size)], f"stream-{size}")
    assert "".join(found) == TEXT
    assert not any("\ufffd" in piece for piece in found)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_no_piece_splits_a_character_of_byte_tokens(server: Server, size: int) -> None:
    ids = [3 + byte for byte in TEXT.encode()]
    pieces = [text_of(server, "fallback", ids[at : at + size], f"bytes-{size}") for at in range(0, len(ids), size)]
    assert "".join(pieces) == TEXT


def test_streams_do_not_mix(server: Server) -> None:
    texts = {"one": "日本語", "two": "naïve 😀"}
    tokens = {name: [3 + byte for byte in text.encode()] for name, text in texts.items()}
    found = dict.fromkeys(texts, "")
    for at in range(max(map(len, tokens.values()))):
        for name, ids in tokens.items():
            found[name] += text_of(server, "fallback", ids[at : at + 1], name)
    assert found == texts


def test_tokens_that_are_none_spoil_only_their_own_request(server: Server) -> None:
    with pytest.raises(KeyError):
        text_of(server, "postprocessing", [-5], "")
    assert text_of(server, "postprocessing", [50], "")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"input_ids": [5, 10_000_000, 7]}, "vocabulary ends at 2047"),
        ({"input_ids": [5, -7, 7]}, "vocabulary"),
        ({"input_lengths": 9}, "input_lengths"),
        ({"end_id": 10_000_000, "min_tokens": 2}, "end_id holds"),
        ({"num_return_sequences": 0}, "num_return_sequences is"),
        ({"num_return_sequences": 10**9}, "num_return_sequences is"),
        ({"runtime_top_p_decay": 0.5}, "do not decay"),
    ],
)
def test_what_would_end_the_engine_is_refused(server: Server, changed: dict[str, Any], words: str) -> None:
    url = f"{server.url}/v2/models/tensorrt_llm/generate"
    asked = {"input_ids": [5, 6, 7], "input_lengths": 3, "request_output_len": 2}
    refused = requests.post(url, json={**asked, **changed}, timeout=30)
    assert words in refused.text
    assert requests.post(url, json=asked, timeout=30).json()["output_ids"][:3] == [5, 6, 7]


def test_each_response_can_hold_the_text_so_far(client: Client) -> None:
    pieces = list(client.stream("tensorrt_llm_bls", QUESTION, max_tokens=12))
    so_far = list(client.stream("accumulating", QUESTION, max_tokens=12))
    assert so_far[-1] == "".join(pieces)
    assert all(later.startswith(earlier) for earlier, later in pairwise(so_far))


@pytest.mark.parametrize("model", BOTH)
def test_log_probs_of_a_stream(client: Client, model: str) -> None:
    stream = client.stream_grpc(model, QUESTION, max_tokens=100, return_log_probs=True)
    assert "".join(stream) == client.generate(model, QUESTION, max_tokens=100).text


def test_a_stream_that_broke_off_does_not_spoil_the_next_of_its_name(server: Server) -> None:
    assert pieces_of(server, lambda ids: [ids[:10]], "again") != [TEXT]
    assert pieces_of(server, lambda ids: [ids], "again") == [TEXT]


def test_who_leaves_ends_the_work(client: Client) -> None:
    """Through tensorrt_llm_bls. Triton 2.51 does not tell a step of an ensemble that the client has gone."""
    before = tokens(client)
    stream = client.stream("tensorrt_llm_bls", QUESTION, max_tokens=1000, end_id=-1)
    next(iter(stream))
    stream.close()
    assert tokens_at_rest(client) - before < 500


def test_a_request_is_stopped_by_its_id(server: Server, client: Client) -> None:
    before = tokens(client)
    prepared = infer(
        server,
        "preprocessing",
        [
            {"name": "QUERY", "shape": [1, 1], "datatype": "BYTES", "data": [QUESTION]},
            {"name": "REQUEST_OUTPUT_LEN", "shape": [1, 1], "datatype": "INT32", "data": [1000]},
        ],
    )
    asked = {"input_ids": prepared["INPUT_ID"], "input_lengths": len(prepared["INPUT_ID"]), "request_output_len": 1000}
    url = f"{server.url}/v2/models/tensorrt_llm/generate_stream"
    with requests.post(url, json={"id": "one", **asked, "streaming": True}, timeout=60, stream=True) as running:
        lines = running.iter_lines()
        next(lines)
        requests.post(url, json={"id": "one", **asked, "stop": True}, timeout=60).raise_for_status()
        assert "cancelled" in b"".join(lines).decode()
    assert tokens_at_rest(client) - before < 500
    refused = requests.post(url, json={**asked, "stop": True}, timeout=60)
    assert "stop needs the id" in refused.text


def tokens(client: Client) -> float:
    """How many tokens the engine of tensorrt_llm has generated."""
    rows = client.metrics().query("name == 'vllm:generation_tokens_total'")
    return float(rows[[labels["model"] == "tensorrt_llm" for labels in rows.labels]].value.iloc[0])


def tokens_at_rest(client: Client) -> float:
    """The same, once it grows no more."""
    last, now = -1.0, tokens(client)
    while last != now:
        time.sleep(1.0)
        last, now = now, tokens(client)
    return now


def test_a_request_is_followed_through_the_models(server: Server, client: Client) -> None:
    with server.trace() as trace:
        client.generate("ensemble", QUESTION, max_tokens=8)
        pieces = list(client.stream("ensemble", QUESTION, max_tokens=8))
    first, second = (trace.spans.query(f"request == {number}") for number in range(2))
    assert list(first.model) == ["ensemble", "preprocessing", "tensorrt_llm", "postprocessing"]
    assert list(second.model).count("postprocessing") == len(pieces)
    for spans in (first, second):
        assert (spans.start + spans.waited <= spans.until).all()
        assert spans.until.max() == spans.until.iloc[0], "the ensemble ends last"
    with server.trace() as later:
        client.generate("ensemble", QUESTION, max_tokens=2)
    assert len(later.spans) == 4, "a trace holds what was sent within its block"


def test_a_server_that_was_not_started_to_trace_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (
        serve(tmp_path / "empty", models=[], target="local") as running,
        pytest.raises(TritonlabError, match="trace=True"),
        running.trace(),
    ):
        raise AssertionError


def test_a_model_that_is_not_decoupled_answers_once(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    settings = {"decoupled": False, "parameters": {"exclude_input_in_output": True}}
    for model in InflightBatcherLlm(str(tutor_model()), vllm=ENGINE, max_batch_size=8, **settings):
        repository.add(model)
    with serve(repository, target="local") as running:
        running.wait_ready(quiet=True)
        for name in BOTH:
            with ThreadPoolExecutor(8) as pool:
                ask = partial(running.client.generate, name, max_tokens=12)
                texts = {answer.text for answer in pool.map(ask, [QUESTION] * 8)}
            assert len(texts) == 1
            for refused, words in (({"num_return_sequences": 2}, "must be decoupled"), ({"beam_width": 2}, "one beam")):
                with pytest.raises(RequestRejected, match=words):
                    running.client.generate(name, QUESTION, max_tokens=4, **refused)
            # The parameter leaves the prompt out, and a request may say otherwise.
            echoed = running.client.generate(name, QUESTION, max_tokens=4, exclude_input_in_output=False)
            assert echoed.text.startswith(QUESTION)
            with pytest.raises(RequestRejected, match="must be decoupled"):
                list(running.client.stream(name, QUESTION, max_tokens=4))
        for words in ([5, 6, 2, 2], [5, 6, 3, -1], [5, 6, 2, 1]):
            assert "no word list" in with_bad_words(running, words)
        assert "bad_words_list holds" in with_bad_words(running, [5, 10_000_000, 1, 2])
        assert "output_ids" in with_bad_words(running, [5, 6, 1, 2])
        assert running.client.ready()


def with_bad_words(server: Server, words: list[int]) -> str:
    """What tensorrt_llm says to a prompt of three tokens, with a word list of two rows."""
    sent = {"input_ids": [5, 6, 7], "input_lengths": [3], "request_output_len": [2], "bad_words_list": words}
    shapes = {"bad_words_list": [1, 2, 2]}
    inputs = [
        {"name": name, "datatype": "INT32", "shape": shapes.get(name, [1, len(data)]), "data": data}
        for name, data in sent.items()
    ]
    url = f"{server.url}/v2/models/tensorrt_llm/infer"
    return requests.post(url, data=json.dumps({"inputs": inputs}), timeout=30).text
