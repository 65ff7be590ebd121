"""What the local and the docker target share: a keeper process, a folder with what it writes, a log to follow."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.client import Client
from tritonlab.errors import ServerFailed, TritonlabError
from tritonlab.home import home
from tritonlab.logs import LogReader
from tritonlab.logs.events import ANSI
from tritonlab.servers import leftovers
from tritonlab.servers.base import Server

if TYPE_CHECKING:
    from tritonlab.logs import LogReport, Stage

KEPT_LOGS = 20
EXIT_TIMEOUT_S = 5  # Triton's own default of 30 s is waited out when a request hangs
STOP_WAIT_S = 30.0
TAIL_LINES = 12
TAIL_WIDTH = 240
INFORMATION = re.compile(r"I\d{4} \d\d:|Error: Failed to initialize NVML|W\d{4} .*DCGM unable to start")


class KeptServer(Server):
    """A server that this process started. It ends with its `with` block, with `stop`, and with this process.

    Attributes:
        id: its name in `tritonlab ps`, and in all that belongs to it.
        log_path: the file that the server's log is written to; it outlives the server.
        command: the tritonserver command line that was run.
    """

    command: list[str]
    _ended = "tritonserver ended"

    def __init__(self, client: Client, models: Iterable[str] | None, log: str | os.PathLike[str] | None) -> None:
        super().__init__(client, models)
        servers = servers_path()
        _forget_old_logs(servers)
        self.id = secrets.token_hex(4)
        self._folder = servers / self.id
        self._folder.mkdir(parents=True)
        self.log_path = self._folder / "server.log"
        if log is not None:
            self.log_path.symlink_to(Path(log).absolute())
            self.log_path = Path(log).absolute()
        self._reader = LogReader()
        self._read_bytes = _open_log(self.log_path)
        self._told: set[str] = set()
        self._started = time.monotonic()

    def _keep(self, module: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the keeper: it holds the server from now on."""
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", module, str(self._folder), str(os.getpid()), *words],
            stdin=subprocess.PIPE,
            # A session of its own: Jupyter's interrupt goes to the kernel's whole process group.
            start_new_session=True,
            env={**environment, leftovers.MARK: self.id},
        )

    def _note(self, **facts: object) -> None:
        """Write down what `tritonlab ps` tells of this server."""
        facts = {"target": self.target, "url": self.url, "models": self.models, "parent": os.getpid(), **facts}
        leftovers.write(self._folder / "server.json", facts)

    def stop(self) -> None:
        """End the server and what belongs to it; harmless when called again."""
        # Triton waits for idle connections to go, until its exit timeout, before it unloads the models.
        self.client.close()
        if self._keeper.stdin is not None:
            with suppress(OSError):
                self._keeper.stdin.close()
        # Told as well: a process that was forked from this one may hold the line open.
        self._keeper.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(STOP_WAIT_S)
        finally:
            if self._keeper.poll() is None:
                self._keeper.kill()
                self._keeper.wait()
            self._clean()

    def _clean(self) -> None:
        """Take away what a keeper that was killed has left."""
        leftovers.clean(self.id)

    def _trace_text(self) -> str:
        if not any(option.startswith("--trace-config") for option in self.command):
            raise TritonlabError(
                f"The server at {self.url} was not started to trace.", "Start it with serve(..., trace=True)."
            )
        return self._read_trace()

    def _read_trace(self) -> str:
        """The files of the trace, one after another."""
        raise NotImplementedError

    def processes(self) -> dict[int, str]:
        """The living processes of the server: number -> command line (vLLM's write a title)."""
        raise NotImplementedError

    def kill(self, pid: int) -> None:
        """SIGKILL to one of the server's `processes`, to see what happens then."""
        raise NotImplementedError

    def report(self) -> LogReport:
        """What the server's log says so far, as a LogReport."""
        self._read_log()
        return self._reader.report()

    def stages(self) -> list[Stage]:
        """How far the start has come, by the log so far."""
        self._read_log()
        return self._reader.stages

    def tail(self) -> list[str]:
        """The log's last lines that say something."""
        return _tail(self.log_path)

    def _read_log(self) -> None:
        with suppress(FileNotFoundError), self.log_path.open("rb") as log:
            log.seek(self._read_bytes)
            chunk = log.read()
            self._read_bytes += len(chunk)
            self._reader.feed(chunk)

    def _look(self, *, quiet: bool) -> None:
        # Asked first: a server that ends while we read has then written its last line.
        ended = self._has_ended()
        self._read_log()
        if not quiet:
            self._tell_stages()
        if ended:
            raise self._failure(f"{self._ended} before it was ready ({self._exit()}).")
        super()._look(quiet=quiet)

    def _has_ended(self) -> bool:
        return self._keeper.poll() is not None

    def _tell_stages(self) -> None:
        for stage in self._reader.stages:
            if stage.status == "reached" and stage.name not in self._told:
                self._told.add(stage.name)
                print(f"{time.monotonic() - self._started:6.1f} s  {stage.name}", flush=True)

    def _exit(self) -> str:
        """How it ended, in words."""
        return f"exit code {self._left('exit.json').get('code')}"

    def _left(self, name: str) -> dict[str, Any]:
        """What the keeper wrote to a file of its folder; empty if it has not."""
        with suppress(OSError, ValueError):
            content: dict[str, Any] = json.loads((self._folder / name).read_text(encoding="utf-8"))
            return content
        return {}

    def _failure(self, what: str) -> ServerFailed:
        self._read_log()
        findings = [found for found in self._reader.report().findings if found.severity == "error"]
        cause = f" {findings[0].title}: {findings[0].cause}" if findings else ""
        fix = " ".join([findings[0].fix, *filter(None, [findings[0].on.get(self.target)])]) if findings else ""
        return ServerFailed(f"{what}{cause}\nThe log ends:\n  " + "\n  ".join(self.tail()), fix)


