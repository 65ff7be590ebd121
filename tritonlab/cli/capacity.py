"""`tritonlab capacity`: from users and a latency target to GPUs and the cost of a token."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(capacity)


def capacity(
    model: Annotated[str, typer.Argument(help="A folder with config.json, or a known model such as Llama-3.1-8B.")],
    users: Annotated[float, typer.Option(help="People who are at it at the same time, at the busiest.")],
    gpu: Annotated[str, typer.Option(help="Which, e.g. H100, or its memory in GiB; by default this host's.")] = "",
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt.")] = 1000,
    output_tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = 300,
    requests_per_minute: Annotated[float, typer.Option(help="How often each of them asks.")] = 1.0,
    ttft: Annotated[float, typer.Option(help="Seconds to the first token that you allow.")] = 0.5,
    itl: Annotated[float, typer.Option(help="Seconds from token to token that you allow.")] = 0.05,
    tokens_per_second: Annotated[float | None, typer.Option(help="Output tokens/s of a replica, measured.")] = None,
    at: Annotated[float | None, typer.Option(help="Requests in flight at which that was measured.")] = None,
    price: Annotated[float | None, typer.Option(help="Of one GPU for an hour, in any currency.")] = None,
    utilization: Annotated[float, typer.Option(help="The share of a replica's capacity to plan for.")] = 0.7,
    gpus_per_replica: Annotated[int, typer.Option(help="GPUs that share each layer.")] = 1,
    backend: Annotated[str, typer.Option(help="vllm or tensorrtllm.")] = "vllm",
    weights: Annotated[str, typer.Option(help="Data type of the weights: bfloat16, fp8, int4 …")] = "bfloat16",
    kv_cache: Annotated[str, typer.Option(help="Data type of the KV cache: bfloat16 or fp8.")] = "bfloat16",
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """How many GPUs a load takes, and what a million tokens cost: every step with its formula and source."""
    from tritonlab.capacity import Throughput, model_shape, plan_capacity
    from tritonlab.errors import TritonlabError
    from tritonlab.gpus import memory_of

    if (tokens_per_second is None) != (at is None):
        raise TritonlabError(
            "A throughput is one at a number of requests in flight.", "Give both --tokens-per-second and --at."
        )
    measured = None if tokens_per_second is None or at is None else Throughput(tokens_per_second, at, "yours")
    known = model_shape(model)
    plan = plan_capacity(
        known.shape,
        users=users,
        requests_per_user_minute=requests_per_minute,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        ttft=ttft,
        itl=itl,
        gpu_memory=memory_of(gpu),
        throughput=measured,
        price_per_hour=price,
        utilization=utilization,
        gpus_per_replica=gpus_per_replica,
        backend=backend,
        weights=weights,
        kv_cache=kv_cache,
        max_positions=known.max_positions,
    )
    print(json.dumps(plan.as_dict(), indent=1, ensure_ascii=False) if as_json else plan)
