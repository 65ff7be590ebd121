"""`tritonlab serve`, `ask`, `ps` and `stop`: servers and what to ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritonlab.errors import TritonlabError


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(serve)
    app.command()(ask)
    app.command()(ps)
    app.command()(stop)


def serve(
    repository: Annotated[Path, typer.Argument(help="The model repository.")],
    model: Annotated[list[str] | None, typer.Option(help="A model to load; all without any.")] = None,
    target: Annotated[str, typer.Option(help="local, docker, auto, or a server's URL.")] = "auto",
    http_port: Annotated[int | None, typer.Option(help="The port for HTTP; by default a free one is chosen.")] = None,
    image: Annotated[str | None, typer.Option(help="On the docker target, the image to run.")] = None,
) -> None:
    """Start a server, tell its stages, and keep it until Ctrl-C."""
    from tritonlab.servers import serve as start

    ports = {} if http_port is None else {"http": http_port}
    with start(repository, model, target, ports=ports, image=image) as server:
        server.wait_ready()
        try:
            print(f"{server!r}\nCtrl-C stops it.", flush=True)
            server.wait()
        except KeyboardInterrupt:
            print("stopping")


def ask(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[str, typer.Option(help="The model's name on the server.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8000",
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = 128,
) -> None:
    """Ask a running server; the answer is printed as it comes."""
    from tritonlab.client import Client

    for piece in Client(url).stream(model, prompt, max_tokens=max_tokens):
        print(piece, end="", flush=True)
    print()


def ps() -> None:
    """List the servers that run.

    Those that you started on this machine, and all that have a container on the Docker engine.
    """
    from tritonlab.servers.running import running

    print("\n".join(map(repr, running())) or "no server of tritonlab runs")


def stop(
    servers: Annotated[list[str] | None, typer.Argument(help="Ids, as ps shows them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that you started on this machine.")] = False,
) -> None:
    """End servers, and take away what belongs to them.

    It ends those of other notebooks and terminals too, and containers that nothing holds any more.
    """
    from tritonlab.servers.running import own, running
    from tritonlab.servers.running import stop as end

    wanted = own() if every else servers or []
    if not wanted and not every:
        raise TritonlabError("No server was named.", "Name one that `tritonlab ps` shows, or --all.")
    for server_id in wanted:
        if every and server_id not in {server.id for server in running()}:
            continue  # it ended with another one
        end(server_id)
        print(f"stopped {server_id}")
