"""A conversion that is planned: the right script and options, and what cannot be is told before it runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import tritonlab
from tritonlab.errors import CommandError
from tritonlab.trtllm import BuildPlan, ConvertPlan, checkpoint_config, quantizations, shapes
from tritonlab.trtllm.precision import ALGORITHMS
from tritonlab.vllm import ModelShape

LLAMA_1B = "meta-llama/Llama-3.2-1B"
LLAMA_8B = "meta-llama/Llama-3.1-8B"
GEMMA = "google/gemma-2b"
QWEN = "Qwen/Qwen2.5-7B-Instruct"
NAMES = list(quantizations().name)


def plan(model: str = LLAMA_8B, **options: Any) -> ConvertPlan:
    return ConvertPlan("hf", "ckpt", shapes()[model], **options)


def parts(planned: ConvertPlan, capability: tuple[int, int] | None = None) -> list[str]:
    found = planned.check(capability)
    assert all(all(advice) for advice in found)
    return [advice.part for advice in found]


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(LLAMA_1B, 1_235_814_400), (LLAMA_8B, 8_030_261_248), (GEMMA, 2_506_172_416), (QWEN, 7_615_616_512)],
)
def test_shapes_have_the_parameters_that_their_models_are_known_for(model: str, parameters: int) -> None:
    assert ModelShape.of(shapes()[model]).parameters() == pytest.approx(parameters, rel=1e-4)


def test_command_of_a_recorded_conversion() -> None:
    """Llama 3.1 8B on two GPUs, in NVIDIA's container 25.06."""
    planned = plan(dtype="bfloat16", tp=2)
    assert planned.words() == [
        "python3", "/app/examples/models/core/llama/convert_checkpoint.py", "--model_dir", "hf", "--output_dir", "ckpt",
        "--dtype", "bfloat16", "--tp_size", "2",
    ]  # fmt: skip
    assert shlex.split(planned.render().replace("\\\n", " ")) == planned.words()
    assert planned.render("powershell").splitlines()[-1] == "  --tp_size 2"
    assert planned.world_size == 2
    assert planned.check((8, 9)) == []


@pytest.mark.parametrize(
    ("model", "options", "path", "end"),
    [
        (LLAMA_1B, {"quantization": "int8_wo"}, "core/llama/convert", "--use_weight_only --weight_only_precision int8"),
        (QWEN, {"quantization": "int4_wo", "pp": 2}, "core/qwen/convert", "--weight_only_precision int4 --pp_size 2"),
        (QWEN, {"kv_cache": "int8"}, "core/qwen/convert", "--dtype auto --int8_kv_cache"),
        (GEMMA, {"tp": 2}, "core/gemma/convert", "--output-model-dir ckpt --dtype auto --world-size 2"),
        (GEMMA, {"kv_cache": "fp8"}, "core/gemma/convert", "--fp8_kv_cache"),
        (GEMMA, {"quantization": "fp8", "pp": 2}, "quantization/quantize", "--dtype auto --qformat fp8 --pp_size 2"),
        (QWEN, {"quantization": "fp8", "kv_cache": "fp8"}, "quantization/quantize", "fp8 --kv_cache_dtype fp8"),
        (LLAMA_8B, {"quantization": "fp8_rowwise"}, "core/llama/convert", "--use_fp8_rowwise"),
        (LLAMA_8B, {"quantization": "smoothquant"}, "core/llama/convert", "0.5 --per_channel --per_token"),
    ],
)
def test_the_script_that_does_it(model: str, options: dict[str, Any], path: str, end: str) -> None:
    planned = plan(model, **options)
    assert path in planned.path
    assert " ".join(planned.words()).endswith(end)


@pytest.mark.parametrize("name", NAMES)
def test_every_quantization_is_told_of_and_stands_in_the_checkpoint(name: str) -> None:
    row = quantizations().set_index("name").loc[name]
    planned = plan(quantization=name)
    quant_algo = planned.checkpoint()["quantization"]["quant_algo"]
    assert (quant_algo or "none") == row["quant_algo"]
    assert quant_algo is None or quant_algo in ALGORITHMS
    assert row["command"].split()[0] == planned.script
    assert row["needs"]
    assert row["what it does"]
    assert row["what it costs"]


