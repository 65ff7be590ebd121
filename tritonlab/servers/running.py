"""The servers of ours that run, whichever process started them: find them, stop them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tritonlab.errors import DockerError, TritonlabError
from tritonlab.servers import leftovers
from tritonlab.servers.kept import STOP_WAIT_S, servers_path

LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        id: what `stop` takes.
        target: "local" or "docker".
        url: its address; empty if only Docker knows of it.
        models: the models that it was started with; None if it loads all.
        repository: the folder that it serves.
        parent: the process that started it, and that it ends with; None if no record here tells.
    """

    id: str
    target: str
    url: str = ""
    models: tuple[str, ...] | None = ()
    repository: str = ""
    parent: int | None = None

    def __repr__(self) -> str:
        models = "all models" if self.models is None else ", ".join(self.models) or "no model"
        held = f"ends with process {self.parent}" if self.parent else "nothing holds it"
        unknown = "it is starting" if self.target == "starting" else "a container that no record here tells of"
        known = f"{self.url}  {models} of {self.repository}" if self.url else unknown
        return f"{self.id}  {self.target:6}  {known}  ({held})"


def running() -> list[Running]:
    """The servers that run on this machine, and those with a container on the Docker engine, if one answers."""
    kept = recorded()
    return [*kept, *(Running(name, "docker") for name in sorted(_labelled() - {server.id for server in kept}))]


def recorded() -> list[Running]:
    """Those that this user's own records tell of; no Docker engine is asked."""
    return [_known(folder) for folder in _kept()]


def own() -> list[str]:
    """The ids of the servers that this user started on this machine; a shared engine has those of others too."""
    return [server.id for server in running() if (servers_path() / server.id).is_dir()]


def stop(server_id: str) -> None:
    """End a server and take away what belongs to it.

    Raises:
        TritonlabError: there is no such server, or it does not end.
    """
    if server_id not in {server.id for server in running()}:
        raise TritonlabError(f"There is no server {server_id!r}.", "`tritonlab ps` lists those that run.")
    folder = servers_path() / server_id
    with suppress(OSError, ValueError, KeyError):
        # A record that outlived its keeper names a process of somebody else's by now.
        if leftovers.keeper_lives(folder):
            os.kill(int(json.loads((folder / "keeper.json").read_text(encoding="utf-8"))["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + STOP_WAIT_S
    while (folder / "keeper.json").exists() and leftovers.keeper_lives(folder):
        if time.monotonic() > deadline:
            raise TritonlabError(f"The server {server_id} does not end.", f"Its log: {folder / 'server.log'}.")
        time.sleep(LOOK_EVERY_S)
    leftovers.clean(server_id)
    if server_id in _labelled():
        from tritonlab.servers import container_keeper, engines

        with engines.connect() as engine:
            container_keeper.remove(engine, server_id)


def _kept() -> Iterator[Path]:
    for record in sorted(servers_path().glob("*/keeper.json")):
        if leftovers.keeper_lives(record.parent):
            yield record.parent


def _known(folder: Path) -> Running:
    facts = {}
    with suppress(OSError, ValueError):  # it is being written, or its server is only now starting
        facts = json.loads((folder / "server.json").read_text(encoding="utf-8"))
    models = facts.get("models", ())
    return Running(
        folder.name,
        facts.get("target", "starting"),
        facts.get("url", ""),
        None if models is None else tuple(models),
        facts.get("repository", ""),
        facts.get("parent"),
    )


def _labelled() -> set[str]:
    """The ids that containers and volumes carry; none if no engine answers."""
    from tritonlab.servers import docker, engines

    try:
        with engines.connect() as engine:
            return docker.labelled(engine)
    except DockerError:
        return set()
