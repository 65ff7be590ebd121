"""Manifests for Kubernetes, from the Kubernetes client's own types."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tritonlab.errors import TritonlabError
from tritonlab.render import groups, network, ray_cluster, scaling, serving
from tritonlab.render.api import CACHE_SIZE, Place, as_name, check_name, check_quantity, client, plain
from tritonlab.render.pods import ADMIN_HEADER, ADMIN_KEY, Pods
from tritonlab.render.serving import Serving, at_least
from tritonlab.render.volumes import Volumes
from tritonlab.rendered import Rendered, as_yaml
from tritonlab.servers import docker

GUIDE = "README.md"
RULES = "prometheus-adapter/values.yaml"
MEMORY = "16Gi"


def kubernetes(
    repository: str | os.PathLike[str],
    models: Iterable[str] | None = None,
    *,
    image: str | None = None,
    replicas: int = 2,
    gpus: int | None = None,
    hosts: int = 1,
    name: str = "",
    namespace: str = "triton",
    max_replicas: int | None = None,
    scale_on: str = "",
    surge: int = 1,
    cpu: str = "4",
    memory: str = MEMORY,
    cache_size: str = CACHE_SIZE,
    storage_class: str = "",
    repository_claim: str = "",
    token_secret: str = "hf-token",
    admin_secret: str = "triton-admin",
    monitoring: str = "monitoring",
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Rendered:
    """The manifests of some replicas, and a README.md that says how they are applied.

    Args:
        repository, models, image, arguments, environment: as those of `serve`.
        replicas: servers; with `hosts` above 1, groups of that many pods.
        gpus: GPUs of a pod; by default as many as the models ask for, with the CPU image none.
        hosts: hosts that a replica spreads over; above 1 a LeaderWorkerSet with Ray, of vLLM's models alone.
        name: of the objects; by default the first model's.
        namespace: where they go; it is made.
        max_replicas: how far the autoscaler goes; by default twice the replicas.
        scale_on: "first-token", "waiting", "batch" or "queue"; by default the one that suits the backend.
        surge: replicas that an update adds before it takes one away; 0 where there is no GPU to spare.
        cpu, memory: what a pod asks for, shared memory included; memory is its limit too.
        cache_size, storage_class: of the shared volumes; "" takes the cluster's class.
        repository_claim: the claim of a volume that holds the repository; by default a ConfigMap holds it.
        token_secret, admin_secret: names of Secrets, never values; "" for the latter restricts no API.
        monitoring: the namespace that Prometheus runs in.

    Raises:
        TritonlabError: the Kubernetes client is not installed, a name is not DNS-1123, a number is out of range, a
            value is a secret, the models do not fit the GPUs, or the repository does not fit a ConfigMap.
    """
    client()
    at_least(1, replicas=replicas)
    at_least(0, surge=surge)
    most = 2 * replicas if max_replicas is None else max_replicas
    at_least(replicas, max_replicas=most)
    served = Serving.of(repository, models, image, gpus, hosts, arguments, environment)
    place = Place(name or as_name(served.models[0]), namespace, monitoring, storage_class, cache_size)
    _check_secret("token_secret", token_secret)
    check_quantity("cpu", cpu)
    check_quantity("memory", memory)
    if admin_secret:
        _check_secret("admin_secret", admin_secret)
    if repository_claim:
        check_name("repository_claim", repository_claim)
        _refuse_spread(served)
    kept = ({}, ()) if repository_claim else (served.files(), tuple(served.empty_versions()))
    volumes = Volumes(served, place, *kept, repository_claim)
    pods = Pods(served, place, volumes, token_secret, admin_secret, cpu, memory)
    signal = scaling.signal(scale_on, served.backends)
    selector = {**place.labels(), **(groups.LEADER if hosts > 1 else {})}
    target = groups.API if hosts > 1 else {"apiVersion": "apps/v1", "kind": "Deployment"}
    objects = {
        "namespace.yaml": [_namespace(place)],
        "storage.yaml": volumes.claims(),
        "repository.yaml": [] if repository_claim else [volumes.config_map()],
        "server.yaml": [
            groups.leader_worker_set(place, pods, replicas, surge)
            if hosts > 1
            else _deployment(place, pods, replicas, surge)
        ],
        "service.yaml": [network.service(place, selector)],
        "network-policy.yaml": [network.network_policy(place, hub=served.uses_the_hub(), group=hosts > 1)],
        "autoscaler.yaml": [scaling.autoscaler(place, target, replicas, most, signal)],
        "disruption-budget.yaml": [scaling.disruption_budget(place, selector)],
        "pod-monitor.yaml": [scaling.pod_monitor(place, selector)],
    }
    files = {
        # Numbered: the namespace has to be there before the rest.
        f"{number:02}-{file}": as_yaml(map(plain, found))
        for number, (file, found) in enumerate(objects.items())
        if found
    }
    files[RULES] = as_yaml([scaling.adapter_rules(signal)])
    told = tuple(_notes(pods))
    files[GUIDE] = _guide(place, pods, signal, told)
    return Rendered(files, told)


def _check_secret(what: str, value: object) -> None:
    if isinstance(value, str) and value.startswith("hf_"):
        raise TritonlabError(
            f"{what} looks like a token of the Hugging Face Hub, and is the name of a Secret.",
            "Give the Secret's name, and take the token out of your history: whoever has it is you.",
        )
    check_name(what, value)


def _refuse_spread(served: Serving) -> None:
    if served.hosts > 1:
        raise TritonlabError(
            "With hosts above 1, model.json is rewritten for Ray, and a claim of yours cannot be.",
            "Leave repository_claim out.",
        )


def _namespace(place: Place) -> Any:
    k = client()
    # The strictest of Kubernetes' own standards for pods: these keep to it.
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return k.V1Namespace(
        api_version="v1", kind="Namespace", metadata=k.V1ObjectMeta(name=place.namespace, labels=labels)
    )


def _deployment(place: Place, pods: Pods, replicas: int, surge: int) -> Any:
    k = client()
    # An update keeps the capacity: a new pod is ready before an old one goes, unless there is no GPU for it.
    rolling = k.V1RollingUpdateDeployment(max_surge=surge, max_unavailable=0 if surge else 1)
    spec = k.V1DeploymentSpec(
        replicas=replicas,
        selector=k.V1LabelSelector(match_labels=place.labels()),
        strategy=k.V1DeploymentStrategy(type="RollingUpdate", rolling_update=rolling),
        # Kubernetes' 600 s would call a download a failure.
        progress_deadline_seconds=3_600,
        template=pods.template(),
    )
    return k.V1Deployment(api_version="apps/v1", kind="Deployment", metadata=place.metadata(), spec=spec)


def _notes(pods: Pods) -> Iterator[str]:
    served, cache_size = pods.served, pods.place.cache_size
    yield from serving.notes(served)
    if served.hosts > 1:
        yield ray_cluster.needs_ray(served)
        yield "The cluster has to have the LeaderWorkerSet controller (lws.sigs.k8s.io)."
    if served.uses_the_hub() and (cache_size == CACHE_SIZE or pods.memory == MEMORY):
        yield (
            f"Size what is downloaded: cache_size is {cache_size} and has to hold the weights, memory is {pods.memory} "
            "and has to hold the server's processes with their shared memory. 70 billion parameters of 2 bytes are "
            f"130 GiB, more than the default of {CACHE_SIZE}."
        )
    for folder in served.folders:
        yield (
            f"The weights in {folder} have to be copied into the volume, to the path {folder.lstrip('/')}; it has "
            f"cache_size, {cache_size}."
        )


def _guide(place: Place, pods: Pods, signal: scaling.Signal, notes: Sequence[str]) -> str:
    served = pods.served
    secrets = []
    if served.uses_the_hub():
        secrets.append(
            f'printf %s "$HF_TOKEN" | kubectl -n {place.namespace} create secret generic {pods.token_secret} '
            f"--from-file={docker.TOKEN}=/dev/stdin"
        )
    if pods.admin_secret:
        secrets.append(
            f"openssl rand -hex 16 | tr -d '\\n' | kubectl -n {place.namespace} create secret generic "
            f"{pods.admin_secret} --from-file=key=/dev/stdin"
        )
    lines = [
        f"# {place.name} on Kubernetes",
        "",
        f"{served.image} with {', '.join(served.models)}.",
        "",
        "```",
        "kubectl apply -f 00-namespace.yaml",
        *secrets,
        "kubectl apply -f .",
        f"kubectl -n {place.namespace} get pods --watch",
        "```",
        "",
        f"Clients are the pods in this namespace, {place.namespace}, with the label "
        f"`{'='.join(*network.CLIENT.items())}`; they reach http://{place.name}:8000. To let in those of another, add "
        "a namespaceSelector beside that podSelector in `05-network-policy.yaml`; they reach "
        f"http://{place.name}.{place.namespace}:8000. From here: `kubectl -n {place.namespace} port-forward "
        f"service/{place.name} 8000`.",
        "",
        f"The autoscaler goes by `{signal.metric}`, {signal.says}. It needs Prometheus, its operator (whose "
        f"podMonitorSelector has to take the PodMonitor in), and the Prometheus adapter with the rule in `{RULES}`.",
        "",
        "`kubectl apply` sets the number of replicas again; the autoscaler then takes over.",
        "",
    ]
    if pods.admin_secret:
        lines += [
            f"Loading and unloading, shared memory, traces and log settings want the header `{ADMIN_HEADER}` (gRPC: "
            f"`triton-grpc-protocol-{ADMIN_HEADER}`) with the Secret's value. It ends up in the server's command "
            f"line ({ADMIN_KEY}): whoever may run a command in the pod can read it.",
            "",
        ]
    if notes:
        lines += ["## First", "", *(f"- {note}" for note in notes), ""]
    return "\n".join(lines)
