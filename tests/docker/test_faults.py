"""What Docker refuses, and what ends a container: each fault on the real engine is named by what is said."""

from __future__ import annotations

import pytest

from tritonlab.docker_faults import DOCKER_FAULTS, provoke
from tritonlab.logs import read_log
from tritonlab.servers import engines, image
from tritonlab.servers.docker import labelled


@pytest.mark.parametrize("name", DOCKER_FAULTS)
def test_fault_is_named_by_what_is_said(engine: engines.DockerEngine, name: str) -> None:
    before = labelled(engine)
    said = provoke(DOCKER_FAULTS[name], engine, image.NAME)
    report = read_log(said.splitlines())
    assert report.verdict == "failed", said[-3000:]
    assert report.findings[0].id == DOCKER_FAULTS[name].cause, said[-3000:]
    assert labelled(engine) == before
