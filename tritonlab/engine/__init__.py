"""The local target's parts: a real `tritonserver` and a real vLLM, from wheels, in an environment of their own."""

from tritonlab.engine.installer import Engine, EngineStatus, install, remove, status

__all__ = ["Engine", "EngineStatus", "install", "remove", "status"]
