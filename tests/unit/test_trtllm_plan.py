"""A build that is planned: what trtllm-build would refuse, change or not need is told before it runs."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tritonlab.errors import CommandError
from tritonlab.trtllm import BuildPlan
from tritonlab.trtllm.plan import flags

LLAMA = {
    "architecture": "LlamaForCausalLM",
    "dtype": "bfloat16",
    "max_position_embeddings": 8192,
    "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
    "quantization": {"quant_algo": None},
}


def quantized(algorithm: str) -> dict[str, Any]:
    return {**LLAMA, "quantization": {"quant_algo": algorithm}}


def parts(plan: BuildPlan, *against: Any) -> list[str]:
    found = plan.check(*against)
    assert all(all(advice) for advice in found)
    return [advice.part for advice in found]


def test_command_of_the_official_guide() -> None:
    """Triton's own guide for Llama (tensorrtllm_backend r25.06, docs/llama.md)."""
    plan = BuildPlan(
        "/tmp/ckpt", "/tmp/engine",
        {"remove_input_padding": True, "gpt_attention_plugin": "float16", "context_fmha": "enable",
         "gemm_plugin": "float16", "kv_cache_type": "paged", "max_batch_size": 64},
    )  # fmt: skip
    assert shlex.split(plan.render().replace("\\\n", " ")) == plan.words()
    assert plan.render("powershell").splitlines()[-1] == "  --max_batch_size 64"
    assert plan.words()[5:9] == ["--remove_input_padding", "enable", "--gpt_attention_plugin", "float16"]
    assert plan.check({**LLAMA, "dtype": "float16"}, (8, 9)) == []
    assert parts(plan, LLAMA) == ["--gpt_attention_plugin float16", "--gemm_plugin float16"]


def test_what_was_found_is_a_table_to_read() -> None:
    found = BuildPlan("ckpt", "engine", {"max_input_len": 1024, "user_buffer": True}).check()
    assert repr(found).count("\n  fix: ") == len(found) == 2
    assert found._repr_html_().count("<tr>") == 1 + len(found)
    good = BuildPlan("ckpt", "engine").check(LLAMA)
    assert (repr(good), good._repr_html_()) == ("no problems", "<p>no problems</p>")


def test_every_option_is_explained_with_its_default() -> None:
    plan = BuildPlan("ckpt", "engine", {"max_num_tokens": 4096, "fast_build": True, "strip_plan": False})
    table = plan.explain().set_index("option")
    assert table.loc["--max_num_tokens 4096", "default"] == "8192"
    assert "--fast_build" in table.index
    assert "--fast_build" in plan.words()
    assert "--strip_plan" not in plan.words()
    for flag in flags().values():
        assert flag.does
        assert flag.costs
        assert flag.kind in {"number", "text", "switch", "enable", "choice"}
        assert bool(flag.values) == (flag.kind == "choice")


def test_it_runs_in_a_container_that_still_builds_engines() -> None:
    run = BuildPlan("ckpt", "engine").docker()
    assert run.image == "nvcr.io/nvidia/tritonserver:25.06-trtllm-python-py3"
    assert run.command[0] == "trtllm-build"
    assert not [advice for advice in run.lint() if "GPU" in advice.what]
    with pytest.raises(CommandError, match=r"26\.08"):
        BuildPlan("ckpt", "engine").docker(release="26.08")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_batchsize": 8}, "Did you mean max_batch_size"),
        ({"max_output_len": 100}, "removed in 0.11"),
        ({"max_output_len": 100}, "Give --max_seq_len: prompt plus answer"),
        ({"max_decoder_seq_len": 100}, "Write --max_seq_len"),
        ({"paged_kv_cache": "yes"}, "can be enable"),
        ({"max_batch_size": "many"}, "is no number"),
        ({"max_batch_size": True}, "is no number"),
        ({"gemm_plugin": "float8"}, "can be auto"),
        ({"context_fmha": "on"}, "can be enable"),
        ({"fast_build": "yes"}, "takes no value"),
        ({"output_dir": "x"}, "no option 'output_dir' here"),
    ],
)
def test_what_trtllm_build_does_not_know_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(CommandError) as error:
        BuildPlan("ckpt", "engine", options)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"opt_num_tokens": 64, "multiple_profiles": True}, ["--opt_num_tokens"]),
        ({"weight_streaming": True, "gemm_plugin": "auto"}, ["--weight_streaming"]),
        ({"kv_cache_type": "continuous"}, ["--kv_cache_type continuous"]),
        ({"paged_kv_cache": "enable"}, ["--paged_kv_cache enable"]),
        ({"paged_kv_cache": False}, ["--paged_kv_cache disable"]),
        ({"gpt_attention_plugin": "disable"}, ["--gpt_attention_plugin disable"]),
        ({"max_input_len": 512}, ["--max_input_len"]),
        ({"max_input_len": 512, "context_fmha": False}, []),
        ({"user_buffer": True}, ["--user_buffer"]),
        ({"max_seq_len": 512, "max_batch_size": 4}, ["--max_num_tokens 8192"]),
        ({"max_num_tokens": 16, "max_batch_size": 64}, ["--max_num_tokens 16"]),
        ({"max_num_tokens": 32768}, ["--max_num_tokens 32768"]),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], found: list[str]) -> None:
    assert parts(BuildPlan("ckpt", "engine", options)) == found


@pytest.mark.parametrize(
    ("options", "checkpoint", "found"),
    [
        ({"max_seq_len": 9000}, LLAMA, ["--max_seq_len 9000"]),
        ({"max_seq_len": 9000}, {**LLAMA, "rotary_scaling": {"factor": 8}}, []),
        ({"use_fp8_context_fmha": True}, LLAMA, ["--use_fp8_context_fmha"]),
        ({"use_fp8_context_fmha": True}, quantized("FP8"), []),
        ({"gemm_plugin": "auto"}, LLAMA, []),
        ({"gemm_plugin": "auto"}, quantized("FP8"), ["--gemm_plugin auto"]),
        ({"gemm_plugin": "fp8"}, quantized("FP8"), []),
        ({"gemm_plugin": "disable"}, quantized("FP8"), []),
        ({"reduce_fusion": True}, LLAMA, ["--reduce_fusion"]),
        ({"reduce_fusion": True}, {**LLAMA, "mapping": {"tp_size": 2}}, []),
        ({"user_buffer": True, "reduce_fusion": True}, {**LLAMA, "mapping": {"tp_size": 2}}, ["--user_buffer"]),
    ],
)
def test_options_that_the_checkpoint_contradicts(
    options: dict[str, Any], checkpoint: dict[str, Any], found: list[str]
) -> None:
    assert parts(BuildPlan("ckpt", "engine", options), checkpoint) == found


@pytest.mark.parametrize(
    ("checkpoint", "capability", "found"),
    [
        (LLAMA, (7, 5), ["dtype bfloat16"]),
        (quantized("FP8"), (8, 0), ["quant_algo FP8"]),
        (quantized("FP8"), (8, 9), []),
        (quantized("NVFP4"), (9, 0), ["quant_algo NVFP4"]),
        (quantized("W4A16_AWQ"), (8, 6), []),
        (quantized("W4A16_AWQ"), (10, 0), ["quant_algo W4A16_AWQ"]),
        (quantized("W4A8_AWQ"), (8, 6), ["quant_algo W4A8_AWQ"]),
    ],
)
def test_what_the_gpu_cannot_compute(checkpoint: dict[str, Any], capability: tuple[int, int], found: list[str]) -> None:
    assert parts(BuildPlan("ckpt", "engine"), checkpoint, capability) == found
