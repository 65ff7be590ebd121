"""One real server for all tests that only talk to it; tests that break servers start their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonlab import ModelRepository, VllmModel, serve
from tritonlab.engine.tutor import MODEL
from tritonlab.servers import Server

# Ctrl-C is tested. What a shell runs in its background ignores SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ENGINE_ARGUMENTS = {"model": str(MODEL), "dtype": "bfloat16", "enforce_eager": True, "max_model_len": 1024}
ECHO_CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 0
input [ { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


def tutor_repository(folder: Path, *names: str, **engine_arguments: object) -> ModelRepository:
    """A model repository that serves the tutor model under each name."""
    repository = ModelRepository(folder)
    for name in names:
        repository.add(VllmModel(name, **{**ENGINE_ARGUMENTS, **engine_arguments}))
    return repository


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = tutor_repository(tmp_path_factory.mktemp("repository"), "tutor")
    repository.add(VllmModel("gemma", parameters={"REPORT_CUSTOM_METRICS": "true"}, **ENGINE_ARGUMENTS))
    return repository


@pytest.fixture(scope="session")
def server(repository: ModelRepository) -> Iterator[Server]:
    with serve(repository, models=["tutor", "gemma"], target="local") as handle:
        yield handle.wait_ready()
