"""tensorrt_llm, exchanged: on a machine without an NVIDIA GPU vLLM computes what a compiled engine would.

The code is in tritonlab's vllm backend, which the local engine and the CPU image have. model.json beside this file
holds vLLM's engine arguments.
"""

import sys
from pathlib import Path

import triton_python_backend_utils as pb_utils

BACKEND = Path(pb_utils.__file__).parents[1] / "vllm"
if not (BACKEND / "inflight_batcher.py").exists():
    raise ImportError(
        f"{BACKEND} is not tritonlab's vllm backend, so this model.py cannot run here. In NVIDIA's TensorRT-LLM "
        'container config.pbtxt wants backend: "tensorrtllm", and gpt_model_path the folder of a compiled engine.'
    )
sys.path.insert(0, str(BACKEND))

from inflight_batcher import TritonPythonModel  # noqa: E402, F401
