"""Capacity arithmetic against numbers worked out by hand, and what must hold for any load."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonlab import gpus
from tritonlab.capacity import CapacityPlan, Throughput, little, model_shape, plan_capacity
from tritonlab.errors import RepositoryError, TritonlabError
from tritonlab.memory import GIB, fit_tensorrt_llm, fit_vllm

MODEL = model_shape("Llama-3.1-8B")
LOAD: dict[str, Any] = {
    "users": 600, "prompt_tokens": 1000, "output_tokens": 301, "ttft": 1.0, "itl": 0.05, "gpu_memory": 80 * GIB,
}  # fmt: skip
FAST = Throughput(2000.0, 80, "measured")


def plan(**changes: Any) -> CapacityPlan:
    return plan_capacity(MODEL.shape, **{**LOAD, **changes})


def test_each_step_by_hand() -> None:
    found = plan(throughput=FAST, price_per_hour=3.0)
    assert found["arrival rate"] == 10  # 600 / 60
    assert found["time in the system"] == 16  # 1 + 300 × 0.05
    assert found.concurrency == found["requests in flight"] == 160
    assert found["KV cache per token"] == 2 * 32 * 8 * 128 * 2
    assert found["KV cache in use"] == pytest.approx(160 * 1301 * 131072 / GIB)
    each = fit_vllm(MODEL.shape, 80 * GIB).concurrent(1301)
    assert found.concurrency_per_replica == each
    assert found["replicas by memory"] == math.ceil(160 / (0.7 * each)) == 1
    assert found["tokens to make"] == 3010
    assert found["replicas by throughput"] == 3  # 3010 / 1400 = 2.15
    assert (found.replicas, found.gpus, found.limit) == (3, 3, "throughput")
    assert found["load of a replica"] == pytest.approx(3010 / 6000)
    assert found["slower by random arrivals"] == pytest.approx(6000 / 2990)
    assert found["time per token, full"] == 0.04
    assert found.cost_per_million == pytest.approx(9 / (3010 * 3600) * 1e6)
    assert found["cost per million tokens"] == pytest.approx(9 / (10 * 1301 * 3600) * 1e6)
    assert found.warnings == ()
    assert found.verdict == "3 replicas on 3 GPUs, decided by throughput, 0.831 per million output tokens."


def test_memory_decides_where_contexts_are_long() -> None:
    found = plan(prompt_tokens=30_000, throughput=Throughput(100_000, 8), gpu_memory=24 * GIB)
    assert found["replicas by memory"] > found["replicas by throughput"] == 1
    assert (found.limit, found.replicas) == ("memory", found["replicas by memory"])
    assert plan(throughput=Throughput(100_000, 8)).limit == "memory and throughput"


def test_a_replica_of_two_gpus() -> None:
    one, two = plan(), plan(gpus_per_replica=2)
    assert two["KV cache per token"] == one["KV cache per token"]
    assert two.gpus == 2 * two.replicas
    assert two.concurrency_per_replica > 2 * one.concurrency_per_replica
    assert two["weights per GPU"] == pytest.approx(one["weights per GPU"] / 2)
    engine = plan(backend="tensorrtllm")
    assert engine.concurrency_per_replica == fit_tensorrt_llm(MODEL.shape, 80 * GIB).concurrent(1301)


def test_what_speaks_against_a_plan_is_said() -> None:
    assert "memory alone" in " ".join(plan().warnings)
    assert plan().cost_per_million is None
    slow = plan(throughput=Throughput(2000, 200)).warnings
    assert "a token takes 0.1 s, and you allow 0.05" in slow[0]
    crowded = plan(throughput=Throughput(1e6, 2000)).warnings
    assert "one with 2000 in flight, and only" in crowded[0]
    assert "Mind: " in repr(plan())


def test_every_row_says_how_and_from_where() -> None:
    found = plan(throughput=FAST, price_per_hour=3)
    assert list(found.frame) == ["quantity", "value", "unit", "formula", "source"]
    assert len(found.frame) == len(set(found.frame.quantity)) == len(found.rows)
    assert all(row.formula and row.source for row in found.rows)
    assert any("Little 1961" in row.source for row in found.rows)
    assert any("2309.06180" in row.source for row in found.rows)
    for text in (repr(found), found._repr_html_()):
        assert all(row.quantity in text for row in found.rows)
        assert found.verdict in text
    assert "<script>" not in plan(throughput=Throughput(1, 1, "<script>"))._repr_html_()
    assert json.loads(json.dumps(found.as_dict()))["replicas"] == 3


@given(
    users=st.floats(1, 1e6), prompt=st.integers(1, 20_000), output=st.integers(1, 5000), ttft=st.floats(0.01, 10),
    itl=st.floats(0.001, 1), rate=st.floats(1, 1e6), utilization=st.floats(0.05, 0.95),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_holds_for_any_load(
    users: float, prompt: int, output: int, ttft: float, itl: float, rate: float, utilization: float
) -> None:
    load: dict[str, Any] = {
        "prompt_tokens": prompt, "output_tokens": output, "ttft": ttft, "itl": itl, "utilization": utilization,
        "price_per_hour": 2.0,
    }  # fmt: skip
    found = plan(users=users, throughput=Throughput(rate, 1), **load)
    assert found.replicas >= 1
    assert found["tokens to make"] <= found.replicas * rate * utilization * (1 + 1e-6)
    assert found.concurrency <= found.replicas * found.concurrency_per_replica * utilization * (1 + 1e-6)
    assert found.concurrency == pytest.approx(found["arrival rate"] * found["time in the system"])
    more = plan(users=2 * users, throughput=Throughput(rate, 1), **load)
    assert found.replicas <= more.replicas <= 2 * found.replicas
    faster = plan(users=users, throughput=Throughput(2 * rate, 1), **load)
    assert faster.replicas <= found.replicas
    assert faster.cost_per_million is not None
    assert found.cost_per_million is not None
    assert faster.cost_per_million <= found.cost_per_million


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"users": 0}, "users is 0"),
        ({"users": -5}, "users is -5"),
        ({"users": math.nan}, "users is nan"),
        ({"users": math.inf}, "users is inf"),
        ({"users": "many"}, "users is 'many'"),
        ({"users": True}, "users is True"),
        ({"requests_per_user_minute": 0}, "requests_per_user_minute"),
        ({"prompt_tokens": 10.5}, "whole number"),
        ({"output_tokens": 0}, "output_tokens"),
        ({"ttft": 0}, "ttft"),
        ({"itl": -1}, "itl"),
        ({"utilization": 1.0}, "utilization"),
        ({"utilization": math.nan}, "utilization"),
        ({"gpus_per_replica": 0}, "gpus_per_replica"),
        ({"price_per_hour": -1}, "price"),
        ({"price_per_hour": math.nan}, "price"),
        ({"backend": "tgi"}, "no backend 'tgi'"),
        ({"weights": "bf16"}, "no weights of 'bf16'"),
        ({"kv_cache": "int3"}, "no KV cache of 'int3'"),
        ({"throughput": Throughput(0, 4)}, "output_tokens_per_s"),
        ({"throughput": Throughput(100, math.nan)}, "concurrency"),
        ({"gpu_memory": 8 * GIB}, "Not one request of 1,301 tokens fits"),
        ({"max_positions": 1024}, "longer than the 1,024"),
    ],
)
def test_nonsense_is_refused_in_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TritonlabError, match=said):
        plan(**wrong)


def test_littles_law_of_a_measured_run() -> None:
    row = {"requests_per_s": 8.0, "latency_ms_mean": 500.0, "in_flight_mean": 3.8, "concurrency": 4}
    found = little(row)
    assert (found.product, found.ratio) == (4.0, 0.95)
    assert repr(found) == "λ W = 8.00 requests/s × 0.500 s = 4.00 in flight; counted: 3.80; ratio 0.950"
    assert "0.950" in found._repr_html_()
    assert little(pd.DataFrame([row]).iloc[0]).as_dict() == found.as_dict()
    for wrong in (
        {},
        {**row, "latency_ms_mean": math.nan},
        {**row, "requests_per_s": 0},
        {**row, "in_flight_mean": "x"},
    ):
        with pytest.raises(TritonlabError):
            little(wrong)


def test_littles_law_of_a_schedule() -> None:
    """Of requests that come and go as they like, in flight counted instant by instant."""
    times = [(0.0, 3.0), (1.0, 2.0), (1.5, 6.0), (4.0, 4.5), (5.0, 10.0)]
    steps = 10_000
    in_flight = sum(sum(a <= at / 1000 < b for a, b in times) for at in range(steps)) / steps
    mean = sum(b - a for a, b in times) / len(times)
    row = {"requests_per_s": len(times) / 10, "latency_ms_mean": mean * 1000, "in_flight_mean": in_flight}
    assert little(row).ratio == pytest.approx(1, rel=1e-3)


def test_throughput_of_a_row() -> None:
    found = Throughput.of({"output_tokens_per_s": 500.0, "concurrency": 4})
    assert found == Throughput(500.0, 4.0, "measured")
    with pytest.raises(TritonlabError, match="concurrency"):
        Throughput.of({"output_tokens_per_s": 500.0})


def test_models_are_found(tmp_path: Path) -> None:
    assert model_shape("meta-llama/llama-3.1-8b") == MODEL
    assert MODEL.max_positions == 131072
    (tmp_path / "mine").mkdir()
    config = {
        "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128,
        "vocab_size": 100, "max_position_embeddings": 512,
    }  # fmt: skip
    file = tmp_path / "mine" / "config.json"
    file.write_text(json.dumps(config))
    assert model_shape(tmp_path / "mine") == model_shape(file)
    assert (model_shape(file).name, model_shape(file).max_positions) == ("mine", 512)
    file.write_bytes(b"\xff")
    with pytest.raises(RepositoryError, match="cannot be read"):
        model_shape(file)
    file.write_text("{}")
    with pytest.raises(RepositoryError, match="num_hidden_layers"):
        model_shape(file)
    with pytest.raises(RepositoryError, match="none of those known here"):
        model_shape("gpt-5")


def test_gpus_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "here", list)
    known = {kind.name: kind.memory for kind in gpus.KNOWN}
    assert gpus.memory_of("h100") == gpus.memory_of("H100 80 GB") == known["H100 80 GB"]
    assert all(gpus.memory_of(name) == memory for name, memory in known.items())
    assert gpus.memory_of("80") == gpus.memory_of("80 GiB") == 80 * GIB
    for wrong, said in (("A100", "may be A100 40 GB, A100 80 GB"), ("TPU", "No GPU is known"), ("", "no NVIDIA GPU")):
        with pytest.raises(TritonlabError, match=said):
            gpus.memory_of(wrong)
    monkeypatch.setattr(gpus, "here", lambda: [gpus.KNOWN[0], gpus.KNOWN[1]])
    assert gpus.memory_of() == known["L4"]


def tritonlab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tritonlab", "capacity", *arguments], capture_output=True, text=True, check=False
    )


def test_from_a_shell() -> None:
    load = ("Llama-3.1-8B", "--users", "600", "--gpu", "80", "--output-tokens", "301", "--ttft", "1")
    speed = ("--tokens-per-second", "2000", "--at", "80", "--price", "3")
    done = tritonlab(*load, *speed, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(
        json.dumps(plan(throughput=Throughput(2000, 80, "yours"), price_per_hour=3).as_dict())
    )
    done = tritonlab(*load)
    assert "Mind: this is a plan of memory alone" in done.stdout
    for wrong, said in (
        (("--gpu", "abacus"), "No GPU is known as 'abacus'"),
        (("--at", "4"), "Give both"),
        (("--users", "0"), "users is 0"),
    ):
        done = tritonlab(*load, *wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
