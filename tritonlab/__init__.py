"""Learn and do LLM serving on NVIDIA Triton, against a real server.

The names that the notebooks use. Each is loaded when it is first asked for, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazy: the function and its module share the name, and a later import of the module would hide the function.
from tritonlab.doctor import doctor

if TYPE_CHECKING:
    from tritonlab.client import Client
    from tritonlab.course import (
        check,
        data,
        expect_error,
        hint,
        progress,
        show,
        solution,
        tutor_model,
        workspace,
    )
    from tritonlab.course.lab import FaultLab, docker_says
    from tritonlab.errors import TritonlabError
    from tritonlab.logs import read_log
    from tritonlab.repository import ModelRepository
    from tritonlab.servers.command import DockerRun
    from tritonlab.servers.serve import serve
    from tritonlab.vllm import VllmModel
    from tritonlab.widgets.quiz import quiz

__version__ = "0.1.0"
__all__ = [
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
]

_HOMES = {
    "Client": "tritonlab.client",
    "DockerRun": "tritonlab.servers.command",
    "FaultLab": "tritonlab.course.lab",
    "ModelRepository": "tritonlab.repository",
    "TritonlabError": "tritonlab.errors",
    "VllmModel": "tritonlab.vllm",
    "check": "tritonlab.course",
    "data": "tritonlab.course",
    "docker_says": "tritonlab.course.lab",
    "expect_error": "tritonlab.course",
    "hint": "tritonlab.course",
    "progress": "tritonlab.course",
    "quiz": "tritonlab.widgets.quiz",
    "read_log": "tritonlab.logs",
    "serve": "tritonlab.servers",
    "show": "tritonlab.course",
    "solution": "tritonlab.course",
    "tutor_model": "tritonlab.course",
    "workspace": "tritonlab.course",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tritonlab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
