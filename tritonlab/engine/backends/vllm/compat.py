"""Everything that differs between vLLM versions: 0.24 and 0.32 are run, 0.9 (container 25.06) is a step away.

The only module of this backend that imports vLLM. Importing it takes seconds, so it is imported when a model loads and
not when Triton asks for the configuration.
"""

import asyncio
import difflib
import inspect
import json
import os
import re
from contextlib import nullcontext
from multiprocessing import shared_memory

import msgspec
import torch
import vllm
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerBase

try:
    from vllm.exceptions import VLLMValidationError
except ImportError:  # vLLM 0.9
    VLLMValidationError = ValueError

__all__ = [
    "REFUSALS",
    "VERSION",
    "EngineDeadError",
    "LoRARequest",
    "StatLoggerBase",
    "engine_args",
    "forbid",
    "is_multimodal",
    "runner",
    "sampling_params",
    "start",
    "vocabulary",
]

VERSION = vllm.__version__
# What vLLM raises when a request cannot be served as it is. In 0.24 its own class is a ValueError, in 0.32 it is not.
REFUSALS = (ValueError, VLLMValidationError)
# The key that Triton's vllm backend documents, and the field of `SamplingParams` that it became in vLLM 0.11.
GUIDED = "guided_decoding"


def engine_args(arguments):
    """`AsyncEngineArgs` from model.json's object; an unknown key raises TypeError, as the dataclass does."""
    known = list(inspect.signature(AsyncEngineArgs).parameters)
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else "Its keys are engine arguments, all on one level."
            raise TypeError(
                f"AsyncEngineArgs.__init__() got an unexpected keyword argument '{name}'. "
                f"vLLM {VERSION} does not know this key of model.json. {hint}"
            )
    if current_platform.is_cpu() and arguments.get("kv_cache_memory_bytes"):
        # The environment, which speaks of every model of the server, would win over the model's own file.
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
    # vLLM's own log-line and Prometheus loggers cost time in every step, and nothing here reads them.
    return AsyncEngineArgs(**{"disable_log_stats": True, **arguments})


def start(arguments, stat_logger):
    """The engine; call it inside the running event loop that will use it. `stat_logger` is a class or None."""
    config = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
    with _cpu(config, arguments) if current_platform.is_cpu() else nullcontext():
        return AsyncLLM.from_vllm_config(
            config,
            stat_loggers=[stat_logger] if stat_logger else None,
            disable_log_stats=arguments.disable_log_stats,
        )


def _cpu(config, arguments):
    """Mend what vLLM chooses for a processor; the context to start the engine in."""
    from vllm.utils.ompmultiprocessing import OMPProcessManager

    # vLLM asks for spawned processes here, each of which would import vLLM again: two times six seconds. Forked ones,
    # as on a GPU, have it already; no thread pool of torch runs in this process that a fork could break.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    os.register_at_fork(after_in_child=_bind_threads)
    # With enforce_eager the sampler would still compile a function at the first request for log-probabilities: 15 s
    # with a C++ compiler, and without one the engine dies.
    torch._dynamo.config.disable = config.model_config.enforce_eager
    parallel = config.parallel_config
    if parallel.world_size_across_dp > 1 or arguments.distributed_executor_backend == "mp":
        _share_cores(parallel.local_world_size)
        _leave_exchange_to_gloo()
        _name_shared_memory()
        if parallel.pipeline_parallel_size > 1:
            _make_room_between_stages()
        return nullcontext()
    # vLLM gives even a lone worker a process of its own, since OpenMP reads its cores when it is loaded. A forked
    # process takes them later, so the engine's own can compute: no step has to travel between two processes that wait
    # for each other spinning. 8 to 25 % more tokens a second on two cores.
    parallel.distributed_executor_backend = "uni"
    return OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0)


