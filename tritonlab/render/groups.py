"""A replica over several hosts: a LeaderWorkerSet, whose leader is Ray's head and runs tritonserver.

Its fields are those of leaderworkerset.x-k8s.io/v1 (kubernetes-sigs/lws, api/leaderworkerset/v1).
"""

from __future__ import annotations

from typing import Any

from tritonlab.render import ray_cluster
from tritonlab.render.api import Place
from tritonlab.render.pods import Pods

API = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
LEADER = {"tritonlab/role": "leader"}
FROM_THE_SET = f"""\
export RAY_PORT={ray_cluster.PORT} RAY_HEAD="$LWS_LEADER_ADDRESS" RAY_HOSTS="$LWS_GROUP_SIZE"
"""


def leader_worker_set(place: Place, pods: Pods, replicas: int, surge: int) -> dict[str, Any]:
    """`replicas` groups, each of a pod for each host; a group is made anew as a whole when one of its pods ends."""
    return {
        **API,
        "metadata": place.metadata(),
        "spec": {
            "replicas": replicas,
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 0 if surge else 1, "maxSurge": surge},
            },
            "leaderWorkerTemplate": {
                "size": pods.served.hosts,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": pods.template(script=FROM_THE_SET + ray_cluster.HEAD, role="leader"),
                "workerTemplate": pods.template(script=FROM_THE_SET + ray_cluster.WORKER, role="worker", serves=False),
            },
        },
    }
