"""The pod: one tritonserver, with its probes, its GPUs and its rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tritonlab.render.api import Place, client, escaped
from tritonlab.render.serving import EXIT_TIMEOUT_S, HEALTH_CHECK, Serving
from tritonlab.render.volumes import CACHE, Volumes
from tritonlab.servers import docker

USER = 1000  # triton-server, in NVIDIA's images (triton-inference-server/server, build.py)
# Requests still come in until every proxy of the cluster knows that the pod is leaving.
DRAIN_S = 10
START_S = 1_800  # weights may have to be downloaded first
GPU = "nvidia.com/gpu"
ADMIN_KEY = "TRITON_ADMIN_KEY"
ADMIN_HEADER = "admin-key"
# Whatever changes the server or tells of its inside; requests, health, metadata and statistics stay open.
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")


@dataclass(frozen=True)
class Pods:
    """The template of the pods.

    Attributes:
        token_secret: the name of the Secret that holds HF_TOKEN.
        admin_secret: the name of the Secret that holds the key for the restricted APIs; "" restricts nothing.
        cpu, memory: what a pod asks for, as Kubernetes writes it.
    """

    served: Serving
    place: Place
    volumes: Volumes
    token_secret: str
    admin_secret: str
    cpu: str
    memory: str

    def template(self, *, script: str = "", role: str = "", serves: bool = True) -> Any:
        """A pod's template.

        Args:
            script: what bash runs first, and has to end by running its arguments; without, they run at once.
            role: a label, for pods that differ.
            serves: whether tritonserver runs in it, so that it has ports and probes.
        """
        k = client()
        labels = {**self.place.labels(), **({"tritonlab/role": role} if role else {})}
        metadata = k.V1ObjectMeta(labels=labels, annotations={"tritonlab/repository": self.volumes.checksum})
        return k.V1PodTemplateSpec(metadata=metadata, spec=self._spec(self._container(script, serves)))

    def _spec(self, container: Any) -> Any:
        k = client()
        spread = k.V1TopologySpreadConstraint(
            max_skew=1,
            topology_key="kubernetes.io/hostname",
            when_unsatisfiable="ScheduleAnyway",
            label_selector=k.V1LabelSelector(match_labels=self.place.labels()),
        )
        return k.V1PodSpec(
            containers=[container],
            volumes=self.volumes.volumes(),
            # A Service named vllm would set VLLM_PORT in every pod, which vLLM takes for its own setting.
            enable_service_links=False,
            automount_service_account_token=False,
            security_context=k.V1PodSecurityContext(
                run_as_non_root=True,
                run_as_user=USER,
                run_as_group=USER,
                fs_group=USER,
                fs_group_change_policy="OnRootMismatch",
                seccomp_profile=k.V1SeccompProfile(type="RuntimeDefault"),
            ),
            termination_grace_period_seconds=DRAIN_S + EXIT_TIMEOUT_S + 15,
            tolerations=[k.V1Toleration(key=GPU, operator="Exists", effect="NoSchedule")] if self.served.gpus else None,
            topology_spread_constraints=[spread],
        )

    def _container(self, script: str, serves: bool) -> Any:
        k = client()
        restrictions = self._restrictions()
        words = [word if word in restrictions else escaped(word) for word in self.served.words(restrictions)]
        words = words if serves else []
        started = {"command": ["bash", "-c", escaped(script), "bash"], "args": words or None}
        gpus = {GPU: str(self.served.gpus)} if self.served.gpus else {}
        container = k.V1Container(
            name="triton",
            image=self.served.image,
            **(started if script else {"command": words[:1], "args": words[1:]}),
            env=self._variables(serves),
            resources=k.V1ResourceRequirements(
                requests={"cpu": self.cpu, "memory": self.memory}, limits={"memory": self.memory, **gpus}
            ),
            security_context=k.V1SecurityContext(
                allow_privilege_escalation=False, capabilities=k.V1Capabilities(drop=["ALL"])
            ),
            volume_mounts=self.volumes.mounts(),
        )
        if serves:
            container.ports = [k.V1ContainerPort(name=n, container_port=p) for n, p in docker.PORTS.items()]
            container.lifecycle = k.V1Lifecycle(
                pre_stop=k.V1LifecycleHandler(_exec=k.V1ExecAction(command=["sleep", str(DRAIN_S)]))
            )
            self._probe(container)
        return container

    def _probe(self, container: Any) -> None:
        """Startup waits for the weights, readiness follows the models, liveness restarts what will not come back.

        With the health check on, a dead vLLM engine unloads its model at the next request: /v2/health stays at 200, and
        the model's own ready is what tells. Without, nothing tells, and liveness asks the server alone.
        """
        live = self._models_ready() if self.served.says(HEALTH_CHECK) else _get("/v2/health/live")
        container.startup_probe = _probe(_get("/v2/health/ready"), period=5, failures=START_S // 5)
        container.readiness_probe = _probe(self._models_ready(), period=5, failures=2)
        # A restart costs minutes: a server that is merely busy gets one to answer.
        container.liveness_probe = _probe(live, period=10, failures=6)

    def _models_ready(self) -> dict[str, Any]:
        paths = [f"/v2/models/{name}/ready" for name in self.served.models]
        if len(paths) == 1:
            return _get(paths[0])
        # A probe gets one address: several models need a program, and Python is in every image that has vLLM.
        urls = [f"http://localhost:{docker.PORTS['http']}{path}" for path in paths]
        code = "import sys, urllib.request as r; [r.urlopen(url, timeout=4) for url in sys.argv[1:]]"
        return {"_exec": client().V1ExecAction(command=["python3", "-c", code, *urls])}

    def _restrictions(self) -> list[str]:
        if not self.admin_secret:
            return []
        apis, key = ",".join(RESTRICTED), f"{ADMIN_HEADER}=$({ADMIN_KEY})"
        return [f"--http-restricted-api={apis}:{key}", f"--grpc-restricted-protocol={apis}:{key}"]

    def _variables(self, serves: bool) -> list[Any]:
        k = client()
        # Not root's home, which others may not write to; torch asks for a user's name, and not every image knows 1000.
        named = {"HOME": CACHE, "USER": "triton-server", **dict(self.served.environment)}
        found = [k.V1EnvVar(name=name, value=escaped(value)) for name, value in named.items()]
        if self.served.hosts > 1:
            own = k.V1EnvVarSource(field_ref=k.V1ObjectFieldSelector(field_path="status.podIP"))
            found.append(k.V1EnvVar(name="VLLM_HOST_IP", value_from=own))
        if self.served.uses_the_hub():
            # Optional: without the Secret, models that everybody may download still start.
            found.append(
                k.V1EnvVar(name=docker.TOKEN, value_from=_secret(self.token_secret, docker.TOKEN, optional=True))
            )
        if self.admin_secret and serves:
            found.append(k.V1EnvVar(name=ADMIN_KEY, value_from=_secret(self.admin_secret, "key")))
        return found


def _secret(name: str, key: str, *, optional: bool | None = None) -> Any:
    k = client()
    return k.V1EnvVarSource(secret_key_ref=k.V1SecretKeySelector(name=name, key=key, optional=optional))


def _get(path: str) -> dict[str, Any]:
    return {"http_get": client().V1HTTPGetAction(path=path, port="http")}


def _probe(action: dict[str, Any], period: int, failures: int) -> Any:
    return client().V1Probe(**action, period_seconds=period, timeout_seconds=5, failure_threshold=failures)
