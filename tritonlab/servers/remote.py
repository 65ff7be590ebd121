"""The remote target: a server that already runs and is not ours to stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tritonlab.client import Client
from tritonlab.errors import TritonlabError
from tritonlab.servers.base import Server

if TYPE_CHECKING:
    from tritonlab.logs import LogReport


class RemoteServer(Server):
    """A handle onto a server reached by its URL; `stop` leaves it running."""

    target = "remote"

    def __init__(self, url: str, models: Iterable[str] | None) -> None:
        super().__init__(Client(url), models)

    def report(self) -> LogReport:
        """Raise TritonlabError: a server reached by URL keeps its log where it runs."""
        raise TritonlabError(
            f"The log of {self.url} is kept where that server runs.",
            "Read it there, e.g. `docker logs NAME`, and give it to read_log.",
        )

    def stop(self) -> None:
        """Nothing: whoever started it stops it."""
        self.client.close()
