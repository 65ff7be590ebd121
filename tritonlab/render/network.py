"""Who reaches the pods: the Service, and the policy that keeps the rest out."""

from __future__ import annotations

from typing import Any

from tritonlab.render.api import Place, client
from tritonlab.servers import docker

CLIENT = {"tritonlab/client": "true"}
DNS, HTTPS = 53, 443


def service(place: Place, selector: dict[str, str]) -> Any:
    """One address for the replicas. It chooses one for each connection, not for each request."""
    k = client()
    ports = [k.V1ServicePort(name=name, port=docker.PORTS[name], target_port=name) for name in ("http", "grpc")]
    spec = k.V1ServiceSpec(type="ClusterIP", selector=selector, ports=ports)
    return k.V1Service(api_version="v1", kind="Service", metadata=place.metadata(), spec=spec)


def network_policy(place: Place, *, hub: bool, group: bool) -> Any:
    """Clients of this namespace by their label, Prometheus by its own, and out only what is needed.

    Triton asks for no password.

    Args:
        hub: whether models are downloaded.
        group: whether pods reach each other, as those of a Ray cluster have to.
    """
    k = client()
    monitoring = k.V1LabelSelector(match_labels={"kubernetes.io/metadata.name": place.monitoring})
    own = k.V1NetworkPolicyPeer(pod_selector=k.V1LabelSelector(match_labels=place.labels()))
    clients = k.V1NetworkPolicyPeer(pod_selector=k.V1LabelSelector(match_labels=CLIENT))
    ingress = [
        k.V1NetworkPolicyIngressRule(_from=[clients], ports=_ports("TCP", docker.PORTS["http"], docker.PORTS["grpc"])),
        k.V1NetworkPolicyIngressRule(
            _from=[k.V1NetworkPolicyPeer(namespace_selector=monitoring)], ports=_ports("TCP", docker.PORTS["metrics"])
        ),
    ]
    egress = [k.V1NetworkPolicyEgressRule(ports=[*_ports("UDP", DNS), *_ports("TCP", DNS)])]
    if hub:
        egress.append(k.V1NetworkPolicyEgressRule(ports=_ports("TCP", HTTPS)))
    if group:
        ingress.append(k.V1NetworkPolicyIngressRule(_from=[own]))
        egress.append(k.V1NetworkPolicyEgressRule(to=[own]))
    spec = k.V1NetworkPolicySpec(
        pod_selector=k.V1LabelSelector(match_labels=place.labels()),
        policy_types=["Ingress", "Egress"],
        ingress=ingress,
        egress=egress,
    )
    return k.V1NetworkPolicy(
        api_version="networking.k8s.io/v1", kind="NetworkPolicy", metadata=place.metadata(), spec=spec
    )


def _ports(protocol: str, *numbers: int) -> list[Any]:
    return [client().V1NetworkPolicyPort(protocol=protocol, port=number) for number in numbers]
