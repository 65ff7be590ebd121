"""A real JupyterLab and a real Chromium: a test opens a notebook, runs it, and looks at its outputs as a person."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

ROOT = Path(__file__).parents[2]
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDTHS = (1280, 700)
THEMES = ("JupyterLab Light", "JupyterLab Dark")
START_S = 60
# Playwright's own limit is 5 s; a server takes longer to start, and a busy machine 4 s for the first figure.
expect.set_options(timeout=60_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser nothing here can run. Where one was promised, that is a failure and says so in `chromium`."""
    if _chromium() or os.environ.get("CI") or os.environ.get("TRITONLAB_BROWSER"):
        return
    missing = pytest.mark.skip(
        reason="no Chromium here: apt install chromium-headless-shell, or name TRITONLAB_BROWSER"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(missing)


def _chromium() -> str | None:
    """$TRITONLAB_BROWSER, else the first Chromium on the path."""
    if named := os.environ.get("TRITONLAB_BROWSER"):
        return shutil.which(named)
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = _chromium()
    if path is None:
        wanted = os.environ.get("TRITONLAB_BROWSER", " or ".join(CHROMIUM))
        pytest.fail(
            f"There is no {wanted}, and this run was told to have one (CI or TRITONLAB_BROWSER). "
            "What to do: apt install chromium-headless-shell."
        )
    is_root = getattr(os, "geteuid", lambda: 1)() == 0  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if is_root else [])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, and the folder that it shows."""

    url: str
    folder: Path


def start_lab(folder: Path, private: Path, **environment: str) -> Iterator[Lab]:
    """A JupyterLab of the tests' own for `folder`; its settings, and all that it writes, are in `private`."""
    config, settings, runtime = private / "config", private / "settings", private / "runtime"
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "page_config.json").write_text(
        json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}})
    )
    # All cells in the page at once: those out of sight would have no outputs to look at.
    tracker = settings / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(json.dumps({"windowingMode": "none"}))
    with (private / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
                *("--ServerApp.port=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"),
                *(f"--ServerApp.root_dir={folder}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "JUPYTER_CONFIG_DIR": str(config),
                "JUPYTER_DATA_DIR": str(private / "data"),
                "JUPYTER_RUNTIME_DIR": str(runtime),
                "JUPYTERLAB_SETTINGS_DIR": str(settings),
                "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
                "IPYTHONDIR": str(private / "ipython"),
                **environment,
            },
        )
    try:
        yield Lab(_url(process, runtime, private / "lab.log"), folder)
    finally:
        process.terminate()  # it ends its kernels, and they their servers
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    facts = runtime / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if facts.exists() and (written := facts.read_text()):
            return str(json.loads(written)["url"])
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start within {START_S} s:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab over an empty folder, for notebooks that tests make."""
    yield from start_lab(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("lab"))


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """An empty page; after the test no error may stand in its console."""
    context = chromium.new_context(viewport={"width": WIDTHS[0], "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            said.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", listen)
    page.on("pageerror", lambda error: said.append(f"{error.message}\n{error.stack}"))
    yield page
    # What shutting the kernels down says is of no interest; a kernel takes its servers with it.
    found = list(said)
    page.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
    context.close()
    assert not found, "The browser's console has errors:\n" + "\n".join(found)


class Notebook:
    """A notebook that is open in JupyterLab, with its kernel idle."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name

    def run_all(self, timeout: float = 300.0) -> None:
        """Run All, as from the menu; returns when no cell runs or waits any more."""
        self.start_all()
        self.wait_idle(timeout)

    def start_all(self) -> None:
        """Run All without waiting; what was stored is cleared first, so that what shows then has run."""
        # The second command is not awaited: evaluate would wait for its promise.
        self.page.evaluate(
            """async () => {
              const commands = window.jupyterapp.commands;
              await commands.execute('notebook:clear-all-cell-outputs');
              commands.execute('notebook:run-all-cells');
            }"""
        )

    def wait_idle(self, timeout: float = 300.0) -> None:
        """Return when every code cell has run, or one has failed; after `timeout` s fail and say which still wait."""
        try:
            self.page.wait_for_function(
                """() => {
                  const cells = window.jupyterapp.shell.currentWidget.content.widgets
                    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim());
                  const failed = cells.some(cell => cell.model.outputs.toJSON().some(o => o.output_type === 'error'));
                  const busy = cells.some(cell => cell.node.querySelector('.jp-InputPrompt').textContent.includes('*'));
                  return !busy && (failed || cells.every(cell => cell.model.executionCount));
                }""",
                timeout=timeout * 1000,
            )
        except PlaywrightTimeout:
            state = self.page.evaluate(
                """() => {
                  const notebook = window.jupyterapp.shell.currentWidget;
                  const kernel = notebook.context.sessionContext.session?.kernel;
                  const prompts = [...notebook.node.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
                  return `the kernel is ${kernel?.status} and ${kernel?.connectionStatus}, the cells are ` +
                    prompts.map(prompt => prompt.textContent).join(' ');
                }"""
            )
            pytest.fail(f"{self.name} had not run to its end after {timeout:.0f} s: {state}", pytrace=False)

    def cell(self, index: int) -> Locator:
        """The output areas of one code cell, counted from 0. Assert inside them: the source may have the same words."""
        return self.page.locator(".jp-CodeCell").nth(index).locator(".jp-OutputArea-output")

    @property
    def outputs(self) -> Locator:
        """The output areas of all cells."""
        return self.page.locator(".jp-OutputArea-output")

    def errors(self) -> list[str]:
        """The errors that cells ended with."""
        found: list[str] = self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets
              .filter(cell => cell.model.type === 'code')
              .flatMap(cell => cell.model.outputs.toJSON())
              .filter(output => output.output_type === 'error')
              .map(output => `${output.ename}: ${output.evalue}`)"""
        )
        return found

    def theme(self, name: str) -> None:
        """Switch to one of THEMES and wait until it is in force."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached")

    def screenshots(self, panel: Locator, name: str, height: int = 1600) -> list[Path]:
        """Pictures of a panel at both widths and in both themes, in $TRITONLAB_SCREENSHOTS or pytest's folder.

        The window is made so high that the whole panel is in sight.
        """
        folder = Path(os.environ.get("TRITONLAB_SCREENSHOTS") or _pictures)
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": height})
            for theme in THEMES:
                self.theme(theme)
                self.page.wait_for_timeout(300)
                fits = panel.evaluate("node => node.scrollWidth <= node.clientWidth + 1")
                assert fits, f"{name} is cut off at {width} px"
                pictures.append(folder / f"{name}-{width}-{theme.split()[-1].lower()}.png")
                panel.screenshot(path=pictures[-1])
        self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        self.theme(THEMES[0])
        return pictures