def servers_path() -> Path:
    """The folder that holds a folder for each server of this user's."""
    return home() / "servers"


def check(
    repository: Path, models: Iterable[str] | None, arguments: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Raise TritonlabError for what no server can be started with, before anything is."""
    _check_repository(repository)
    _check_models(models)
    _check_arguments(arguments)
    _check_environment(environment)


def _check_models(models: Iterable[str] | None) -> None:
    if models is None or isinstance(models, str):
        return
    for model in models:
        if not isinstance(model, str):
            raise TritonlabError(f"{model!r} is no model's name.", 'Give names, e.g. ["gemma"].')


def _check_repository(repository: Path) -> None:
    if not repository.is_dir():
        raise TritonlabError(
            f"There is no model repository at {repository}.",
            "Make one with ModelRepository(...).add(...), or check the path.",
        )


def _check_arguments(arguments: Sequence[str]) -> None:
    if not isinstance(arguments, (list, tuple)) or not all(isinstance(argument, str) for argument in arguments):
        raise TritonlabError(
            f"The arguments for tritonserver are {arguments!r}.", 'Give a list of texts, e.g. ["--log-verbose=1"].'
        )
    for argument in arguments:
        if re.match(r"--(http|grpc|metrics)-(port|address)\b", argument):
            raise TritonlabError(
                f"{argument} cannot be given as an argument: this handle would look for the server elsewhere.",
                'Use ports={"http": 8000}, say; a server of ours is reached from this machine only.',
            )


def _check_environment(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if (
            not isinstance(name, str)
            or not isinstance(value, str)
            or "\0" in value
            or not re.fullmatch(r"[^=\0]+", name)
        ):
            raise TritonlabError(
                f"The environment variable {name!r} has a value that is no text.", 'Give a text: "1", not 1.'
            )


def with_arguments(options: Sequence[str], models: tuple[str, ...] | None, arguments: Sequence[str]) -> list[str]:
    """Our options for tritonserver, then the user's, which replace ours of the same name."""
    options = [*options, "--model-control-mode=explicit", f"--exit-timeout-secs={EXIT_TIMEOUT_S}"]
    replaced = {argument.split("=")[0] for argument in arguments}
    kept = [option for option in options if option.split("=")[0] not in replaced]
    if not replaced & {"--model-control-mode", "--load-model"}:
        kept += [f"--load-model={model}" for model in (("*",) if models is None else models)]
    return [*kept, *arguments]


def _tail(log: Path) -> list[str]:
    """The last lines that say something: no rows of Triton's wide tables, nothing much longer than a screen's line.

    What Triton tells for information is left out where there are warnings and errors to show.
    """
    lines = ANSI.sub("", log.read_text(errors="replace")).splitlines() if log.exists() else []
    told = [line for line in lines if line.strip() and not line.startswith(("| ", "+-"))]
    told = [line for line in told if not INFORMATION.match(line)] or told
    return [line if len(line) <= TAIL_WIDTH else f"{line[:TAIL_WIDTH]}…" for line in told[-TAIL_LINES:]]


def _open_log(path: Path) -> int:
    """Make sure that the file can be written, and tell how many bytes an earlier server left in it.

    Raises:
        TritonlabError: it cannot.
    """
    try:
        with path.open("ab") as log:
            return log.tell()
    except OSError as error:
        raise TritonlabError(
            f"The log cannot be written to {path}: {error.strerror}.", "Name a file in a folder that is yours."
        ) from None


def _forget_old_logs(servers: Path) -> None:
    ages = {}
    for folder in servers.glob("*/"):
        with suppress(FileNotFoundError):  # another process may be doing the same
            ages[folder] = folder.stat().st_mtime
    for folder in sorted(ages, key=ages.__getitem__, reverse=True)[KEPT_LOGS:]:
        if not (folder / "keeper.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
