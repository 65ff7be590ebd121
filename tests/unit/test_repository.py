"""Model repositories: what is written, what is found wrong, what is refused. Triton's own schema is the judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from tritonlab import ModelRepository, VllmModel
from tritonlab.errors import RepositoryError
from tritonlab.problems import Problem
from tritonlab.schema import schema
from tritonlab.vllm import ModelShape, engine_arguments


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    repository = ModelRepository(tmp_path / "models")
    repository.add(VllmModel("gemma", model="google/gemma-2b-it", gpu_memory_utilization=0.9))
    return repository


def config_file(repository: ModelRepository) -> Path:
    return repository.path / "gemma" / "config.pbtxt"


def model_file(repository: ModelRepository) -> Path:
    return repository.path / "gemma" / "1" / "model.json"


class TestWriting:
    def test_files_are_what_triton_wants(self, repository: ModelRepository) -> None:
        config = text_format.Parse(config_file(repository).read_text(), schema().ModelConfig())
        assert (config.name, config.backend, config.max_batch_size) == ("gemma", "vllm", 0)
        assert config.model_transaction_policy.decoupled
        assert [tensor.name for tensor in config.input][:2] == ["text_input", "image"]
        assert json.loads(model_file(repository).read_text()) == {
            "model": "google/gemma-2b-it",
            "gpu_memory_utilization": 0.9,
        }
        assert not repository.validate()
        assert repr(repository.validate()) == "no problems"

    def test_reading_back(self, repository: ModelRepository) -> None:
        assert "gemma" in repository
        assert [model.name for model in repository] == ["gemma"]
        assert repository["gemma"].model_json["gpu_memory_utilization"] == 0.9
        assert repository["gemma"].config.backend == "vllm"
        [row] = repository.list().to_dict("records")
        assert row == {
            "name": "gemma",
            "versions": ["1"],
            "backend": "vllm",
            "decoupled": True,
            "max_batch_size": 0,
            "problems": 0,
        }
        assert "└── gemma/" in repr(repository.tree())

    def test_twice_needs_replace(self, repository: ModelRepository) -> None:
        with pytest.raises(RepositoryError, match="already"):
            repository.add(VllmModel("gemma", model="other"))
        repository.add(VllmModel("gemma", model="other", version=3), replace=True)
        assert repository["gemma"].model_json == {"model": "other"}

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "a\0b", ".hidden", "-x", "ä", "a b", "x" * 201]
    )
    def test_names_that_would_leave_the_repository(self, repository: ModelRepository, name: str) -> None:
        with pytest.raises(RepositoryError, match="cannot be a model's name"):
            VllmModel(name, model="m")
        with pytest.raises(RepositoryError):
            repository[name]
        with pytest.raises(RepositoryError):
            repository.remove(name)

    @pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"x"])
    def test_arguments_without_json_form(self, value: Any) -> None:
        with pytest.raises(RepositoryError, match="no JSON form"):
            VllmModel("m", model="m", value=value)

    def test_version_is_a_positive_number(self) -> None:
        with pytest.raises(RepositoryError, match="Version 0"):
            VllmModel("m", model="m", version=0)

    def test_remove(self, repository: ModelRepository, tmp_path: Path) -> None:
        repository.remove("gemma")
        assert list(repository) == []
        with pytest.raises(RepositoryError, match="There is no model 'gemma'"):
            repository.remove("gemma")
        (repository.path / "photos").mkdir()
        (repository.path / "photos" / "holiday.jpg").touch()
        with pytest.raises(RepositoryError, match="it is no model"):
            repository.remove("photos")
        (tmp_path / "elsewhere").mkdir()
        (repository.path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RepositoryError, match="is a link"):
            repository.remove("link")
        assert (tmp_path / "elsewhere").exists()


class TestEditing:
    def test_model_json_keeps_its_order(self, repository: ModelRepository) -> None:
        model = repository["gemma"]
        model.update_model_json(max_model_len=4096, gpu_memory_utilization=None)
        assert list(model.model_json) == ["model", "max_model_len"]

    def test_config(self, repository: ModelRepository) -> None:
        repository["gemma"].update_config(max_batch_size=4)
        assert repository["gemma"].config.max_batch_size == 4
        for wrong in ({"max_batchsize": 4}, {"max_batch_size": "four"}):
            with pytest.raises(RepositoryError, match="takes no"):
                repository["gemma"].update_config(**wrong)

    def test_a_file_written_by_hand_is_not_rewritten(self, repository: ModelRepository) -> None:
        text = "# by hand\n" + config_file(repository).read_text()
        config_file(repository).write_text(text)
        with pytest.raises(RepositoryError, match="written by hand"):
            repository["gemma"].update_config(max_batch_size=4)
        assert config_file(repository).read_text() == text

    def test_unreadable_files_are_sentences(self, repository: ModelRepository) -> None:
        config_file(repository).write_text("nonsense {")
        model_file(repository).write_text("{")
        with pytest.raises(RepositoryError, match=r"config\.pbtxt"):
            _ = repository["gemma"].config
        with pytest.raises(RepositoryError, match="not JSON"):
            _ = repository["gemma"].model_json


GOOD = VllmModel("gemma", model="m").config()
CONFIG_FAULTS = {
    "misspelt field": ("instance_group", "instance_groups", "no field instance_groups", "did you mean instance_group?"),
    "engine argument here": ("max_batch_size: 0", "gpu_memory_utilization: 0.9", "no field", "to model.json"),
    "other name": ('name: "gemma"', 'name: "gemma2"', "the folder is 'gemma'", 'write name: "gemma"'),
    "unknown backend": ('backend: "vllm"', 'backend: "vlm"', "no backend 'vlm'", 'did you mean backend: "vllm"?'),
    "no backend": ('backend: "vllm"', "", "neither backend nor platform", "write backend"),
    "not decoupled": ("decoupled: true", "decoupled: false", "the model is not decoupled", "decoupled: true"),
    "not said": ("model_transaction_policy {\n  decoupled: true\n}", "", "does not say", "decoupled: true"),
    "batching": ("max_batch_size: 0", "max_batch_size: 8", "max_batch_size is 8", "max_num_seqs"),
    "wrong type": ("TYPE_BOOL", "TYPE_INT32", "is TYPE_INT32", "TYPE_BOOL"),
    "unknown type": ("TYPE_BOOL", "TYPE_BOOOL", "TYPE_BOOOL is no DataType", "did you mean TYPE_BOOL?"),
    "wrong dims": ("dims: -1", "dims: 7", "has dims [7]", "dims: [-1]"),
    "unknown tensor": ('"text_input"', '"txt_input"', "'txt_input' is unknown", "did you mean text_input?"),
    "open bracket": ("decoupled: true\n}", "decoupled: true\n", "", ""),
}


def with_line_before_max_batch_size(text: str) -> str:
    return text if "max_batch_size" in text else text + "max_batch_size: 0\n"


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_faults_of_config_pbtxt(repository: ModelRepository, fault: str) -> None:
    old, new, what, fix = CONFIG_FAULTS[fault]
    text = with_line_before_max_batch_size(config_file(repository).read_text())
    assert old in text
    config_file(repository).write_text(text.replace(old, new, 1))
    problem = next(p for p in repository.validate() if what in p.what)
    assert problem.file == "gemma/config.pbtxt"
    assert fix in problem.fix
    assert problem.why


@pytest.mark.parametrize(
    ("text", "what", "fix", "line"),
    [
        ('{"model": "m",\n "gpu_mem_utilization": 0.9}', "no engine argument 'gpu_mem_utilization'", "gpu_memory", 2),
        ('{"model": "m",\n "engine_args": {"dtype": "auto"}}', "nested in 'engine_args'", "top level", 2),
        ('{"model": "m",\n "max_model_len": "long"}', "max_model_len is 'long'", "type int", 2),
        ('{"model": "m",\n "gpu_memory_utilization": 90}', "gpu_memory_utilization is 90", "up to 1", 2),
        ('{"model": "m",\n}', "it is not JSON", "no comma after the last", 2),
        ("{'model': 'm'}", "it is not JSON", "double quotes", 1),
        ("[]", "no JSON object", "model", 1),
        ("{}", "no model is named", "google/gemma-2b-it", 0),
        ("[" * 100_000, "not JSON", "", 0),
    ],
)
def test_faults_of_model_json(repository: ModelRepository, text: str, what: str, fix: str, line: int) -> None:
    model_file(repository).write_text(text)
    problem = next(p for p in repository.validate() if what in p.what)
    assert (problem.file, problem.line) == ("gemma/1/model.json", line)
    assert fix in problem.fix


def test_missing_parts(repository: ModelRepository) -> None:
    model_file(repository).unlink()
    assert [p.what for p in repository.validate()] == ["model.json is missing"]
    model_file(repository).parent.rmdir()
    assert [p.what for p in repository.validate()] == ["there is no version folder"]
    config_file(repository).unlink()
    assert [p.what for p in repository.validate()] == ["config.pbtxt is missing"]
    assert [p.what for p in ModelRepository(repository.path / "nowhere").validate()] == ["the repository is not there"]


def test_kind_gpu_with_tensor_parallelism(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    repository.add(VllmModel("big", model="m", kind="KIND_GPU", tensor_parallel_size=2))
    [problem] = repository.validate()
    assert "KIND_MODEL" in problem.fix


@pytest.mark.parametrize(
    "values", [{"kind": "GPU"}, {"count": "two"}, {"parameters": {"A": True}}, {"version": 0}, {"dtype": object()}]
)
def test_a_value_without_a_form_is_refused_before_anything_is_replaced(
    repository: ModelRepository, values: dict[str, Any]
) -> None:
    before = config_file(repository).read_text()
    with pytest.raises(RepositoryError):
        repository.add(VllmModel("gemma", model="m", **values), replace=True)
    assert config_file(repository).read_text() == before


def test_reading_what_is_not_there(repository: ModelRepository) -> None:
    config_file(repository).unlink()
    with pytest.raises(RepositoryError, match="cannot be read"):
        _ = repository["gemma"].config_text
    with pytest.raises(RepositoryError, match="no JSON form"):
        repository["gemma"].update_model_json(model=Path("m"))
    (repository.path / ".ipynb_checkpoints").mkdir()
    assert [model.name for model in repository] == [".ipynb_checkpoints", "gemma"]


def test_engine_arguments_depend_on_the_version(repository: ModelRepository) -> None:
    changed = sorted(set(engine_arguments("0.9.0")) - set(engine_arguments("0.32.0")))
    assert changed, "some argument was removed between the two"
    repository["gemma"].update_model_json(**{changed[0]: None})
    model_file(repository).write_text(json.dumps({"model": "m", changed[0]: None}))
    assert repository.validate("0.32.0")
    assert not repository.validate("0.9.0")


class TestAnything:
    """Whatever the files hold, the answer is a list of problems."""

    @given(content=st.binary(max_size=300))
    def test_any_bytes_in_either_file(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        repository = ModelRepository(tmp_path_factory.mktemp("any"))
        repository.add(VllmModel("gemma", model="m"))
        for path in (config_file(repository), model_file(repository)):
            kept = path.read_bytes()
            path.write_bytes(content)
            self.is_told(repository)
            path.write_bytes(kept)

    @given(at=st.integers(0, 900), byte=st.integers(0, 255), drop=st.integers(0, 40))
    def test_a_good_file_with_a_scratch(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, drop: int
    ) -> None:
        repository = ModelRepository(tmp_path_factory.mktemp("any"))
        repository.add(VllmModel("gemma", model="m"))
        good = config_file(repository).read_bytes()
        config_file(repository).write_bytes(good[:at] + bytes([byte]) + good[at + drop :])
        self.is_told(repository)

    def test_files_where_folders_belong_and_the_reverse(self, repository: ModelRepository) -> None:
        (repository.path / "stray.txt").touch()
        model_file(repository).unlink()
        model_file(repository).mkdir()
        (repository.path / "loop").symlink_to(repository.path)
        self.is_told(repository)
        config_file(repository).unlink()
        config_file(repository).mkdir()
        self.is_told(repository)

    @pytest.mark.parametrize(
        "content",
        ['{"model": "m"}'.encode("utf-16"), b'\xef\xbb\xbf{"model": "m"}', b'{"model_impl": "m"}', b'{"\\ud800": 1}'],
    )
    def test_texts_that_nearly_pass(self, repository: ModelRepository, content: bytes) -> None:
        model_file(repository).write_bytes(content)
        assert repository.validate()
        repr(repository.validate()).encode()
        self.is_told(repository)

    def test_numbers_that_no_enum_has(self, repository: ModelRepository) -> None:
        text = config_file(repository).read_text()
        config_file(repository).write_text(text.replace("TYPE_BOOL", "99", 1) + "instance_group { kind: 77 }\n")
        assert "is 99" in repr(repository.validate())

    def is_told(self, repository: ModelRepository) -> None:
        problems = repository.validate()
        assert all(isinstance(problem, Problem) and problem.what and problem.fix for problem in problems)
        assert len(repository.list()) >= 1
        assert "<table>" in problems._repr_html_() or not problems


def test_memory_arithmetic_of_llama_3_2_1b() -> None:
    """The documents' figures: 22,251 blocks of 16 tokens are 10.86 GiB, and 131,072 tokens fit 2.72 times."""
    shape = ModelShape.of(
        {
            "num_hidden_layers": 16,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 8192,
            "vocab_size": 128_256,
            "tie_word_embeddings": True,
        }
    )
    tokens = 22_251 * 16
    assert shape.kv_bytes_per_token() == 32 * 1024
    assert round(tokens * shape.kv_bytes_per_token() / 2**30, 2) == 10.86
    assert round(tokens / 131_072, 2) == 2.72
    assert shape.parameters() == 1_235_814_400


def test_schema_can_be_asked_for_by_several_threads_at_once() -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from tritonlab.schema import schema;"
        "print(sum(1 for _ in ThreadPoolExecutor(8).map(lambda _: schema().ModelConfig, range(8))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "8\n", done.stderr
