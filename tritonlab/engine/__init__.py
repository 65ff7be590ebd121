"""The local target's parts: a real `tritonserver` and a real vLLM, from wheels, in an environment of their own."""

from tritonlab.engine.installer import LOCK, Engine, EngineStatus, Progress, install, remove, status

__all__ = ["LOCK", "Engine", "EngineStatus", "Progress", "install", "remove", "status"]
