"""HAProxy in front of several Triton servers, one more server of ours: it ends with its block and with this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence

from tritonlab.client import Client
from tritonlab.errors import TritonlabError
from tritonlab.servers import leftovers, load_balancer, ports
from tritonlab.servers.base import Server
from tritonlab.servers.kept import KeptServer, servers_path


class Balancer(KeptServer):
    """One address for several replicas. Requests that no replica has begun to answer go to another when theirs dies.

    Its handle is that of a server: `client`, `wait_ready`, `log_path` (a line for each request), `stop`.

    Args:
        replicas: the servers, which have to serve the same models.
        models: the models that a replica must have ready to get requests.
        log: a file to append the log to.

    Attributes:
        config: the text of haproxy.cfg.

    Raises:
        TritonlabError: haproxy is not installed, or there is no replica.
    """

    target = "haproxy"
    _ended = "haproxy ended"

    def __init__(
        self,
        replicas: Sequence[Server],
        models: Iterable[str],
        *,
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        program, names = find(), tuple(models)
        leftovers.sweep(servers_path())
        port = ports.choose({})["http"]
        rendered = load_balancer.haproxy([replica.url for replica in replicas], port=port, model=names)
        super().__init__(Client(f"http://{ports.HOST}:{port}"), names, log)
        [path] = rendered.write(self._folder)
        self.config = rendered[path.name]
        self.command = [program, "-db", "-f", str(path)]
        self._keep("tritonlab.servers.keeper", self.command, os.environ)
        try:
            self._note(repository=", ".join(replica.url for replica in replicas))
        except BaseException:
            self.stop()
            raise


def find() -> str:
    """The path of `haproxy`, which Debian puts where an ordinary user's PATH does not lead.

    Raises:
        TritonlabError: it is not installed.
    """
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if program is None:
        raise TritonlabError("haproxy is not installed.", "On Debian or Ubuntu: sudo apt install haproxy.")
    return program
