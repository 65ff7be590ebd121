"""A real engine with the CPU image. Without one these tests are skipped, unless DOCKER_HOST names one, as in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ECHO_CONFIG, tutor_repository
from tritonlab import ModelRepository, serve
from tritonlab.errors import DockerError
from tritonlab.servers import engines, image
from tritonlab.servers.docker import DockerServer

signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def engine() -> Iterator[engines.DockerEngine]:
    is_wanted = "DOCKER_HOST" in os.environ
    try:
        found = engines.connect()
    except DockerError as error:
        if is_wanted:
            raise
        pytest.skip(f"no Docker engine: {error.what}")
    with found:
        built = image.find(found)
        if not (built and built.is_current) and not is_wanted:
            pytest.skip("the engine has no current CPU image: `tritonlab image build` makes it")
        assert built
        assert built.is_current
        yield found


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    return tutor_repository(tmp_path_factory.mktemp("repository") / "models", "tutor")


@pytest.fixture(scope="session")
def server(engine: engines.DockerEngine, repository: ModelRepository) -> Iterator[DockerServer]:
    with serve(repository, models=["tutor"], target="docker") as handle:
        assert isinstance(handle, DockerServer)
        handle.wait_ready()
        yield handle


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A repository with one small Python model, which starts in a second."""
    folder = tmp_path / "echo_repository"
    (folder / "echo" / "1").mkdir(parents=True)
    (folder / "echo" / "config.pbtxt").write_text(ECHO_CONFIG)
    (folder / "echo" / "1" / "model.py").write_text(ECHO_MODEL)
    return folder


ECHO_MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "text_input") for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("text_output", given.as_numpy())]) for given in inputs]
"""