_pictures = Path()


@pytest.fixture(scope="session", autouse=True)
def _folder_for_pictures(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _pictures
    _pictures = tmp_path_factory.mktemp("screenshots")


def open_path(page: Page, lab: Lab, path: str) -> Notebook:
    """Open a notebook that lies in the lab's folder, alone on the screen, and wait for its kernel."""
    page.goto(f"{lab.url}lab/tree/{path}?reset")
    page.wait_for_function(
        """() => {
          const widget = window.jupyterapp?.shell.currentWidget;
          const kernel = widget?.context?.sessionContext?.session?.kernel;
          return widget?.context?.isReady && kernel?.status === 'idle' && kernel?.connectionStatus === 'connected';
        }""",
        timeout=60_000,
    )
    # The side bar and the status bar take room from the notebook.
    page.evaluate(
        """() => {
          const app = window.jupyterapp;
          if (!app.shell.leftCollapsed) app.commands.execute('application:toggle-left-area');
        }"""
    )
    return Notebook(page, path)


@pytest.fixture
def open_notebook(page: Page, lab: Lab, request: pytest.FixtureRequest) -> Callable[..., Notebook]:
    """Open a notebook in the lab: a copy of a file, or one made of the sources of code cells.

    `open_notebook(["x = 1", "x"])` or `open_notebook(Path("notebooks/00-start-here.ipynb"))`.
    """

    def open_it(what: Path | Sequence[str]) -> Notebook:
        name = re.sub(r"[^\w-]+", "-", request.node.name) + ".ipynb"
        if isinstance(what, Path):
            shutil.copy(what, lab.folder / name)
        else:
            made: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in what])
            made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
            nbformat.write(made, lab.folder / name)
        return open_path(page, lab, name)

    return open_it


@pytest.fixture
def run_cells(open_notebook: Callable[..., Notebook]) -> Callable[..., Notebook]:
    """Make a notebook of these code cells, run them all, and return it; no cell may fail.

    `run_cells("from tritonlab.widgets import Chat", "Chat(...)", timeout=60)`
    """

    def run(*sources: str, timeout: float = 120.0) -> Notebook:
        notebook = open_notebook(sources)
        notebook.run_all(timeout)
        assert not notebook.errors()
        return notebook

    return run
