"""How many replicas: by how long requests wait, as Prometheus sees it and the Prometheus adapter hands it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tritonlab.errors import TritonlabError
from tritonlab.render.api import Place, client

SCRAPE = "15s"
WINDOW = "2m"


@dataclass(frozen=True)
class Signal:
    """A figure of one pod that grows with the queue.

    Attributes:
        metric: the name that the adapter gives it.
        series: the series in Prometheus that it is found by.
        query: PromQL, in the adapter's template language; seconds, requests or a share for each pod.
        target: what a pod should have on average, in Kubernetes' notation.
        says: what it is, for people.
    """

    metric: str
    series: str
    query: str
    target: str
    says: str


def _mean(total: str, count: str, unit: str = "") -> str:
    """The mean over what ended within the window, of the model with the highest; nothing ended, nothing waited.

    The mean over all models would hide the one that is waited for behind the quick steps around it.
    """
    of = "sum(rate({}{{<<.LabelMatchers>>}}[" + WINDOW + "])) by (<<.GroupBy>>, model)"
    return f"max({of.format(total)} / clamp_min({of.format(count)}, 1e-9){unit}) by (<<.GroupBy>>)"


def _share(series: str, label: str, part: str, whole: str) -> str:
    """The mean of a gauge over another of its family within the window, of the model with the highest."""
    of = f'sum({series}{{{{{label}="{{}}",<<.LabelMatchers>>}}}}) by (<<.GroupBy>>, model)'
    return f"avg_over_time(max({of.format(part)} / {of.format(whole)}) by (<<.GroupBy>>)[{WINDOW}:])"


SIGNALS = {
    "first-token": Signal(
        "triton_first_token_seconds",
        "vllm:time_to_first_token_seconds_count",
        _mean("vllm:time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_count"),
        "1",
        "mean time to first token, of the slowest model: the wait in vLLM's queue, and the prefill. NVIDIA's backend "
        "reports no other figure of that queue since it runs vLLM's V1 engine (triton-inference-server/vllm_backend, "
        "src/utils/metrics.py)",
    ),
    "waiting": Signal(
        "triton_requests_waiting",
        "vllm:num_requests_waiting",
        "avg_over_time(sum(vllm:num_requests_waiting{<<.LabelMatchers>>}) by (<<.GroupBy>>)[" + WINDOW + ":])",
        "4",
        "requests in vLLM's queue; reported by the course's backend, and by NVIDIA's with vLLM's V0 engine",
    ),
    "batch": Signal(
        "triton_batch_share",
        "nv_trt_llm_request_metrics",
        _share("nv_trt_llm_request_metrics", "request_type", "active", "max"),
        "800m",
        "active requests of TensorRT-LLM's batcher over the most that it takes. At 1 others wait in a queue without a "
        "figure: `waiting` counts the active ones that a step left out (NVIDIA/TensorRT-LLM, "
        "triton_backend/inflight_batcher_llm/src/model_instance_state.cc)",
    ),
    "queue": Signal(
        "triton_queue_seconds",
        "nv_inference_queue_duration_us",
        _mean("nv_inference_queue_duration_us", "nv_inference_request_success", " / 1e6"),
        "500m",
        "mean wait in Triton's own queue, of the model with the longest. vLLM and TensorRT-LLM take every request at "
        "once and let it wait inside, so with them it stays near 0",
    ),
}


def signal(wanted: str, backends: set[str]) -> Signal:
    """The signal to scale by; "" takes the one that suits the backends.

    Raises:
        TritonlabError: there is none of that name.
    """
    suits = "first-token" if "vllm" in backends else "batch" if "tensorrtllm" in backends else "queue"
    name = wanted or suits
    if name not in SIGNALS:
        raise TritonlabError(f"There is no signal {name!r} to scale by.", f"There are {', '.join(SIGNALS)}.")
    return SIGNALS[name]


def autoscaler(place: Place, target: dict[str, str], replicas: int, most: int, by: Signal) -> Any:
    """The HorizontalPodAutoscaler: up a pod at a time, since each takes minutes, and down only after a calm."""
    k = client()
    metric = k.V2MetricSpec(
        type="Pods",
        pods=k.V2PodsMetricSource(
            metric=k.V2MetricIdentifier(name=by.metric),
            target=k.V2MetricTarget(type="AverageValue", average_value=by.target),
        ),
    )
    up = k.V2HPAScalingRules(
        stabilization_window_seconds=60, policies=[k.V2HPAScalingPolicy(type="Pods", value=1, period_seconds=120)]
    )
    down = k.V2HPAScalingRules(
        stabilization_window_seconds=600, policies=[k.V2HPAScalingPolicy(type="Pods", value=1, period_seconds=300)]
    )
    spec = k.V2HorizontalPodAutoscalerSpec(
        scale_target_ref=k.V2CrossVersionObjectReference(
            api_version=target["apiVersion"], kind=target["kind"], name=place.name
        ),
        min_replicas=replicas,
        max_replicas=most,
        metrics=[metric],
        behavior=k.V2HorizontalPodAutoscalerBehavior(scale_up=up, scale_down=down),
    )
    return k.V2HorizontalPodAutoscaler(
        api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", metadata=place.metadata(), spec=spec
    )


def disruption_budget(place: Place, selector: dict[str, str]) -> Any:
    """Of the pods, one at a time may be taken away on purpose, as when a node is drained."""
    k = client()
    spec = k.V1PodDisruptionBudgetSpec(max_unavailable=1, selector=k.V1LabelSelector(match_labels=selector))
    return k.V1PodDisruptionBudget(
        api_version="policy/v1", kind="PodDisruptionBudget", metadata=place.metadata(), spec=spec
    )


def pod_monitor(place: Place, selector: dict[str, str]) -> dict[str, Any]:
    """What tells Prometheus to scrape the pods: a PodMonitor of the Prometheus Operator, monitoring.coreos.com/v1."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": place.metadata(),
        "spec": {
            "selector": {"matchLabels": selector},
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": SCRAPE}],
        },
    }


def adapter_rules(by: Signal) -> dict[str, Any]:
    """A rule for the Prometheus adapter, as its Helm chart takes it: `rules.custom`."""
    labels = {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}
    rule = {
        "seriesQuery": f'{by.series}{{namespace!="",pod!=""}}',
        "resources": {"overrides": labels},
        "name": {"as": by.metric},
        "metricsQuery": by.query,
    }
    return {"rules": {"custom": [rule]}}
