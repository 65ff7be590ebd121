"""`tritonlab render`: files for more than one server, from what launches one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tritonlab.render import Rendered

render_app = typer.Typer(no_args_is_help=True, help="Write the files for several servers; nothing is started.")

Repository = Annotated[Path, typer.Argument(help="The model repository.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model to load; all without any.")]
Image = Annotated[str | None, typer.Option(help="The image; by default NVIDIA's newest that suits the models.")]
Gpus = Annotated[int | None, typer.Option(help="GPUs of a replica on a host; by default what the models ask for.")]
Output = Annotated[Path | None, typer.Option(help="The folder to write to; without, the files are printed.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(render_app, name="render")


@render_app.command("kubernetes")
def render_kubernetes(
    repository: Repository,
    model: Models = None,
    image: Image = None,
    replicas: Annotated[int, typer.Option(help="Servers.")] = 2,
    gpus: Gpus = None,
    hosts: Annotated[int, typer.Option(help="Hosts that a replica spreads over, with Ray.")] = 1,
    name: Annotated[str, typer.Option(help="Of the objects; by default the first model's.")] = "",
    namespace: Annotated[str, typer.Option(help="Where they go.")] = "triton",
    max_replicas: Annotated[int | None, typer.Option(help="How far the autoscaler goes; by default twice.")] = None,
    scale_on: Annotated[str, typer.Option(help="first-token, waiting, batch or queue; by default what suits.")] = "",
    surge: Annotated[int, typer.Option(help="Replicas that an update adds first; 0 with no GPU to spare.")] = 1,
    cpu: Annotated[str, typer.Option(help="Processors that a pod asks for.")] = "4",
    memory: Annotated[str, typer.Option(help="Memory that a pod gets, shared memory included.")] = "16Gi",
    cache_size: Annotated[str, typer.Option(help="Of the volume that weights are in.")] = "100Gi",
    storage_class: Annotated[str, typer.Option(help="Of the shared volumes; by default the cluster's.")] = "",
    repository_claim: Annotated[str, typer.Option(help="A claim that holds the repository; else a ConfigMap.")] = "",
    token_secret: Annotated[str, typer.Option(help="The name of the Secret with HF_TOKEN.")] = "hf-token",
    admin_secret: Annotated[str, typer.Option(help='The name of the Secret for the restricted APIs; "" for none.')] = (
        "triton-admin"
    ),
    monitoring: Annotated[str, typer.Option(help="The namespace that Prometheus runs in.")] = "monitoring",
    output: Output = None,
) -> None:
    """Manifests: Deployment or LeaderWorkerSet, Service, probes, autoscaler, PodMonitor, policies."""
    from tritonlab import render

    _put(
        render.kubernetes(
            repository, model, image=image, replicas=replicas, gpus=gpus, hosts=hosts, name=name, namespace=namespace,
            max_replicas=max_replicas, scale_on=scale_on, surge=surge, cpu=cpu, memory=memory,
            cache_size=cache_size, storage_class=storage_class, repository_claim=repository_claim,
            token_secret=token_secret, admin_secret=admin_secret, monitoring=monitoring,
        ),
        output,
    )  # fmt: skip


@render_app.command("compose")
def render_compose(
    repository: Repository,
    model: Models = None,
    image: Image = None,
    replicas: Annotated[int, typer.Option(help="Servers, each with GPUs of its own.")] = 2,
    gpus: Gpus = None,
    port: Annotated[int, typer.Option(help="Where HAProxy is published, on loopback.")] = 8000,
    output: Output = None,
) -> None:
    """compose.yaml and haproxy.cfg: replicas on one host behind HAProxy."""
    from tritonlab import render

    _put(render.compose(repository, model, image=image, replicas=replicas, gpus=gpus, port=port), output)


@render_app.command("ray")
def render_ray(
    repository: Repository,
    host: Annotated[list[str], typer.Option(help="A host's address; twice or more, the head first.")],
    model: Models = None,
    image: Image = None,
    gpus: Gpus = None,
    output: Output = None,
) -> None:
    """One vLLM over several hosts: the repository for Ray, and a script for each host."""
    from tritonlab import render

    _put(render.ray(repository, model, hosts=host, image=image, gpus=gpus), output)


@render_app.command("haproxy")
def render_haproxy(
    servers: Annotated[list[str], typer.Argument(help="Addresses of servers, host:port.")],
    model: Annotated[list[str] | None, typer.Option(help="A model that has to be ready.")] = None,
    port: Annotated[int, typer.Option(help="Where it listens, on loopback.")] = 8080,
    grpc: Annotated[list[str] | None, typer.Option(help="The servers' gRPC addresses, in the same order.")] = None,
    grpc_port: Annotated[int, typer.Option(help="Where it listens for gRPC.")] = 8081,
    output: Output = None,
) -> None:
    """haproxy.cfg: servers that run already behind one address."""
    from tritonlab import render

    _put(render.haproxy(servers, port=port, model=model or (), grpc=grpc or (), grpc_port=grpc_port), output)


def _put(rendered: Rendered, folder: Path | None) -> None:
    if folder is None:
        for name, text in rendered.files.items():
            print(f"# {name}\n{text}" if len(rendered.files) > 1 else text)
    else:
        for path in rendered.write(folder):
            print(path)
    for note in rendered.notes:
        print(f"tritonlab: {note}", file=sys.stderr)
