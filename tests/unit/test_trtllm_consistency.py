"""The five models of TensorRT-LLM's repository: what contradicts the templates, or another model, is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Template
from typing import Any

import pytest

from tritonlab import ModelRepository
from tritonlab.errors import TritonlabError
from tritonlab.pbtxt import render
from tritonlab.problems import Problem
from tritonlab.trtllm import InflightBatcherLlm, consistency
from tritonlab.trtllm.repository import MODELS, TemplateModel, table

ENGINE = {"engine": "/engines/x"}
TRTLLM, PRE, POST, BLS, ENSEMBLE = "tensorrt_llm", "preprocessing", "postprocessing", "tensorrt_llm_bls", "ensemble"


def written(path: Path, **arguments: Any) -> ModelRepository:
    repository = ModelRepository(path / "models")
    for model in InflightBatcherLlm("/tokenizer", **(arguments or ENGINE)):
        repository.add(model)
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return written(tmp_path)


def change(repository: ModelRepository, model: str, old: str, new: str) -> None:
    path = repository.path / model / "config.pbtxt"
    text, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1, f"{old!r} is not in {model}"
    path.write_text(text)


def only(repository: ModelRepository, what: str) -> Problem:
    problems = repository.validate()
    assert len(problems) == 1, repr(problems)
    assert what in problems[0].what
    assert problems[0].why
    assert problems[0].fix
    return problems[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ENGINE,
        {"vllm": {"model": "google/gemma-2b-it"}},
        {**ENGINE, "decoupled": False, "logits_datatype": "TYPE_FP16", "instances": {POST: 8, BLS: 8}},
        {**ENGINE, "parameters": {"max_beam_width": 4, "enable_kv_cache_reuse": False, "cross_kv_cache_fraction": 0.5}},
    ],
)
def test_what_this_package_writes_has_no_problems(tmp_path: Path, arguments: dict[str, Any]) -> None:
    repository = written(tmp_path, **arguments)
    assert not repository.validate(), repr(repository.validate())
    assert not consistency.check(repository)
    assert set(repository.list().problems) == {0}


def test_folder_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(TritonlabError, match="cannot be read"):
        consistency.check(tmp_path / "nowhere")


FAULTS = {
    "old name": (TRTLLM, '"seed"', '"random_seed"', "'random_seed' is unknown", "write seed: its name since 0.20"),
    "old name elsewhere": (BLS, '"min_tokens"', '"min_length"', "'min_length' is unknown", "write min_tokens"),
    "misspelt": (TRTLLM, '"temperature"', '"temprature"', "'temprature' is unknown", "did you mean temperature?"),
    "type": (BLS, r'("top_k"\s+data_type: )TYPE_INT32', r"\1TYPE_INT64", "top_k is TYPE_INT64", "TYPE_INT32"),
    "rank": (BLS, r'("top_k"\s+data_type: TYPE_INT32\s+)', r"\1dims: 1\n  ", "dims [1, 1]", "dims: [1]"),
    "batching": (TRTLLM, "inflight_fused_batching", "inflight", "gpt_model_type is 'inflight'", "did you mean infl"),
    "no number": (TRTLLM, "parameters {",
                  'parameters { key: "max_beam_width" value { string_value: "two" } }\nparameters {',
                  "max_beam_width is 'two'", "a whole number"),
    "no truth value": (TRTLLM, "parameters {",
                       'parameters { key: "enable_kv_cache_reuse" value { string_value: "yes" } }\nparameters {',
                       "enable_kv_cache_reuse is 'yes'", "true or false"),
    "placeholder as a name": (TRTLLM, "parameters {", 'parameters { key: "engine_dir" }\nparameters {',
                              "'engine_dir' is unknown", "did you mean gpt_model_path?"),
    "no engine": (TRTLLM, "/engines/x", "${engine_dir}", "${engine_dir} is not filled in",
                  "python3 fill_template.py -i tensorrt_llm/config.pbtxt 'engine_dir:"),
    "no strategy": (TRTLLM, "inflight_fused_batching", "${batching_strategy}", "${batching_strategy} is not filled",
                    "'batching_strategy:inflight_fused_batching'"),
    "no tokenizer": (PRE, "/tokenizer", "${tokenizer_dir}", "${tokenizer_dir} is not filled in", "'tokenizer_dir:"),
    "empty tokenizer": (POST, "/tokenizer", "", "tokenizer_dir is missing or empty", "${tokenizer_dir}"),
    "other tokenizer": (POST, "/tokenizer", "/other", "that of preprocessing is '/tokenizer'", "in both"),
    "block": (TRTLLM, r'(?s)parameters \{\s+key: "guided_decoding_backend".*?\n\}\n', "",
              "guided_decoding_backend is missing", "unfilled is right"),
    "bls not decoupled": (BLS, "decoupled: true", "decoupled: false", "and tensorrt_llm is", "decoupled: true"),
    "backend": (TRTLLM, '"tensorrtllm"', '"${triton_backend}"', "${triton_backend} is not filled",
                "'triton_backend:tensorrtllm'"),
}  # fmt: skip
WARNINGS = {
    "newer": (TRTLLM, r"output \{", 'output { name: "num_input_tokens" data_type: TYPE_INT32 dims: 1 }\noutput {',
              "newer than 0.20", "newer release"),
    "own": (BLS, r"input \{", 'input { name: "user" data_type: TYPE_STRING dims: 1 }\ninput {', "'user' is unknown",
            "your own code"),
    "dims of 0.11": (BLS, r'("top_k"\s+data_type: TYPE_INT32\s+dims: )1', r"\g<1>-1", "dims [-1]", "dims: [1]"),
    "mandatory": (BLS, r'("top_k"\s+data_type: TYPE_INT32\s+dims: 1\s+)optional: true', r"\1", "not optional", "true"),
    "optional": (BLS, r'("max_tokens"\s+data_type: TYPE_INT32\s+dims: 1)', r"\1 optional: true", "is optional", "out"),
    "batch": (PRE, "max_batch_size: 64", "max_batch_size: 8", "that of tensorrt_llm is 64", "max_batch_size: 64"),
    "batch of all": (ENSEMBLE, "max_batch_size: 64", "max_batch_size: 1", "that of tensorrt_llm is 64", "64"),
    "queue": (TRTLLM, r"default_queue_policy \{", "default_queue_policy { max_queue_size: 8", "below max_batch", "0"),
    "engine not decoupled": (TRTLLM, "decoupled: true", "decoupled: false", "tensorrt_llm_bls is", "decoupled: true"),
    "two after a stream": (POST, "count: 1", "count: 2", "2 instances of postprocessing", "count: 1"),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "severity"), [*((f, "error") for f in FAULTS), *((w, "warning") for w in WARNINGS)])
def test_a_fault_is_told_once(repository: ModelRepository, fault: str, severity: str) -> None:
    model, old, new, what, fix = {**FAULTS, **WARNINGS}[fault]
    change(repository, model, old, new)
    # The ensemble's map names the tensors too, so Triton would refuse both.
    if fault in ("old name", "misspelt"):
        problem = next(p for p in repository.validate() if what in p.what)
    else:
        problem = only(repository, what)
    assert (problem.file, problem.severity) == (f"{model}/config.pbtxt", severity)
    assert fix in problem.fix


def test_missing_tensors(repository: ModelRepository) -> None:
    change(repository, POST, r'(?s)input \{\s+name: "SEQUENCE_LENGTH".*?\n\}\n', "")
    change(repository, BLS, r'(?s)output \{\s+name: "text_output".*?\n\}\n', "")
    told = {problem.what: problem.fix for problem in repository.validate()}
    assert 'name: "SEQUENCE_LENGTH" data_type: TYPE_INT32' in told["the input SEQUENCE_LENGTH is missing"]
    assert "the output text_output is missing" in told
    assert "postprocessing has no input 'SEQUENCE_LENGTH'" in told


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"_TOKENS_BATCH"', '"_TOKENS_BATH"', ["mapped to '_TOKENS_BATCH', which is neither"]),
        (r'key: "seed"', 'key: "sed"', ["tensorrt_llm has no input 'sed'"]),
        ('model_name: "postprocessing"', 'model_name: "post"', ["'post', which is not in the repository"]),
        (r'value: "text_output"', 'value: "text"', ["no step produces the output 'text_output'"]),
        (r'(?s)input_map \{\s+key: "TOKENS_BATCH".*?\n    \}\n', "", ["does not map its input TOKENS_BATCH"]),
        (r'("seed"\s+data_type: )TYPE_UINT64', r"\1TYPE_INT64", ["seed is TYPE_INT64", "input seed is TYPE_INT64"]),
    ],
)
def test_map_of_the_ensemble(repository: ModelRepository, old: str, new: str, told: list[str]) -> None:
    change(repository, ENSEMBLE, old, new)
    problems = repository.validate()
    assert {p.file for p in problems} == {"ensemble/config.pbtxt"}
    for text in told:
        assert any(text in p.what for p in problems), repr(problems)


def test_a_number_that_is_not_filled_in(repository: ModelRepository) -> None:
    change(repository, BLS, "max_batch_size: 64", "max_batch_size: ${triton_max_batch_size}")
    change(repository, BLS, "count: 1", "count: ${bls_instance_count}  # ${bls_instance_count}")
    first, second = repository.validate()
    assert "${triton_max_batch_size} is not filled in" in first.what
    assert (first.file, first.line) == ("tensorrt_llm_bls/config.pbtxt", 2)
    assert first.fix == "python3 fill_template.py -i tensorrt_llm_bls/config.pbtxt 'triton_max_batch_size:64'"
    assert "'bls_instance_count:1'" in second.fix
    change(repository, BLS, "name:", "nme:")
    assert repository.validate()[0].what == "ModelConfig has no field nme"


def test_engine_that_this_machine_has(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.mkdir()
    content = {"version": "0.20.0", "pretrained_config": {}, "build_config": {"max_batch_size": 32}}
    (engine / "config.json").write_text(json.dumps(content))
    problem = only(written(tmp_path, engine=str(engine)), "the engine was built for 32")
    assert (problem.file, problem.severity) == ("tensorrt_llm/config.pbtxt", "error")
    (engine / "config.json").write_text(json.dumps({**content, "build_config": []}))
    assert not consistency.check(tmp_path / "models")


def test_code_that_is_missing(repository: ModelRepository) -> None:
    (repository.path / PRE / "1" / "model.py").unlink()
    problem = only(repository, "model.py is missing")
    assert problem.file == "preprocessing/1/model.py"
    assert "/app/all_models/inflight_batcher_llm/preprocessing/1/" in problem.fix


def test_nvidias_bls_serves_a_request_at_a_time(repository: ModelRepository) -> None:
    library = repository.path / BLS / "1" / "lib"
    library.mkdir()
    (library / "triton_decoder.py").touch()
    assert only(repository, "1 of tensorrt_llm_bls for a max_batch_size of 64").severity == "warning"


def test_models_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in MODELS[:3]:
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.py").touch()
        (tmp_path / name / "config.pbtxt").write_text(
            'backend: "python" input { name: "image" data_type: TYPE_UINT8 dims: -1 }'
        )
    assert not ModelRepository(tmp_path).validate()


# A repository that NVIDIA's tools made


def template(model: str) -> str:
    """The text of an official template, made from our own tables: placeholders where the official one has them."""
    sentinels = InflightBatcherLlm(
        "tokenizer", engine="engine", max_batch_size=777, max_queue_delay_microseconds=333, max_queue_size=999,
        instances={PRE: 55, POST: 55, BLS: 55}, logits_datatype="TYPE_BF16",
    )  # fmt: skip
    config = TemplateModel(model, sentinels).config()
    config.parameters.clear()
    if model == ENSEMBLE:  # as in the official file
        config.output.append(next(t for t in config.output if t.name == "kv_cache_alloc_total_blocks"))
    for entry in table()["parameter"]:
        if entry["model"] == model:
            unfilled = f"${{{entry.get('placeholder', entry['name'])}}}"
            config.parameters[entry["name"]].string_value = entry.get("fixed", unfilled)
    instances = "bls" if model == BLS else model
    text = render(config)
    for old, new in {
        "777": "${triton_max_batch_size}", "333": "${max_queue_delay_microseconds}", "999": "${max_queue_size}",
        "55": f"${{{instances}_instance_count}}", "TYPE_BF16": "${logits_datatype}",
        "decoupled: true": "decoupled: ${decoupled_mode}", '"tensorrtllm"': '"${triton_backend}"',
    }.items():  # fmt: skip
        text = text.replace(old, new)
    return text


# The commands of tensorrtllm_backend r25.06, docs/llama.md, with the comma that the page lacks.
COMMANDS = {
    PRE: "tokenizer_dir:/llama,triton_max_batch_size:64,preprocessing_instance_count:1",
    POST: "tokenizer_dir:/llama,triton_max_batch_size:64,postprocessing_instance_count:1",
    BLS: "triton_max_batch_size:64,decoupled_mode:False,bls_instance_count:1,accumulate_tokens:True,"
    "logits_datatype:TYPE_FP32",
    ENSEMBLE: "triton_max_batch_size:64,logits_datatype:TYPE_FP32",
    TRTLLM: "triton_backend:tensorrtllm,triton_max_batch_size:64,decoupled_mode:False,max_beam_width:1,"
    "engine_dir:/engines/llama,max_tokens_in_paged_kv_cache:2560,max_attention_window_size:2560,"
    "kv_cache_free_gpu_mem_fraction:0.5,exclude_input_in_output:True,enable_kv_cache_reuse:False,"
    "batching_strategy:inflight_fused_batching,max_queue_delay_microseconds:0,"
    "encoder_input_features_data_type:TYPE_FP16,logits_datatype:TYPE_FP32",
}


def filled(model: str, command: str) -> str:
    given = dict(pair.split(":") for pair in command.split(","))
    return Template(template(model)).safe_substitute(
        {"max_queue_size": "0", "max_queue_delay_microseconds": "0", **given}
    )


def official(path: Path, commands: dict[str, str]) -> ModelRepository:
    for model, command in commands.items():
        version = path / model / "1"
        version.mkdir(parents=True)
        if model not in (TRTLLM, ENSEMBLE):
            (version / "model.py").touch()
        (path / model / "config.pbtxt").write_text(filled(model, command))
    return ModelRepository(path)


def test_what_nvidias_tools_write_has_no_problems(tmp_path: Path) -> None:
    repository = official(tmp_path, COMMANDS)
    assert not repository.validate(), repr(repository.validate())
    engine = repository[TRTLLM].config
    assert (engine.backend, engine.max_batch_size, len(engine.input)) == ("tensorrtllm", 64, 60)
    assert engine.parameters["gpt_model_path"].string_value == "/engines/llama"
    assert engine.parameters["sink_token_length"].string_value == "${sink_token_length}"
    assert repository[BLS].config.parameters["accumulate_tokens"].string_value == "True"


@pytest.mark.parametrize(
    ("model", "key"),
    [(PRE, "tokenizer_dir"), (BLS, "decoupled_mode"), (ENSEMBLE, "logits_datatype"), (TRTLLM, "engine_dir")],
)
def test_a_forgotten_value_names_its_command(tmp_path: Path, model: str, key: str) -> None:
    command = ",".join(pair for pair in COMMANDS[model].split(",") if not pair.startswith(f"{key}:"))
    [problem] = official(tmp_path, {**COMMANDS, model: command}).validate()
    assert f"${{{key}}} is not filled in" in problem.what
    assert problem.line > 0
    assert f"fill_template.py -i {model}/config.pbtxt '{key}:" in problem.fix
