"""The vllm backend for Triton: a Python-backend model that serves what model.json describes.

It honours the contract of NVIDIA's vllm backend, so that a model repository runs here and in NVIDIA's container alike.
What is done otherwise, and why, stands in README.md.
"""

import stub_environment  # noqa: F401, I001  (first: vLLM and torch need what it sets)

import json
import math
import os
import time
from pathlib import Path


import tensors
from answer import BadRequest
from request import Request


class TritonPythonModel:
    """What Triton's stub calls: `initialize` when the model loads, `execute` for requests, `finalize` at the end."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        return tensors.complete(auto_complete_model_config)

    def initialize(self, args):
        self._name = args["model_name"]
        folder = Path(args["model_repository"])
        version_folder = (folder if folder.is_dir() else folder.parent) / args["model_version"]
        config = json.loads(args["model_config"])
        arguments = read_model_json(version_folder / "model.json")
        _require_decoupled(self._name, config)
        _require_no_batching(self._name, config)
        _choose_gpu(args, arguments)

        import compat  # seconds: only now is it sure that the files are right
        from engine import Engine

        self._compat = compat
        self._loras = _loras(version_folder / "multi_lora.json", arguments)
        metrics = None
        if is_set(config, "REPORT_CUSTOM_METRICS") and not arguments.get("disable_log_stats"):
            from metrics import TritonMetrics

            metrics = TritonMetrics(self._name, args["model_version"])
            arguments = {**arguments, "disable_log_stats": False}
        self._engine = Engine(self._name, arguments, metrics)

    def execute(self, requests):
        for triton_request in requests:
            self._engine.serve(triton_request, self._read)

    def _read(self, triton_request, answer):
        request = Request(triton_request)
        params = self._compat.sampling_params(request.sampling, stream=request.stream)
        lora = self._lora(request.lora_name)
        if request.images and not self._engine.is_multimodal:
            raise BadRequest(f"model {self._name} takes no images: it is a text model.")
        return self._generate(request, params, lora, answer)

    def finalize(self):
        if hasattr(self, "_engine"):
            self._engine.stop()

    async def _generate(self, request, params, lora, answer):
        identifier = f"{self._name}-{id(request):x}-{time.monotonic_ns():x}"
        limit = params.n * (params.max_tokens or math.inf)
        came, first = 0, None
        pace = self._engine.pace
        pace.streams += request.stream
        try:
            async for output in self._engine.generate(self._prompt(request), params, identifier, lora_request=lora):
                response = request.response(output, params.n)
                now = time.perf_counter()
                first = first or now
                came += sum(len(part.token_ids) for part in output.outputs)
                answer.send(response, last=output.finished)
                pace.sent(time.perf_counter() - now)
                if not output.finished:
                    await pace.wait(came, now - first, limit)
        finally:
            pace.streams -= request.stream

    def _prompt(self, request):
        if not request.images:
            return {"prompt": request.prompt}
        import io

        from PIL import Image

        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in request.images]
        return {"prompt": request.prompt, "multi_modal_data": {"image": images}}

    def _lora(self, name):
        if name is None:
            return None
        if name not in self._loras:
            raise BadRequest(f"LoRA {name} is not supported, we currently support {sorted(self._loras)}")
        number, path = self._loras[name]
        return self._compat.LoRARequest(name, number, path)


def read_model_json(path):
    """The engine arguments of a version folder."""
    assert path.is_file(), f"'model.json' containing vllm engine args must be provided in '{path.parent}'"
    try:
        arguments = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"model.json is not JSON: {error} ({path})") from None
    if not isinstance(arguments, dict):
        raise ValueError(f"model.json holds no object of engine arguments ({path})")
    return arguments


def is_set(config, name):
    """Whether config.pbtxt sets a parameter to true."""
    return config["parameters"].get(name, {}).get("string_value", "").lower() == "true"


def _require_decoupled(name, config):
    if not config["model_transaction_policy"]["decoupled"]:
        raise ValueError(
            f"vLLM backend model '{name}' must be decoupled: write "
            "model_transaction_policy { decoupled: true } into its config.pbtxt"
        )


def _require_no_batching(name, config):
    if config["max_batch_size"] != 0:
        raise ValueError(
            f"vLLM backend model '{name}' has max_batch_size {config['max_batch_size']}; it must be 0, "
            "since vLLM does the batching (max_num_seqs in model.json bounds it)"
        )


def _choose_gpu(args, arguments):
    if args["model_instance_kind"] != "GPU":
        return
    world = arguments.get("tensor_parallel_size", 1) * arguments.get("pipeline_parallel_size", 1)
    if world > 1:
        raise ValueError(
            "KIND_GPU is currently for single-GPU models, please specify KIND_MODEL in the model's "
            f"config.pbtxt for tensor_parallel_size x pipeline_parallel_size = {world}"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = args["model_instance_device_id"]


def _loras(path, arguments):
    """Adapter name -> (number, folder), from multi_lora.json when model.json says enable_lora."""
    if not arguments.get("enable_lora"):
        return {}
    if not path.is_file():
        raise FileNotFoundError(
            f"Triton backend cannot find {path}: enable_lora wants a multi_lora.json of names and folders"
        )
    return {
        name: (number, folder) for number, (name, folder) in enumerate(json.loads(path.read_bytes()).items(), start=1)
    }
