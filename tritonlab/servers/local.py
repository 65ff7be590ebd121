"""The local target: the engine's `tritonserver` on this machine, on loopback, with its keeper."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tritonlab.client import Client
from tritonlab.engine import Engine
from tritonlab.servers import leftovers, ports
from tritonlab.servers.kept import KeptServer, check, servers_path, with_arguments
from tritonlab.trace import options

# What suits vLLM on a laptop's processor; a variable that the user has set wins.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_HOST_IP": ports.HOST,
}
TRACE = "trace.json"
# vLLM gives its processes titles, and setproctitle would write them over the mark that `leftovers` looks for.
KEEP_THE_MARK = {"SPT_NOENV": "1"}


class LocalServer(KeptServer):
    """A server of the local engine. It ends with its `with` block, with `stop`, and with this process."""

    target = "local"

    def __init__(
        self,
        repository: Path,
        models: Iterable[str] | None,
        wanted_ports: Mapping[str, int],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: str | os.PathLike[str] | None,
        *,
        trace: bool = False,
    ) -> None:
        engine = Engine.find()
        models = models if models is None or isinstance(models, str) else tuple(models)
        check(repository, models, arguments, environment)
        chosen = ports.choose(wanted_ports)
        addresses = {service: f"{ports.HOST}:{port}" for service, port in chosen.items()}
        leftovers.sweep(servers_path())
        super().__init__(
            Client(
                f"http://{addresses['http']}",
                grpc_url=addresses["grpc"],
                metrics_url=f"http://{addresses['metrics']}/metrics",
            ),
            models,
            log,
        )
        tracing = options(str(self._folder / TRACE)) if trace else []
        self.command = _command(engine, repository, self.models, chosen, [*tracing, *arguments], self.id)
        self._keep(
            "tritonlab.servers.keeper",
            self.command,
            {**ENVIRONMENT, **os.environ, **engine.environment(), **environment, **KEEP_THE_MARK},
        )
        try:
            self._note(repository=str(repository.absolute()))
        except BaseException:
            self.stop()
            raise

    def processes(self) -> dict[int, str]:
        """The living processes of the server, its keeper among them: number -> command line (vLLM's write a title)."""
        found = {}
        for pid in leftovers.processes(self.id):
            with suppress(OSError):  # it ended this moment
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found[pid] = b" ".join(words).decode(errors="replace").strip()
        return found

    def _read_trace(self) -> str:
        files = sorted(self._folder.glob(f"{TRACE}.*"), key=lambda file: int(file.suffix[1:]))
        return "\n".join(file.read_text(encoding="utf-8") for file in files)

    def kill(self, pid: int) -> None:
        """SIGKILL to one of the server's `processes`, to see what happens then."""
        os.kill(pid, signal.SIGKILL)


def _command(
    engine: Engine,
    repository: Path,
    models: tuple[str, ...] | None,
    chosen: Mapping[str, int],
    arguments: Sequence[str],
    server_id: str,
) -> list[str]:
    options = [
        f"--model-repository={repository.absolute()}",
        f"--backend-directory={engine.backends}",
        *(f"--{service}-port={port}" for service, port in chosen.items()),
        *(f"--{service}-address={ports.HOST}" for service in ports.SERVICES),
    ]
    if any(argument.startswith("--cache-config") for argument in arguments):
        options.append(f"--cache-directory={engine.caches}")
    memory = f"--backend-config=python,shm-region-prefix-name={leftovers.shm_prefix(server_id)}"
    return [str(engine.tritonserver), *with_arguments(options, models, [memory, *arguments])]