def test_what_each_quantization_needs() -> None:
    table = quantizations().set_index("name")
    assert table.loc["fp8", "needs"] == "8.9, Ada Lovelace"
    assert table.loc["int4_awq", "needs"] == "8.0, Ampere"
    assert table.loc["nvfp4", "needs"] == "10.0, Blackwell"
    assert list(table[table["not on"] != ""].index) == ["int8_wo", "int4_wo", "smoothquant", "int4_awq", "int8_sq"]
    assert table.loc["w4a8_awq", ["weight bits", "activation bits"]].tolist() == [4, 8]


@pytest.mark.parametrize("model", list(shapes()))
@pytest.mark.parametrize("name", [name for name in NAMES if name != "fp8_rowwise"])
def test_every_option_is_explained(model: str, name: str) -> None:
    planned = plan(model, quantization=name, kv_cache="int8", tp=2)
    table = planned.explain()
    assert shlex.split(" ".join(table["option"])) == planned.words()[2:]
    assert table[["what it does", "what to mind"]].all(axis=None)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        (LLAMA_8B, {"quantization": "fp8_row"}, "Did you mean fp8_rowwise"),
        (LLAMA_8B, {"quantization": "?"}, "There are none, int8_wo"),
        (LLAMA_8B, {"dtype": "bfloat"}, "Did you mean bfloat16"),
        (LLAMA_8B, {"kv_cache": "int4"}, "Did you mean int8"),
        (LLAMA_8B, {"tp": 0}, "tp 0 is no number"),
        (LLAMA_8B, {"pp": 1.5}, "pp 1.5 is no number"),
        (QWEN, {"quantization": "fp8_rowwise"}, "that of llama does"),
        (QWEN, {"kv_cache": "fp8"}, "has no --fp8_kv_cache"),
        (GEMMA, {"pp": 2}, "no pipeline parallelism"),
    ],
)
def test_what_the_scripts_do_not_know_is_refused(model: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(CommandError) as error:
        plan(model, **options)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "names no architecture"),
        ({"architectures": []}, "names no architecture"),
        ({"architectures": ["LLamaForCausalLM"]}, "Did you mean LlamaForCausalLM"),
        ({"architectures": ["LlamaForCausalLM"]}, "has no hidden_size"),
        ({**shapes()[LLAMA_1B], "num_hidden_layers": "16"}, "no number above 0: '16'"),
        ({**shapes()[LLAMA_1B], "torch_dtype": "float8"}, "no dtype of a model 'float8'"),
    ],
)
def test_model_that_cannot_be_converted_is_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(CommandError) as error:
        ConvertPlan("hf", "ckpt", config)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("model", "options", "capability", "found"),
    [
        (LLAMA_8B, {"tp": 3}, None, ["tp_size 3"]),
        (LLAMA_8B, {"tp": 8}, None, []),
        (LLAMA_8B, {"tp": 16}, None, ["tp_size 16"]),
        (QWEN, {"tp": 7}, None, ["tp_size 7"]),
        (GEMMA, {"tp": 2}, None, ["tp_size 2"]),
        (LLAMA_1B, {"pp": 3}, None, ["pp_size 3"]),
        (LLAMA_1B, {"pp": 17}, None, ["pp_size 17"]),
        (LLAMA_8B, {"tp": 2, "quantization": "int4_awq"}, (8, 6), []),
        (QWEN, {"tp": 28, "quantization": "int4_awq"}, (8, 6), ["tp_size 28", "tp_size 28"]),
        (QWEN, {"quantization": "nvfp4"}, (10, 0), ["quantization nvfp4"]),
        (LLAMA_8B, {"quantization": "nvfp4"}, (10, 0), []),
        (LLAMA_8B, {"quantization": "nvfp4"}, (9, 0), ["quant_algo NVFP4"]),
        (LLAMA_8B, {"quantization": "fp8"}, (8, 6), ["quant_algo FP8"]),
        (LLAMA_8B, {"kv_cache": "fp8"}, (8, 6), ["kv_cache_quant_algo FP8"]),
        (LLAMA_8B, {"quantization": "int8_wo"}, (10, 0), ["quant_algo W8A16"]),
        (LLAMA_8B, {}, (7, 5), ["dtype bfloat16"]),
        (LLAMA_8B, {"dtype": "float16"}, (7, 5), []),
        (GEMMA, {"quantization": "smoothquant"}, (8, 0), ["dtype bfloat16"]),
        (GEMMA, {"quantization": "smoothquant", "dtype": "float16"}, (8, 0), []),
    ],
)
def test_what_the_model_or_the_gpu_contradicts(
    model: str, options: dict[str, Any], capability: tuple[int, int] | None, found: list[str]
) -> None:
    assert parts(plan(model, **options), capability) == found


