"""vLLM over several hosts: the files and the commands of a Ray cluster whose head runs tritonserver.

Ray's part is vLLM's documented way (serving/parallelism_scaling and examples/online_serving/multi-node-serving.sh):
tensor parallelism within a host, the stages of a pipeline between hosts, `VLLM_HOST_IP` naming each host's own address.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence

from tritonlab.errors import TritonlabError
from tritonlab.render import serving
from tritonlab.render.serving import Serving
from tritonlab.rendered import Rendered
from tritonlab.servers import docker, ports

PORT = 6379
FOLDER = "${PWD}/model_repository"
SCRIPTS = "/cluster"  # in the container
BASH = "#!/bin/bash\n"
HEAD = """\
# Head of the cluster: starts Ray, waits for every host, then becomes the server that is given as arguments.
# RAY_HOSTS, RAY_PORT and VLLM_HOST_IP, this host's address, come from the environment.
set -euo pipefail
export RAY_USAGE_STATS_ENABLED=0
ray start --head --node-ip-address="$VLLM_HOST_IP" --port="$RAY_PORT" --include-dashboard=false
count='import ray; ray.init(address="auto", log_to_driver=False); print(sum(n["Alive"] for n in ray.nodes()))'
until [ "$(python3 -c "$count" 2>/dev/null | tail -n 1)" = "$RAY_HOSTS" ]; do
  echo "waiting for $RAY_HOSTS hosts"
  sleep 2
done
exec "$@"
"""
WORKER = """\
# Any other host: joins the head at RAY_HEAD and stays until the cluster ends. VLLM_HOST_IP is this host's address.
set -euo pipefail
export RAY_USAGE_STATS_ENABLED=0
# A container's first process ends at no signal without a trap, and bash runs traps only between commands or in `wait`.
trap 'ray stop; exit 0' TERM
until ray start --address="$RAY_HEAD:$RAY_PORT" --node-ip-address="$VLLM_HOST_IP" --block & wait $!; do
  echo "no head at $RAY_HEAD:$RAY_PORT yet"
  sleep 2
done
"""


def ray(
    repository: str | os.PathLike[str],
    models: Iterable[str] | None = None,
    *,
    hosts: Sequence[str],
    image: str | None = None,
    gpus: int | None = None,
    port: int = PORT,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Rendered:
    """A model repository whose model.json spreads vLLM over hosts, and a script for each of them.

    The folder goes to every host. On each, `start-N.sh` runs the container; in it, `head.sh` or `worker.sh`.

    Args:
        repository, models, image, arguments, environment: as those of `serve`.
        hosts: the address of each, by which the others reach it; the first one is the head.
        gpus: GPUs of each host.
        port: where Ray's head listens.

    Raises:
        TritonlabError: fewer than two hosts, an address that is none, a model that is not vLLM's, or as `compose`.
    """
    addresses = _addresses(hosts)
    ports.check({"http": port}, is_here=False)
    served = Serving.of(repository, models, image, gpus, len(addresses), arguments, environment)
    files = {"head.sh": f"{BASH}{HEAD}", "worker.sh": f"{BASH}{WORKER}"}
    for number, address in enumerate(addresses, 1):
        files[f"start-{number}.sh"] = _start(served, address, addresses[0], port, is_head=number == 1)
    for name, content in served.files().items():
        try:
            files[f"model_repository/{name}"] = content.decode()
        except UnicodeDecodeError:
            raise TritonlabError(
                f"{served.repository / name} is no text, and is not copied.", "Keep weights outside of the repository."
            ) from None
    return Rendered(files, tuple(_notes(served)))


def _addresses(hosts: Sequence[str]) -> list[str]:
    if isinstance(hosts, str) or len(hosts) < 2:
        raise TritonlabError(
            f"hosts is {hosts!r}.", 'Give the addresses of two hosts or more, e.g. ["10.0.0.1", "10.0.0.2"].'
        )
    try:
        found = [str(ipaddress.ip_address(host)) for host in hosts]
    except ValueError:
        raise TritonlabError(
            f"hosts is {list(hosts)!r}.", "Give IP addresses: Ray and vLLM announce them as they stand."
        ) from None
    if len(set(found)) < len(found):
        raise TritonlabError(f"An address stands twice among the hosts {', '.join(found)}.", "Name each host once.")
    return found


def _start(served: Serving, address: str, head: str, port: int, *, is_head: bool) -> str:
    """The script that runs a host's container."""
    variables = {"VLLM_HOST_IP": address, "RAY_PORT": str(port)}
    variables |= {"RAY_HOSTS": str(served.hosts)} if is_head else {"RAY_HEAD": head}
    run = served.docker(
        [],
        [
            # Ray's and NCCL's ports are chosen as they go: the hosts reach each other as they are.
            ("--network", "host"),
            ("--name", "tritonlab-ray"),
            ("--rm", ""),
            *([("--gpus", "all")] if served.gpus else []),
            *(("--env", f"{name}={value}") for name, value in variables.items()),
            ("--mount", f"type=bind,source={FOLDER},target={docker.MODELS},readonly"),
            ("--mount", f"type=bind,source=${{PWD}},target={SCRIPTS},readonly"),
        ],
    )
    script = [f"{SCRIPTS}/head.sh", *run.command] if is_head else [f"{SCRIPTS}/worker.sh"]
    run = type(run)(run.image, ("bash", *script), run.options)
    role = "the head, which serves" if is_head else "a worker"
    return f'{BASH}# On {address}, {role}.\nset -euo pipefail\ncd "$(dirname "$0")"\n{run.render()}\n'


def needs_ray(served: Serving) -> str:
    """What the image has to bring, as a sentence."""
    return (
        f"{served.image} has to have Ray; `ray --version` in it tells. vLLM does not always bring it: "
        "`pip install ray[cgraph]` in an image of your own does."
    )


def _notes(served: Serving) -> Iterable[str]:
    yield from serving.notes(served)
    yield needs_ray(served)
    yield (
        "Whoever reaches Ray's ports runs programs on the hosts: the network between them has to be theirs alone, a "
        "firewall has to keep others from every port but tritonserver's 8000 and 8001. In newer Ray "
        "RAY_AUTH_MODE=token adds a lock."
    )
    if folders := served.folders:
        yield f"Every host needs {', '.join(folders)}, at that path."
