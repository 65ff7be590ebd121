"""Panels: ipywidgets faces over the package, for mouse, keyboard and screen reader, without logic of their own.

Each is loaded when it is first asked for: a module of this folder costs the import of ipywidgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tritonlab.widgets.chat import Chat
    from tritonlab.widgets.command_builder import CommandBuilder
    from tritonlab.widgets.log_explorer import LogExplorer
    from tritonlab.widgets.memory_planner import MemoryPlanner
    from tritonlab.widgets.metrics import LiveMetrics
    from tritonlab.widgets.panel import Panel
    from tritonlab.widgets.repository_editor import RepositoryEditor
    from tritonlab.widgets.start import StartPanel

__all__ = [
    "Chat",
    "CommandBuilder",
    "LiveMetrics",
    "LogExplorer",
    "MemoryPlanner",
    "Panel",
    "RepositoryEditor",
    "StartPanel",
]

_HOMES = {
    "Chat": "tritonlab.widgets.chat",
    "CommandBuilder": "tritonlab.widgets.command_builder",
    "LiveMetrics": "tritonlab.widgets.metrics",
    "LogExplorer": "tritonlab.widgets.log_explorer",
    "MemoryPlanner": "tritonlab.widgets.memory_planner",
    "Panel": "tritonlab.widgets.panel",
    "RepositoryEditor": "tritonlab.widgets.repository_editor",
    "StartPanel": "tritonlab.widgets.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tritonlab.widgets' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
