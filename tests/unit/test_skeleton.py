"""The project's own promises: what is pinned, what agrees with what, what must not stand in any file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import tritonlab
from tritonlab import course
from tritonlab.engine import installer

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PINNED = re.compile(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?==[^ ;]+( ; .+)?")


def tracked_texts() -> list[tuple[str, str]]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = []
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.suffix not in (".safetensors", ".png") and path.exists():
            texts.append((name, path.read_text(encoding="utf-8")))
    return texts


def test_conda_environment_is_in_step_with_pyproject() -> None:
    python, pip, extras = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert extras["pip"] == ["--editable .", *PROJECT["dependencies"]]


def test_versions_agree() -> None:
    assert PROJECT["version"] == tritonlab.__version__
    assert re.search(rf"^## \[{re.escape(tritonlab.__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("lock", [ROOT / "requirements.lock", installer.LOCK], ids=lambda path: path.name)
def test_locks_name_exact_versions_and_no_index(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 50
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


def test_lock_covers_every_dependency() -> None:
    locked = {re.split(r"[\[=]", line)[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {re.split(r"[\[>=]", line)[0].lower() for line in wanted} <= locked


def test_required_packages_are_dependencies() -> None:
    names = {re.split(r"[\[>=]", line)[0] for line in PROJECT["dependencies"]}
    assert {"jupyterlab", "ipywidgets", "papermill", "docker", "requests", "pandas", "pytest", "nbval"} <= names


def test_no_package_registry_is_named() -> None:
    # Put together here, so that this file does not name them either.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "anaconda" + ".org", "/simple" + "/"]
    found = [(name, host) for name, text in tracked_texts() for host in hosts if host in text]
    assert found == []
    indexes = {url for _, text in tracked_texts() for url in re.findall(r"https?://[^\s\"'`)]*whl[^\s\"'`)]*", text)}
    assert indexes <= {TORCH_INDEX}


def test_no_path_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:work|home/\w+|Users/\w+)/\w")
    found = [
        (name, match[0])
        for name, text in tracked_texts()
        # Logs keep the paths of the containers that they were recorded in.
        if not name.startswith(("data/logs/", "tests/")) and (match := pattern.search(text))
    ]
    assert found == []


def test_public_names_are_pinned() -> None:
    assert tritonlab.__all__ == [
        *(
            "Client",
            "DockerRun",
            "FaultLab",
            "ModelRepository",
            "TritonlabError",
            "VllmModel",
            "check",
            "data",
            "docker_says",
            "doctor",
        ),
        *(
            "expect_error",
            "hint",
            "progress",
            "quiz",
            "read_log",
            "serve",
            "show",
            "solution",
            "tutor_model",
            "workspace",
        ),
    ]
    assert all(hasattr(tritonlab, name) for name in tritonlab.__all__)
    with pytest.raises(AttributeError, match="no attribute 'srve'"):
        _ = tritonlab.srve


def test_import_is_cheap() -> None:
    """No heavy library is loaded; seconds are printed by benchmarks/startup.py, never asserted."""
    code = "import sys, json, tritonlab; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"pandas", "numpy", "requests", "matplotlib", "docker", "ipywidgets", "google.protobuf", "IPython", "typer"}
    assert loaded & heavy == set()


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[1] for line in told.splitlines()} == set(phony[1].split())


def test_ci_calls_what_the_readme_names() -> None:
    script, readme = (ROOT / ".ci" / "run").read_text(), (ROOT / "README.md").read_text()
    assert re.search(r"^make test$", script, re.MULTILINE)
    parts = re.findall(r'^make course TARGET=docker NOTEBOOKS="([\d ]+)"', script, re.MULTILINE)
    assert sorted(" ".join(parts).split()) == [path.name[:2] for path in course.notebooks()]
    assert {"make course", "make test"} <= set(re.findall(r"make \w+", readme))


def test_links_between_files_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
            if "://" not in target:
                assert (ROOT / target).exists(), f"{name}: {target}"


def test_wheel_carries_what_the_package_reads() -> None:
    code = (
        "from tritonlab.engine import installer; from tritonlab.engine.tutor import MODEL, questions;"
        "from tritonlab.course.exercises import exercises; from tritonlab.vllm import engine_arguments;"
        "assert installer.LOCK.exists() and (MODEL / 'model.safetensors').exists();"
        "from tritonlab.logs import rules; assert rules();"
        "from tritonlab.servers import image; assert all((image.HERE / name).exists() for name in image.FILES);"
        "assert questions() and exercises() and engine_arguments()"
    )
    subprocess.run([sys.executable, "-c", code], cwd="/", check=True)
    assert PROJECT["license-files"] == ["LICENSE"]
    assert (ROOT / "tritonlab" / "py.typed").exists()