def _share_cores(ranks):
    """Give each rank cores of its own: by itself vLLM gives each a NUMA node, and refuses to start with fewer nodes."""
    from vllm.utils.cpu_resource_utils import get_visible_memory_node

    if "VLLM_CPU_OMP_THREADS_BIND" in os.environ or ranks <= max(1, len(get_visible_memory_node())):
        return
    cores = sorted(os.sched_getaffinity(0))
    size = max(1, len(cores) // ranks)
    shares = [cores[rank * size % len(cores) :][:size] for rank in range(ranks)]
    if size > 1:  # as vLLM does: one of each rank's is left to the processes that feed it
        shares = [share[:-1] for share in shares]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(",".join(map(str, share)) for share in shares)


def _leave_exchange_to_gloo():
    """Let ranks exchange results alike on every processor: vLLM's own way needs AVX-512, and leaves memory behind."""
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

    CpuCommunicator._all_group_ranks_share_shm_group_name = lambda self: False


def _name_shared_memory():
    """Let what the ranks share bear the server's name: its keeper then finds it when they were killed."""
    server = os.environ.get("TRITONLAB_SERVER")
    if not server:  # in a container, with which its memory goes
        return
    name = f"tritonlab_{server}_"
    shared_memory._SHM_NAME_PREFIX = f"/{name}"
    shared_memory._SHM_SAFE_NAME_LENGTH = len(name) + 9


def _make_room_between_stages():
    """Make what a later stage of a pipeline receives into: vLLM does it in a warm-up that enforce_eager leaves out."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    gather = GPUModelRunner.sync_and_gather_intermediate_tensors

    def gather_into_room(self, *arguments, **more):
        if self.intermediate_tensors is None:
            self.intermediate_tensors = self.model.make_empty_intermediate_tensors(
                batch_size=self.max_num_tokens, dtype=self.model_config.dtype, device=self.device
            )
        return gather(self, *arguments, **more)

    GPUModelRunner.sync_and_gather_intermediate_tensors = gather_into_room


def _bind_threads():
    """Do in a forked process what OpenMP does in a spawned one: take the cores that vLLM chose, from the environment.

    Without it the threads take every core, spin there, and leave none to the processes that feed them: half the tokens
    a second on two cores.
    """
    chosen = os.environ.get("GOMP_CPU_AFFINITY") or os.environ.get("OMP_PLACES", "")
    if cores := [int(core) for core in re.findall(r"\d+", chosen)]:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(len(cores))


def runner():
    """What runs the engine's event loop: uvloop's where the engine has it, as in vLLM's own server."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def is_multimodal(engine):
    return bool(engine.model_config.is_multimodal_model)


def vocabulary(engine):
    return engine.model_config.get_vocab_size()


def sampling_params(given, *, stream):
    """`SamplingParams` from a request's object, cast as NVIDIA's backend casts them.

    Raises:
        ValueError: a name is unknown, or a value is of the wrong type or out of range.
    """
    fields = {field.name: field.type for field in msgspec.structs.fields(SamplingParams)}
    values = {}
    for name, value in given.items():
        if name == GUIDED or name == "structured_outputs":
            values["structured_outputs"] = _structured_outputs(value)
        elif name not in fields or name.startswith("_"):
            near = difflib.get_close_matches(name, [n for n in fields if n[0] != "_"], n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"there is no sampling parameter '{name}' in vLLM {VERSION}.{hint}")
        else:
            values[name] = _cast(name, value, fields[name])
    kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
    try:
        # The constructor takes any type for a field; msgspec does not.
        msgspec.convert(values, SamplingParams, strict=True)
        return SamplingParams(**values, output_kind=kind)
    except Exception as error:  # vLLM's own validation errors derive from different classes by version
        raise ValueError(f"the sampling parameters are not valid: {error}") from None


def forbid(params, words):
    """The parameters with words, given as lists of token ids, that must not come."""
    if words:
        # vLLM fills this field from the text of `bad_words`, which needs a tokenizer.
        params._bad_words_token_ids = words
    return params


def _structured_outputs(value):
    from vllm.sampling_params import StructuredOutputsParams

    try:
        options = json.loads(value) if isinstance(value, str) else value
        return StructuredOutputsParams(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{GUIDED}' wants a JSON object of vLLM's options: {error}") from None


def _cast(name, value, kind):
    casts = {int: int, float: float, bool: _boolean, str: str}
    members = [k for k in getattr(kind, "__args__", (kind,)) if k is not type(None)]
    if value is None or len(members) != 1 or members[0] not in casts:
        return value
    try:
        return casts[members[0]](value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"'{name}' wants a value of type {members[0].__name__}, not {value!r}") from None


def _boolean(value):
    # NVIDIA's backend takes bool("false"), which is True; the text means what it says here.
    words = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str):
        if value.lower() not in words:
            raise ValueError(value)
        return words[value.lower()]
    return bool(value)
