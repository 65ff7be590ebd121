"""The vllm backend for Triton: a Python-backend model that serves what model.json describes.

It honours the contract of NVIDIA's vllm backend, so that a model repository runs here and in NVIDIA's container alike.
What is done otherwise, and why, stands in README.md.
"""

import stub_environment  # noqa: F401, I001  (first: vLLM and torch need what it sets)

import asyncio
import atexit
import json
import math
import os
import threading
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils

import tensors
from pace import Pace
from request import FINAL, BadRequest, Request, error_response

LOOK_EVERY_S = 0.2
STOP_WAIT_S = 10


class TritonPythonModel:
    """What Triton's stub calls: `initialize` when the model loads, `execute` for requests, `finalize` at the end."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        return tensors.complete(auto_complete_model_config)

    def initialize(self, args):
        self._name, self._version = args["model_name"], args["model_version"]
        folder = Path(args["model_repository"])
        version_folder = (folder if folder.is_dir() else folder.parent) / self._version
        config = json.loads(args["model_config"])
        arguments = _read_model_json(version_folder / "model.json")
        _require_decoupled(self._name, config)
        _require_no_batching(self._name, config)
        _choose_gpu(args, arguments)

        import compat  # seconds: only now is it sure that the files are right

        self._compat = compat
        self._loras = _loras(version_folder / "multi_lora.json", arguments)
        self._metrics = None
        if _parameter(config, "REPORT_CUSTOM_METRICS") and not arguments.get("disable_log_stats"):
            from metrics import TritonMetrics

            self._metrics = TritonMetrics(self._name, self._version)
            arguments = {**arguments, "disable_log_stats": False}
        self._active = {}  # the task of each request -> its sender
        self._left = set()  # of those, the ones whose client has gone
        self._pace = Pace()
        self._dead = None
        self._start_engine(compat.engine_args(arguments))

    def execute(self, requests):
        for triton_request in requests:
            sender = triton_request.get_response_sender()
            try:
                request = Request(triton_request)
                params = self._compat.sampling_params(request.sampling, stream=request.stream)
                lora = self._lora(request.lora_name)
                if request.images and not self._multimodal:
                    raise BadRequest(f"model {self._name} takes no images: it is a text model.")
            except (BadRequest, ValueError) as error:
                sender.send(error_response(str(error)), flags=FINAL)
                continue
            except Exception as error:  # whatever a request holds, it gets an answer and the stub lives
                sender.send(error_response(f"the request could not be read: {error!r}"), flags=FINAL)
                continue
            if self._dead:
                sender.send(error_response(self._dead), flags=FINAL)
                continue
            asyncio.run_coroutine_threadsafe(self._serve(request, params, lora, sender), self._loop)

    def finalize(self):
        if not hasattr(self, "_loop"):
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        self._thread.join(STOP_WAIT_S)
        pb_utils.Logger.log_info(f"[vllm] the engine of {self._name} has ended")
        # Taking vLLM's and torch's modules apart would keep Triton waiting for seconds, and nothing is left to save.
        atexit.register(os._exit, 0)

    # The engine and its event loop live in a thread of their own.

    def _start_engine(self, engine_args):
        started = threading.Event()
        failure = []
        self._thread = threading.Thread(target=self._run, args=(engine_args, started, failure))
        self._thread.start()
        started.wait()
        if failure:
            self._thread.join()
            raise failure[0]

    def _run(self, engine_args, started, failure):
        async def main():
            self._loop = asyncio.get_running_loop()
            self._stopping = asyncio.Event()
            try:
                logger = self._metrics.logger_class() if self._metrics else None
                self._engine = self._compat.start(engine_args, logger)
                self._multimodal = self._compat.is_multimodal(self._engine)
            except BaseException as error:
                failure.append(error)
                return
            started.set()
            watch = asyncio.create_task(self._watch())
            await self._stopping.wait()
            watch.cancel()

        try:
            with self._compat.runner() as runner:
                runner.run(main())
        except BaseException as error:
            failure.append(error)
            raise
        finally:
            started.set()

    async def _shut_down(self):
        try:
            for task in list(self._active):
                task.cancel()
            await asyncio.gather(*self._active, return_exceptions=True)
            self._engine.shutdown()
        finally:
            # Let go while Python is whole: vLLM's __del__ fails when the interpreter is half gone.
            self._engine = None
            self._stopping.set()

    async def _watch(self):
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self._look()
            except Exception as error:  # the next look must come all the same
                pb_utils.Logger.log_error(f"[vllm] the look after model {self._name} failed: {error!r}")

    def _look(self):
        """Abort what its client no longer waits for, and notice an engine that has died."""
        if self._metrics and not self._active:
            # vLLM reports with each step, and after the last request of all was cancelled there is no step.
            self._metrics.idle()
        left = {task for task, sender in self._active.items() if sender.is_cancelled()}
        for task in left - self._left:  # once: a second cancel would interrupt the answer to the first
            task.cancel()
        self._left = left
        if self._engine is not None and self._engine.errored and not self._dead:
            self._dead = (
                f"the vLLM engine of model {self._name} has died; load the model again "
                "(its last lines in the server's log say why it died)"
            )
            pb_utils.Logger.log_error(f"[vllm] {self._dead}")
            # In a thread: unloading waits for the requests that this loop has still to answer.
            threading.Thread(target=self._turn_not_ready).start()

    def _turn_not_ready(self):
        try:
            pb_utils.unload_model(self._name)
        except pb_utils.TritonModelException as error:
            pb_utils.Logger.log_error(
                f"[vllm] model {self._name} still counts as ready, since the server does not run with "
                f"--model-control-mode=explicit: {error}"
            )

    async def _serve(self, request, params, lora, sender):
        task = asyncio.current_task()
        self._active[task] = sender
        identifier = f"{self._name}-{id(request):x}-{time.monotonic_ns():x}"
        finished = False
        limit = params.n * (params.max_tokens or math.inf)
        came, first = 0, None
        self._pace.streams += request.stream
        try:
            async for output in self._engine.generate(self._prompt(request), params, identifier, lora_request=lora):
                response = request.response(output, params.n)
                finished = output.finished
                now = time.perf_counter()
                first = first or now
                came += sum(len(part.token_ids) for part in output.outputs)
                sender.send(response, flags=FINAL if finished else 0)
                self._pace.sent(time.perf_counter() - now)
                if not finished:
                    await self._pace.wait(came, now - first, limit)
        except asyncio.CancelledError:
            sender.send(error_response("the request was cancelled"), flags=FINAL)
        except self._compat.EngineDeadError:
            self._answer(sender, finished, f"the vLLM engine of model {self._name} has died")
        except self._compat.REFUSALS as error:  # e.g. a prompt that is too long
            self._answer(sender, finished, f"vLLM refused the request: {error}")
        except Exception as error:  # whatever went wrong, the client gets an answer
            self._answer(sender, finished, f"the request failed: {error!r}")
        finally:
            del self._active[task]
            self._pace.streams -= request.stream
            # vLLM keeps the error of a dead engine, and that keeps this frame: a sender must go before its server does.
            sender = None

    @staticmethod
    def _answer(sender, finished, sentence):
        if not finished:
            sender.send(error_response(sentence), flags=FINAL)

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


def _read_model_json(path):
    assert path.is_file(), f"'model.json' containing vllm engine args must be provided in '{path.parent}'"
    try:
        arguments = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"model.json is not JSON: {error} ({path})") from None
    if not isinstance(arguments, dict):
        raise ValueError(f"model.json holds no object of engine arguments ({path})")
    return arguments


def _parameter(config, name):
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
