"""Where Triton runs: one `Server` handle, whichever the target."""

from tritonlab.servers.base import Server
from tritonlab.servers.serve import serve

__all__ = ["Server", "serve"]
