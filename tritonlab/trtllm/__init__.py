"""TensorRT-LLM: from a checkpoint to an engine. Nothing here runs TensorRT-LLM: it plans, explains and checks.

The engine path is TensorRT-LLM's up to 1.2.1, and left its main branch in July 2026; what is told here is of 0.20.
"""

from tritonlab.trtllm.checkpoint import Checkpoint
from tritonlab.trtllm.convert import ConvertPlan, checkpoint_config, quantizations, shapes
from tritonlab.trtllm.engine import EngineFolder
from tritonlab.trtllm.launch import LaunchPlan
from tritonlab.trtllm.llm_api import LlmApiModel
from tritonlab.trtllm.plan import BuildPlan
from tritonlab.trtllm.repository import InflightBatcherLlm, parameters

__all__ = [
    "BuildPlan",
    "Checkpoint",
    "ConvertPlan",
    "EngineFolder",
    "InflightBatcherLlm",
    "LaunchPlan",
    "LlmApiModel",
    "checkpoint_config",
    "parameters",
    "quantizations",
    "shapes",
]
