"""The next step after one server: files for several, written from what launches one.

    from tritonlab.render import compose, haproxy, kubernetes, ray

    files = kubernetes("model_repository", models=["gemma"], replicas=2)
    files                      # names and texts
    files.write("deploy")

The image, the arguments of tritonserver, the ports, the volumes and the shared memory are those of `serve`'s docker
target. Nothing is started, and no cluster is asked anything.
"""

from tritonlab.render.compose_file import compose
from tritonlab.render.manifests import kubernetes
from tritonlab.render.ray_cluster import ray
from tritonlab.rendered import Rendered
from tritonlab.servers.load_balancer import haproxy

__all__ = ["Rendered", "compose", "haproxy", "kubernetes", "ray"]
