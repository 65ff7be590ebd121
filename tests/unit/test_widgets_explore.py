"""The panels that explore, driven by their fields and buttons, and the functions of the package that they show."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tritonlab import ModelRepository, VllmModel, gpus
from tritonlab.drafts import LARGEST, Drafts
from tritonlab.errors import CommandError, LogUnreadable, RepositoryError, TritonlabError
from tritonlab.logs import read_log, selection
from tritonlab.memory import GIB, fit_tensorrt_llm, fit_vllm
from tritonlab.servers import shells
from tritonlab.servers.command import DockerRun, without_secret
from tritonlab.trtllm import BuildPlan, shapes
from tritonlab.vllm import ModelShape
from tritonlab.widgets import CommandBuilder, LogExplorer, MemoryPlanner, RepositoryEditor
from tritonlab.widgets.command_builder import DOCKER_LINE

LOGS = Path(__file__).parents[2] / "data" / "logs"
OUT_OF_MEMORY = LOGS / "h200-triton-vllm-weights-out-of-memory.log"
HEALTHY = LOGS / "local-triton-vllm-ready-and-stopped.log"
TRITON = 'I1121 03:00:00.000000 7 server.cc:1] "{}"'
SHORT = 'backend: "vllm"\nmodel_transaction_policy { decoupled: true }\n'


@pytest.fixture
def repo(tmp_path: Path) -> ModelRepository:
    made = ModelRepository(tmp_path / "model_repository")
    made.add(VllmModel("gemma", model="google/gemma-2b-it"))
    (made["gemma"].path / "config.pbtxt").write_text(SHORT)
    return made


def send(panel: LogExplorer, data: bytes) -> None:
    """What the browser does when somebody chooses a file."""
    file = {"name": "x", "type": "", "size": len(data), "content": memoryview(data), "last_modified": datetime.now(UTC)}
    panel.upload.set_trait("value", (file,))


# Logs


def test_a_page_holds_what_was_asked_for_and_says_how_much_there_is() -> None:
    report = read_log(OUT_OF_MEMORY)
    page = report.page(levels=["ERROR"], components=["vllm"], words="outofmemory")
    assert [event.line for event in page.events] == [87]
    assert str(page) == "1 event in lines 1 to 258"
    assert page.more is None
    nothing = report.page(levels=["FATAL"])
    assert str(nothing) == "no such event in lines 1 to 258"
    assert report.page().found == len(report.events)
    without_level = report.page(levels=["none"])
    assert without_level.found == report.events.level.isna().sum()


def test_pages_come_one_after_the_other_without_a_gap() -> None:
    report = read_log([TRITON.format(number) for number in range(450)])
    lines, start = [], 0
    while True:
        page = report.page(start=start)
        lines += [event.line for event in page.events]
        if page.more is None:
            break
        start = page.more
    assert lines == list(range(1, 451))


def test_a_page_looks_at_a_bounded_part_of_a_long_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "LOOKED_AT", 100)
    report = read_log([TRITON.format(number) for number in range(450)])
    page = report.page(words="449")
    assert (page.events, page.lines, page.more) == ([], (1, 100), 101)
    assert [event.line for event in report.page(words="449", start=401).events] == [450]


def test_stages_are_where_their_lines_are() -> None:
    stages = read_log(HEALTHY).stage_lines()
    assert list(stages)[:2] == ["memory pools", "model load"]
    assert stages[selection.AFTER][1] == read_log(HEALTHY).lines[1]
    ends = [line for _, line in stages.values()]
    assert ends == sorted(ends)
    failed = read_log(OUT_OF_MEMORY)
    assert failed.stage_lines()["weights"] == (20, 258)
    with pytest.raises(LogUnreadable, match="no stage 'lunch'"):
        failed.page(stage="lunch")


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("first", [1, 2, 5, 9])
def test_lines_keep_their_numbers_however_the_text_is_cut(size: int, first: int) -> None:
    text = b"one\ntwo\n\nfour " + b"x" * 300 + b"\nfive\r\nsix\nseven"
    chunks = (text[at : at + size] for at in range(0, len(text), size))
    found = list(selection.numbered(chunks, first, 6, 1000))
    assert found == [(n, line) for n, line in enumerate(text.split(b"\n"), 1) if first <= n <= 6]


def test_a_line_comes_with_its_neighbours() -> None:
    report = read_log(["one", "two", "three", "x" * 5000])
    assert report.around(2, 1) == [(1, "one"), (2, "two"), (3, "three")]
    assert [len(text) for _, text in report.around(4, 0)] == [1000]


def test_reading_a_long_log_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[int] = []
    (tmp_path / "long.log").write_bytes(b"a line of a log\n" * 800_000)
    read_log(tmp_path / "long.log", told.append)
    assert told == sorted(told)
    assert len(told) >= 2


def test_explorer_filters_pages_and_shows_a_finding() -> None:
    panel = LogExplorer(OUT_OF_MEMORY)
    assert "Verdict: failed" in panel._said.value
    first = panel._findings.children[0]
    assert first.description == "error, line 87: The GPU's memory ran out while the model was loaded"
    first.click()
    assert ">     87 (EngineCore" in panel.plain()
    assert "&gt;     87 (EngineCore" in panel._detail.value
    panel.levels.value = ("ERROR",)
    panel.stage.value = "weights"
    assert panel.page.found == 68
    assert "level ERROR; stage weights:" in panel.plain()
    panel.words.value = "no such words"
    assert "no such event in lines 20 to 258" in panel._counted.value
    assert panel.more.disabled
    assert panel.back.disabled


def test_explorer_pages_forth_and_back_and_escapes_what_it_shows() -> None:
    panel = LogExplorer([TRITON.format(f"<script>{number}</script>") for number in range(450)])
    assert "&lt;script&gt;0&lt;" in panel._table.value
    assert "<script>" not in panel._table.value
    panel.more.click()
    assert panel.page.events[0].line == 201
    panel.more.click()
    assert str(panel.page) == "50 events in lines 401 to 450"
    panel.more.click()
    panel.back.click()
    panel.back.click()
    assert panel.page.events[0].line == 1


def test_explorer_opens_what_is_chosen_typed_pasted_or_sent(tmp_path: Path) -> None:
    panel = LogExplorer()
    assert panel.plain() == "No log is open."
    panel.recorded.value = LOGS / "trtllm-build.log"
    assert "Verdict: built" in panel._said.value
    panel.path.value = str(tmp_path)
    panel.open_path.click()
    assert "There is no file" in panel._said.value
    assert panel.report is not None  # what was open stays so
    panel.path.value = str(HEALTHY)
    panel.open_path.click()
    assert "Verdict: stopped" in panel._said.value
    panel.paste.value = "  \n"
    panel.read_paste.click()
    assert "Nothing is pasted" in panel._said.value
    panel.paste.value = "/etc/hostname"  # a text, and never the file of that name
    panel.read_paste.click()
    assert panel.page.events[0].message == "/etc/hostname"
    send(panel, OUT_OF_MEMORY.read_bytes())
    assert "Verdict: failed" in panel._said.value
    assert panel.upload.value == ()


def test_explorer_bears_ten_megabytes_and_binary() -> None:
    panel = LogExplorer()
    panel.paste.value = (TRITON.format("tick") + "\n") * 200_000
    panel.read_paste.click()
    assert panel.page.lines == (1, 100_000)
    assert panel.page.more == 201
    assert panel.paste.value == ""  # it is not saved with the notebook
    assert len(panel._table.value) < 100_000
    send(panel, bytes(range(256)) * 4000)
    assert "Verdict: unknown" in panel._said.value
    assert panel.plain()


@pytest.mark.parametrize("typed", ["~nosuchuser/x", "x" * 5000])
def test_explorer_says_what_is_wrong_with_a_path(typed: str) -> None:
    panel = LogExplorer()
    panel.path.value = typed
    panel.open_path.click()
    assert "Nothing can be looked for" in panel._said.value


def test_explorer_says_when_the_file_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(OUT_OF_MEMORY.read_bytes())
    panel = LogExplorer(log)
    log.unlink()
    panel.levels.value = ("ERROR",)
    assert "cannot be opened" in panel._counted.value
    panel._findings.children[0].click()
    assert "cannot be opened" in panel._detail.value
    with pytest.raises(LogUnreadable):
        LogExplorer(tmp_path / "none.log")


# Commands


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("$PWD/m", "${PWD}/m"),
        ("${PWD}/m", "${PWD}/m"),
        ("a$$b", "a$$b"),
        ("$1", "$1"),
        ("$", "$"),
        ("$$HOME", "$$HOME"),
    ],
)
def test_a_typed_variable_becomes_one(typed: str, word: str) -> None:
    assert shells.typed(typed) == word


@pytest.mark.parametrize(
    ("value", "kept"),
    [("HF_TOKEN=hf_abc", "HF_TOKEN="), ("HF_TOKEN", "HF_TOKEN"), ("HF_TOKEN=$X", "HF_TOKEN=$X"), ("A=b", "A=b")],
)
def test_a_secret_is_taken_out(value: str, kept: str) -> None:
    assert without_secret("--env", value) == kept


@pytest.mark.parametrize(
    ("options", "image", "said"),
    [
        ([("--gpu", "all")], "ubuntu", "no option --gpu"),
        ([("--gpus", "")], "ubuntu", "--gpus has no value"),
        ([("--env", "HF_TOKEN=hf_abc")], "ubuntu", "a secret"),
        ([], "", "cannot be an image"),
        ([], "--privileged", "cannot be an image"),
        ([], "a b", "cannot be an image"),
    ],
)
def test_a_chosen_command_that_is_none_is_refused(options: list[tuple[str, str]], image: str, said: str) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        DockerRun.chosen(options, image)
    assert "hf_abc" not in str(caught.value)


def test_builder_begins_with_the_line_of_the_course() -> None:
    builder = CommandBuilder()
    assert builder.command == DockerRun.parse(DOCKER_LINE, "bash")
    assert "Looked over: no problems." in builder._advice.value
    notebook = json.loads((LOGS.parents[1] / "notebooks" / "02-launch-vllm.ipynb").read_text())
    assert any(DOCKER_LINE.strip() in "".join(cell["source"]) for cell in notebook["cells"])


def test_builder_follows_each_choice() -> None:
    builder = CommandBuilder()
    rows = builder.form._docker
    publish = next(row for row in rows._rows if row.name == "--publish")
    publish.value.value = "8000:8000"
    assert "--publish 8000:8000 \\" in builder._lines["bash"].value
    assert "--publish 8000:8000 `" in builder._lines["powershell"].value
    assert "The port is open on every address" in builder._advice.value
    assert "publishes the port for HTTP" in publish.told.value
    rows.add.value = "--memory"
    assert "limits the container&#x27;s memory" in rows._preview.value
    rows.add_button.click()
    assert "--memory has no value." in builder._advice.value
    with pytest.raises(CommandError):
        _ = builder.command
    assert builder.plain().startswith("--memory has no value.")
    assert builder._lines["bash"].value == ""
    rows._rows[-1].value.value = "8g; rm -rf /"
    assert builder.command.values("--memory") == ["8g; rm -rf /"]
    assert "--memory &#x27;8g; rm -rf /&#x27;" in builder._lines["bash"].value
    rows._rows[-1].box.children[0].children[1].click()
    assert not builder.command.has("--memory")
    builder.form.driver.value = "9" * 5000
    assert "Looked over" in builder._advice.value


def test_builder_keeps_no_secret() -> None:
    builder = CommandBuilder()
    env = next(row for row in builder.form._docker._rows if row.name == "--env")
    env.value.value = "HF_TOKEN=hf_secret"
    assert env.value.value == "HF_TOKEN="
    builder.form.paste.value = "docker run -e API_KEY=hf_secret ubuntu env"
    builder.form.read_button.click()
    assert "hf_secret" not in builder.plain() + str([row.value.value for row in builder.form._docker._rows])
    assert builder.form.paste.value == ""


def test_builder_reads_a_line_of_another_shell() -> None:
    builder = CommandBuilder()
    builder.form.paste.value = (
        "docker run `\n  --gpus all -v ${PWD}\\m:/models `\n  img:1 tritonserver --log-verbose=1 x"
    )
    builder.form.read_button.click()
    assert builder.command.image == "img:1"
    assert builder.command.command == ("tritonserver", "--log-verbose=1", "x")
    builder.form.paste.value = "rm -rf /"
    builder.form.read_button.click()
    assert "no docker run command" in builder.form._heard.value
    assert builder.command.image == "img:1"


def test_builder_plans_a_build() -> None:
    builder = CommandBuilder("trtllm-build")
    name = "Llama-3.2-1B"
    given = {"max_batch_size": "64", "max_seq_len": "8192", "gemm_plugin": "auto"}
    assert builder.command == BuildPlan(f"checkpoints/{name}", f"engines/{name}", given)
    builder.form.quantization.value = "fp8"
    assert "The checkpoint is FP8" in builder._advice.value
    builder.form.gpu.value = "T4"
    assert "compute capability 7.5" in builder.plain()
    rows = builder.form._rows
    batch = rows._rows[0].value
    for absurd in ("", "-1", "1e9", "9" * 5000, "many"):
        batch.value = absurd
        assert "is no number" in builder._advice.value
    batch.value = "64"
    rows.add.value = "dry_run"
    rows.add_button.click()
    assert builder.command.options["dry_run"] is True
    assert "--dry_run" in builder._lines["bash"].value
    assert "dry_run" not in [value for _, value in rows.add.options]  # each option once
    builder.form.output.value = " "
    assert "--output_dir is empty" in builder.plain()
    with pytest.raises(CommandError, match="no builder for 'kubectl'"):
        CommandBuilder("kubectl")


def test_builder_says_what_no_script_converts() -> None:
    builder = CommandBuilder("trtllm-build")
    builder.form.model.value = "google/gemma-2b"
    builder.form.quantization.value = "fp8_rowwise"
    assert "does not do" in builder._advice.value


# Repositories


def test_what_is_typed_is_checked_and_not_written(repo: ModelRepository) -> None:
    drafts = Drafts(repo)
    drafts.edit("gemma/config.pbtxt", SHORT + "max_batch_size: 8\n")
    drafts.edit("gemma/1/model.json", '{"modle": 1}')
    assert [(p.file, p.line) for p in drafts.problems()] == [("gemma/config.pbtxt", 3), ("gemma/1/model.json", 1)]
    assert not repo.validate()
    assert (repo["gemma"].path / "config.pbtxt").read_text() == SHORT
    assert drafts.unsaved() == ["gemma/1/model.json", "gemma/config.pbtxt"]
    drafts.edit("gemma/config.pbtxt", SHORT)
    assert drafts.unsaved() == ["gemma/1/model.json"]
    drafts.save("gemma/1/model.json")
    assert (repo["gemma"].path / "1" / "model.json").read_text() == '{"modle": 1}'
    assert drafts.unsaved() == []
    assert [child.name for child in (repo["gemma"].path / "1").iterdir()] == ["model.json"]


def test_a_check_takes_no_copy_of_what_is_large(repo: ModelRepository) -> None:
    with (repo["gemma"].path / "1" / "weights.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    drafts = Drafts(repo)
    drafts.edit("gemma/config.pbtxt", 'backend: "vlm"')
    assert "vlm" in drafts.problems()[0].what


def test_another_hand_s_change_is_not_lost(repo: ModelRepository) -> None:
    drafts, file = Drafts(repo), repo["gemma"].path / "config.pbtxt"
    drafts.edit("gemma/config.pbtxt", "mine")
    file.write_text("theirs")
    with pytest.raises(RepositoryError, match="has changed on disk"):
        drafts.save("gemma/config.pbtxt")
    assert file.read_text() == "theirs"
    assert drafts.text("gemma/config.pbtxt") == "mine"
    drafts.save("gemma/config.pbtxt", overwrite=True)
    assert file.read_text() == "mine"
    drafts.edit("gemma/config.pbtxt", "again")
    file.unlink()
    with pytest.raises(RepositoryError, match="has changed on disk"):
        drafts.save("gemma/config.pbtxt")
    drafts.discard("gemma/config.pbtxt")
    assert drafts.text("gemma/config.pbtxt") == ""
    assert not drafts.exists("gemma/config.pbtxt")


def test_a_file_keeps_its_line_ends_its_rights_and_its_link(repo: ModelRepository, tmp_path: Path) -> None:
    file, elsewhere = repo["gemma"].path / "config.pbtxt", tmp_path / "kept.pbtxt"
    elsewhere.write_bytes(SHORT.replace("\n", "\r\n").encode())
    elsewhere.chmod(0o600)
    file.unlink()
    file.symlink_to(elsewhere)
    drafts = Drafts(repo)
    assert drafts.text("gemma/config.pbtxt") == SHORT
    drafts.edit("gemma/config.pbtxt", SHORT + "max_batch_size: 0\n")
    drafts.save("gemma/config.pbtxt")
    assert file.is_symlink()
    assert elsewhere.read_bytes().endswith(b"}\r\nmax_batch_size: 0\r\n")
    assert elsewhere.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"\xff\xfe\x00x", b"a\0b", b"x" * (LARGEST + 1)], ids=["bytes", "null", "large"])
def test_what_is_no_text_is_neither_shown_nor_written(repo: ModelRepository, data: bytes) -> None:
    file = repo["gemma"].path / "config.pbtxt"
    file.write_bytes(data)
    editor = RepositoryEditor(repo)
    assert editor.areas[0].text.disabled
    assert "Not shown:" in editor.areas[0]._note.value
    with pytest.raises(RepositoryError, match="cannot be edited here"):
        editor.drafts.edit("gemma/config.pbtxt", "x")
    assert file.read_bytes() == data
    assert "Not shown:" in editor.plain()


def test_editor_tells_problems_as_one_types_and_writes_at_save_alone(repo: ModelRepository) -> None:
    editor = RepositoryEditor(repo)
    config, arguments = editor.areas
    assert "No problems." in editor._found.value
    assert config.save.disabled
    config.text.value = SHORT + 'name: "<b>"\n'
    assert "gemma/config.pbtxt, line 3" in editor._found.value
    assert "<code>name: &quot;&lt;b&gt;&quot;</code>" in editor._found.value
    assert "Unsaved: gemma/config.pbtxt" in editor._unsaved.value
    assert (repo["gemma"].path / "config.pbtxt").read_text() == SHORT
    arguments.text.value = "{"
    assert "it is not JSON" in editor.plain()
    arguments.discard.click()
    assert "google/gemma-2b-it" in arguments.text.value
    config.save.click()
    assert (repo["gemma"].path / "config.pbtxt").read_text() == SHORT + 'name: "<b>"\n'
    assert "nothing is unsaved" in editor.plain()


def test_editor_asks_before_it_overwrites(repo: ModelRepository) -> None:
    editor, file = RepositoryEditor(repo), repo["gemma"].path / "config.pbtxt"
    config = editor.areas[0]
    assert config.overwrite.layout.display == "none"
    config.text.value = "mine"
    file.write_text("theirs")
    config.save.click()
    assert "has changed on disk" in editor._said.value
    assert file.read_text() == "theirs"
    assert config.overwrite.layout.display == ""
    config.keep.click()
    assert config.text.value == "theirs"
    assert config.overwrite.layout.display == "none"


def test_editor_keeps_what_is_typed_when_another_model_is_opened(repo: ModelRepository) -> None:
    repo.add(VllmModel("llama", model="x"))
    editor = RepositoryEditor(repo)
    editor.areas[0].text.value = "mine"
    editor.model.value = "llama"
    assert editor.areas[0].text.description == "llama/config.pbtxt"
    assert "Unsaved: gemma/config.pbtxt" in editor._unsaved.value
    editor.reread.click()
    editor.model.value = "gemma"
    assert editor.areas[0].text.value == "mine"


def test_editor_makes_a_missing_file_and_takes_an_empty_repository(repo: ModelRepository, tmp_path: Path) -> None:
    (repo["gemma"].path / "1" / "model.json").unlink()
    editor = RepositoryEditor(repo)
    assert "There is no such file; Save makes it." in editor.areas[1]._note.value
    editor.areas[1].text.value = '{"model": "google/gemma-2b-it"}'
    editor.areas[1].save.click()
    assert repo["gemma"].model_json == {"model": "google/gemma-2b-it"}
    nothing = RepositoryEditor(tmp_path / "none")
    assert nothing.areas[0].text.disabled
    assert "the repository is not there" in nothing.plain()


def test_editor_bears_ten_megabytes(repo: ModelRepository) -> None:
    editor = RepositoryEditor(repo)
    editor.areas[1].text.value = "[" * 10_000_000
    assert "it is not JSON" in editor.plain()
    assert len(editor._found.value) < 10_000


# Memory


@pytest.mark.parametrize(
    ("model", "gib", "length", "requests", "said"),
    [
        ("meta-llama/Llama-3.2-1B", 16, 4096, 16, "It fits: room for"),
        ("meta-llama/Llama-3.2-1B", 16, 4096, 10_000, "It starts, but has room for"),
        ("meta-llama/Llama-3.2-1B", 16, 200_000, 1, "the model was made for 131,072"),
        ("meta-llama/Llama-3.2-1B", 8, 131_072, 1, "the KV cache has room for"),
        ("meta-llama/Llama-3.1-8B", 16, 4096, 1, "GiB are missing, before any KV cache"),
    ],
)
def test_an_answer_says_why(model: str, gib: int, length: int, requests: int, said: str) -> None:
    shape = ModelShape.of(shapes()[model])
    answer = fit_tensorrt_llm(shape, gib * GIB, max_positions=131_072).answer(length, requests)
    assert said in answer.text
    assert answer.fits is said.startswith("It fits")


def test_graphs_beyond_the_share_do_not_fit() -> None:
    shape = ModelShape.of(shapes()["meta-llama/Llama-3.2-1B"])
    answer = fit_vllm(shape, 16 * GIB, gpu_memory_utilization=1.0).answer(4096, 1)
    assert answer == (False, "It does not fit: 0.16 GiB are missing, for what comes on top of the share.")


def test_planner_plans_for_both_backends() -> None:
    planner = MemoryPlanner()
    assert planner.plans["vllm"].fit.weights < planner.plans["tensorrtllm"].fit.weights  # the head, twice
    assert "It fits" in planner._views["vllm"].value
    assert 'aria-label="TensorRT-LLM: weights 2.79' in planner._views["tensorrtllm"].value
    planner.model.value = "meta-llama/Llama-3.1-8B"
    planner.gpu.value = "T4"
    assert not planner.plans["vllm"].answer.fits
    assert "GiB are missing" in planner.plain()
    assert "has no bfloat16" in planner._views["tensorrtllm"].value
    planner.weights.value = "int4"
    planner.requests.value = 2
    assert planner.plans["vllm"].answer.fits
    planner.tensor.value = 3
    assert "tp" in planner._views["tensorrtllm"].value


@pytest.mark.parametrize("name", ["prompt", "reply", "requests", "tensor", "pipeline"])
@pytest.mark.parametrize("value", [0, -5, 10**30])
def test_planner_refuses_absurd_numbers(name: str, value: int) -> None:
    planner = MemoryPlanner()
    getattr(planner, name).value = value
    assert f"{value} is none." in planner._said.value
    assert planner.plans == {}
    assert planner.plain().startswith(getattr(planner, name).description)
    assert planner._views["vllm"].value == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0, 1.5])
def test_planner_refuses_a_share_that_is_none(value: float) -> None:
    planner = MemoryPlanner()
    planner.share.value = value
    assert "is none" in planner._said.value


def test_planner_takes_any_gpu_and_a_pasted_config() -> None:
    planner = MemoryPlanner()
    planner.gpu.value = planner.gpu.options[-1]
    assert planner.gib.layout.display == ""
    planner.gib.value = 8.0
    assert "on a GPU with 8.00 GiB" in planner.plain()
    planner.model.value = planner.model.options[-1]
    assert "This is not JSON" in planner._said.value
    planner.config.value = json.dumps(shapes()["meta-llama/Llama-3.2-1B"])
    assert "2.30" in planner.plain()


def test_a_config_with_more_heads_than_numbers_is_refused() -> None:
    config = {**shapes()["meta-llama/Llama-3.2-1B"], "num_attention_heads": 4096, "hidden_size": 64}
    config.pop("head_dim", None)
    with pytest.raises(TritonlabError, match="4096 heads do not fit into a hidden_size of 64"):
        ModelShape.parse(json.dumps(config))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"), ("[]", "no object"), ("[" * 100_000, "not JSON"), ("{}", "num_hidden_layers is None"),
        ('{"num_hidden_layers": true}', "num_hidden_layers is True"), ('{"num_hidden_layers": -1}', "is -1"),
    ],
)  # fmt: skip
def test_a_config_that_has_no_shape_is_refused(text: str, said: str) -> None:
    with pytest.raises(TritonlabError, match=said):
        ModelShape.parse(text)


def test_gpus_of_this_machine_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["NVIDIA L4, 23034 MiB, 8.9", "NVIDIA L4, 23034 MiB, 8.9", "[N/A], [N/A], [N/A]", "x"]
    monkeypatch.setattr(gpus, "ask", lambda *fields: said)
    assert gpus.here() == [gpus.Gpu("NVIDIA L4", 23034 * gpus.MIB, (8, 9))]
