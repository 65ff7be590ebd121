"""The panels that explore: logs, commands, repositories, memory, used as a person uses them."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, expect

from tests.browser.conftest import ROOT, Lab, Notebook

HEIGHT = 3600
OUT_OF_MEMORY = ROOT / "data/logs/h200-triton-vllm-weights-out-of-memory.log"
REPOSITORY = """
from pathlib import Path
from tritonlab import ModelRepository, VllmModel
from tritonlab.widgets import RepositoryEditor
repo = ModelRepository("models-to-edit")
repo.add(VllmModel("gemma", model="google/gemma-2b-it", gpu_memory_utilization=0.9), replace=True)
config = Path("models-to-edit/gemma/config.pbtxt")
config.write_text('backend: "vllm"\\nmodel_transaction_policy { decoupled: true }\\n')
editor = RepositoryEditor(repo)
"""

ORDER = """
from threading import current_thread
import ipywidgets as widgets
from tritonlab.widgets import fields
threads, told = [], widgets.HTML()
def heard():
    threads.append(current_thread())
def click():
    heard()
    told.value = f"{words.value}: {len(threads)} heard, {len(set(threads))} thread"
    threads.clear()
words = fields.field(widgets.Text, "Words", continuous_update=False)
words.observe(lambda _: heard(), "value")
widgets.VBox([words, fields.button("Go", click), told])
"""


def button(panel: Locator, name: str) -> Locator:
    return panel.get_by_role("button", name=name)


def test_what_is_typed_is_there_at_the_click(run_cells: Callable[..., Notebook]) -> None:
    """Of two threads one may be late; a kernel that takes both from one thread keeps the order."""
    panel = run_cells(ORDER).cell(0)
    for words in ("one", "two", "three"):
        panel.get_by_label("Words").fill(words)
        button(panel, "Go").click()
        expect(panel).to_contain_text(f"{words}: ")
    expect(panel).to_contain_text("three: 2 heard, 1 thread")


def test_a_log_is_opened_filtered_and_its_finding_clicked(run_cells: Callable[..., Notebook]) -> None:
    notebook = run_cells("from tritonlab.widgets import LogExplorer\nexplorer = LogExplorer()\nexplorer")
    panel = notebook.cell(0)
    expect(panel.get_by_text("No log is open.")).to_be_visible()
    panel.get_by_label("Open").select_option("a file on this machine")
    panel.get_by_label("Path of the file").fill("/no/such.log")
    button(panel, "Open the file").click()
    expect(panel.get_by_role("alert")).to_contain_text("There is no file '/no/such.log'")
    panel.get_by_label("Path of the file").fill(str(OUT_OF_MEMORY))
    button(panel, "Open the file").click()
    expect(panel.get_by_role("alert")).to_contain_text("Verdict: failed")

    panel.get_by_label("Level").select_option("ERROR")
    expect(panel.get_by_text("68 events in lines 1 to 258")).to_be_visible()
    panel.get_by_label("Component").select_option("vllm")
    panel.get_by_label("Words in the message").fill("outofmemory")
    panel.get_by_label("Words in the message").press("Enter")
    events = panel.get_by_role("region", name="Events").get_by_role("row")
    expect(events.nth(1)).to_contain_text("torch.OutOfMemoryError")
    panel.get_by_label("Stage").select_option("memory pools")
    expect(panel.get_by_text("no such event in lines 1 to 2")).to_be_visible()
    panel.get_by_label("Stage").select_option("weights")
    panel.get_by_label("Words in the message").fill("")
    panel.get_by_label("Words in the message").press("Enter")
    expect(panel.get_by_text("65 events in lines 20 to 258")).to_be_visible()

    finding = button(panel, "The GPU's memory ran out")
    finding.focus()
    notebook.page.keyboard.press("Enter")
    expect(panel.get_by_role("region", name="Line 87")).to_contain_text(">     87 (EngineCore pid=5541) ERROR")
    expect(panel.get_by_role("row", name="what to do Take a smaller")).to_be_visible()
    expect(panel.get_by_role("img", name="Timeline")).to_be_visible()
    expect(panel.get_by_role("table", name="Where the memory went")).to_contain_text("pinned_pool")
    notebook.screenshots(panel, "log-explorer", HEIGHT)


def test_a_pasted_log_is_paged_through(run_cells: Callable[..., Notebook]) -> None:
    notebook = run_cells("from tritonlab.widgets import LogExplorer\nLogExplorer()")
    panel = notebook.cell(0)
    panel.get_by_label("Open").select_option("a text to paste")
    lines = "\n".join(f'I1121 03:00:00.000000 7 server.cc:1] "<b>step</b> {number}"' for number in range(450))
    panel.get_by_label("The log's text").fill(lines)
    button(panel, "Read the text").click()
    expect(panel.get_by_text("the first 200 of 450 events")).to_be_visible()
    expect(panel.get_by_role("cell", name="<b>step</b> 199", exact=True)).to_be_attached()
    button(panel, "More").click()
    expect(panel.get_by_role("cell", name="<b>step</b> 200", exact=True)).to_be_attached()
    button(panel, "More").press("Enter")
    expect(panel.get_by_text("50 events in lines 401 to 450")).to_be_visible()
    expect(button(panel, "More")).to_be_disabled()
    button(panel, "Back").press(" ")
    expect(panel.get_by_role("cell", name="<b>step</b> 200", exact=True)).to_be_attached()


def test_a_docker_line_changes_as_it_is_typed(run_cells: Callable[..., Notebook]) -> None:
    notebook = run_cells(
        "from tritonlab.widgets import CommandBuilder\nbuilder = CommandBuilder()\nbuilder", "print(builder.command)"
    )
    panel, page = notebook.cell(0), notebook.page
    bash, powershell = (panel.get_by_role("region", name=f"The line for {name}") for name in ("bash", "PowerShell"))
    expect(panel.get_by_text("Looked over: no problems.")).to_be_visible()
    port = panel.get_by_label("--publish").first
    port.fill("")
    port.press_sequentially("8000:8000")
    expect(bash).to_contain_text("--publish 8000:8000 \\")
    expect(powershell).to_contain_text("--publish 8000:8000 `")
    expect(panel.get_by_role("cell", name="The port is open on every address of the host.")).to_be_visible()
    expect(port).to_be_focused()

    button(panel, "Remove --gpus").press("Enter")
    expect(bash).not_to_contain_text("--gpus")
    expect(panel.get_by_role("cell", name="The container sees no GPU.")).to_be_visible()
    panel.get_by_label("Add: options of Docker").select_option("--gpus")
    expect(panel.get_by_text("--gpus shows the host's GPUs to the container")).to_be_visible()
    panel.get_by_role("button", name="Add", exact=True).first.click()
    expect(panel.get_by_text("--gpus has no value.")).to_be_visible()
    expect(panel.get_by_label("--gpus")).to_be_focused()
    page.keyboard.type("all")
    expect(bash).to_contain_text("--gpus all")

    secret = panel.get_by_label("--env")
    secret.fill("HF_TOKEN=hf_verysecret")
    expect(secret).to_have_value("HF_TOKEN=")
    expect(panel.get_by_text("would put a secret into the command line")).to_be_visible()
    secret.fill("HF_TOKEN")
    expect(bash).to_contain_text("--env HF_TOKEN")
    panel.get_by_label("Or paste a docker run line").fill('docker run -v "$HOME/m":/models -it ubuntu ls <x')
    button(panel, "Read the line").click()
    expect(panel.get_by_text("begins another command or a redirection")).to_be_visible()
    notebook.screenshots(panel, "command-builder-docker", HEIGHT)
    notebook.run_all()
    expect(notebook.cell(1)).to_contain_text("DockerRun: --detach --gpus all")


def test_a_build_is_planned_and_checked(run_cells: Callable[..., Notebook]) -> None:
    notebook = run_cells("from tritonlab.widgets import CommandBuilder\nCommandBuilder('trtllm-build')")
    panel = notebook.cell(0)
    bash = panel.get_by_role("region", name="The line for bash")
    expect(bash).to_contain_text("--max_batch_size 64")
    panel.get_by_label("--max_batch_size").fill("sixty")
    expect(panel.get_by_role("alert")).to_contain_text("is no number")
    panel.get_by_label("--max_batch_size").fill("128")
    expect(bash).to_contain_text("--max_batch_size 128")
    panel.get_by_label("Quantization").select_option("fp8")
    expect(panel.get_by_role("cell", name="The checkpoint is FP8")).to_be_visible()
    panel.get_by_label("--gemm_plugin").select_option("disable")
    expect(panel.get_by_text("Looked over: no problems.")).to_be_visible()
    panel.get_by_label("GPU that is to serve it").select_option("T4")
    expect(panel.get_by_text("Looked over: 2 problems.")).to_be_visible()
    panel.get_by_label("Add: options of trtllm-build").select_option("--weight_streaming")
    expect(panel.get_by_role("button", name="Add", exact=True)).to_be_enabled()
    panel.get_by_role("button", name="Add", exact=True).press("Enter")
    expect(bash).to_contain_text("--weight_streaming")
    notebook.screenshots(panel, "command-builder-build", HEIGHT)


def test_a_repository_is_edited_without_a_loss(run_cells: Callable[..., Notebook], lab: Lab) -> None:
    notebook = run_cells(REPOSITORY, "editor")
    folder = lab.folder / "models-to-edit/gemma"
    config, arguments = folder / "config.pbtxt", folder / "1/model.json"
    panel, before = notebook.cell(1), config.read_text()
    expect(panel.get_by_text("No problems.")).to_be_visible()
    area = panel.get_by_label("gemma/config.pbtxt")
    area.click()
    notebook.page.keyboard.press("Control+End")
    notebook.page.keyboard.type("max_batch_size: 8")
    problem = panel.get_by_role("listitem").filter(has_text="gemma/config.pbtxt, line 3")
    expect(problem).to_contain_text("max_batch_size is 8")
    expect(panel.get_by_text("Unsaved: gemma/config.pbtxt")).to_be_visible()
    assert config.read_text() == before
    expect(area).to_be_focused()

    config.write_text("# another's\n" + before)
    button(panel, "Save config.pbtxt").click()
    expect(panel.get_by_role("alert").first).to_contain_text("has changed on disk")
    assert config.read_text() == "# another's\n" + before
    notebook.screenshots(panel, "repository-editor", HEIGHT)
    button(panel, "Overwrite config.pbtxt on disk").click()
    expect(panel.get_by_text("Saved gemma/config.pbtxt.")).to_be_visible()
    assert config.read_text() == before + "max_batch_size: 8"
    expect(panel.get_by_text("Nothing is unsaved.")).to_be_visible()

    panel.get_by_label("gemma/1/model.json").fill('{"model": "google/gemma-2b-it",\n "gpu_memory_utilisation": 0.9}')
    expect(panel.get_by_role("listitem").filter(has_text="gemma/1/model.json, line 2")).to_contain_text("did you mean")
    button(panel, "Discard what is typed for model.json").press("Enter")
    expect(panel.get_by_label("gemma/1/model.json")).to_have_value(arguments.read_text())


def test_memory_is_planned_for_both_backends(run_cells: Callable[..., Notebook]) -> None:
    notebook = run_cells("from tritonlab.widgets import MemoryPlanner\nplanner = MemoryPlanner()\nplanner")
    panel = notebook.cell(0)
    expect(panel.get_by_text("It fits: room for 133 requests of 4,096 tokens")).to_have_count(2)
    expect(panel.get_by_role("img", name="vLLM: weights 2.30")).to_be_visible()
    panel.get_by_label("Model", exact=True).select_option("meta-llama/Llama-3.1-8B")
    panel.get_by_label("GPU", exact=True).select_option("T4")
    expect(panel.get_by_text("It does not fit")).to_have_count(2)
    expect(panel.get_by_text("has no bfloat16")).to_be_visible()
    expect(panel.get_by_text("beyond the GPU's end")).to_have_count(2)
    notebook.screenshots(panel, "memory-planner-too-large", HEIGHT)
    panel.get_by_label("Weights", exact=True).select_option("int4")
    expect(panel.get_by_text("It starts, but has room for").first).to_be_visible()
    notebook.screenshots(panel, "memory-planner", HEIGHT)
    requests = panel.get_by_label("Requests at once")
    requests.fill("4")
    expect(panel.get_by_text("and you ask for 4.").first).to_be_visible()
    expect(requests).to_be_focused()
    requests.fill("-3")
    expect(panel.get_by_role("alert")).to_contain_text("Requests at once: -3 is none.")