def test_advice_on_kv_heads_says_which_number_works() -> None:
    [copied] = plan(GEMMA, tp=2).check()
    assert "copied to 2 GPUs" in copied.what
    [uneven] = plan(LLAMA_8B, tp=3).check()
    assert uneven.fix == "Take one of 1, 2, 4, 8, 16, 32."


def test_checkpoint_of_a_model_before_it_is_converted() -> None:
    config = plan(LLAMA_8B, tp=2, pp=2, quantization="int4_awq", kv_cache="int8").checkpoint()
    assert (config["architecture"], config["dtype"], config["head_size"]) == ("LlamaForCausalLM", "bfloat16", 128)
    assert (config["norm_epsilon"], config["rotary_base"]) == (1e-5, 500_000.0)
    assert config["rotary_scaling"]["rope_type"] == "llama3"
    sizes = {name: config["mapping"][name] for name in ("world_size", "tp_size", "pp_size", "moe_tp_size")}
    assert sizes == {"world_size": 4, "tp_size": 2, "pp_size": 2, "moe_tp_size": 2}
    assert config["quantization"]["group_size"] == 128
    assert config["quantization"]["kv_cache_quant_algo"] == "INT8"
    assert json.loads(json.dumps(config)) == config


def test_what_families_have_of_their_own() -> None:
    gemma, qwen, llama = (checkpoint_config(shapes()[name], tp=2) for name in (GEMMA, QWEN, LLAMA_1B))
    assert [config["attn_bias"] for config in (gemma, qwen, llama)] == [False, True, False]
    assert [config["use_parallel_embedding"] for config in (gemma, qwen, llama)] == [True, False, False]
    assert (gemma["head_size"], qwen["head_size"], llama["tie_word_embeddings"]) == (256, 128, True)


@pytest.mark.parametrize(
    ("own", "dtype", "becomes"),
    [
        ("bfloat16", "auto", "bfloat16"),
        ("float32", "auto", "float16"),
        ("float32", "float32", "float32"),
        (None, "auto", "float16"),
    ],
)
def test_auto_takes_the_models_own_data_type(own: str | None, dtype: str, becomes: str) -> None:
    assert checkpoint_config({**shapes()[LLAMA_1B], "torch_dtype": own}, dtype)["dtype"] == becomes


def test_build_is_checked_against_a_checkpoint_that_is_planned() -> None:
    planned = plan(GEMMA, quantization="fp8")
    build = BuildPlan("ckpt", "engine", {"max_seq_len": 9000, "use_fp8_context_fmha": True})
    assert [advice.part for advice in build.check(planned.checkpoint(), (8, 9))] == ["--max_seq_len 9000"]
    assert [advice.part for advice in build.check(plan(GEMMA).checkpoint())] == [
        "--max_seq_len 9000",
        "--use_fp8_context_fmha",
    ]


def test_the_courses_own_model_can_be_converted() -> None:
    file = Path(tritonlab.__file__).parent / "engine" / "tutor" / "model" / "config.json"
    planned = ConvertPlan("tutor", "ckpt", json.loads(file.read_text(encoding="utf-8")))
    assert planned.check((8, 0)) == []
    config = planned.checkpoint()
    assert (config["rotary_base"], config["rotary_scaling"], config["head_size"]) == (10_000.0, None, 64)


def test_it_runs_in_a_container_that_still_builds_engines() -> None:
    run = plan().docker()
    assert run.image == "nvcr.io/nvidia/tritonserver:25.06-trtllm-python-py3"
    assert run.command[:2] == ("python3", plan().path)
    with pytest.raises(CommandError, match=r"26\.08"):
        plan().docker(release="26.08")
    with pytest.raises(CommandError, match="no shell 'fish'"):
        plan().render("fish")
    dollar = ConvertPlan("a${b}", "ckpt", shapes()[GEMMA])
    assert "'a${b}'" in dollar.render()
    assert "'a${b}'" in dollar.docker().render()
