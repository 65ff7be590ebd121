"""Every error this package raises on purpose.

TritonlabError
├── EngineError            the local engine cannot be installed or used here
├── RepositoryError        a name or an edit that the model repository refuses
├── ServerFailed           a server did not become ready, or died; holds the diagnosis
├── CommandError           a docker command line that cannot be read or written
├── DockerError            no Docker engine answers, or it refused what was asked
├── LogUnreadable          a log source that cannot be opened
├── BenchError             a load that could not be run, or that nothing answered
├── CourseError            a notebook, a parameter or an exercise that does not exist, or a run that failed
└── ClientError            a request that got no good answer
    ├── ServerUnreachable  nothing answers at that address
    ├── RequestTimeout     the server took longer than allowed
    ├── ModelNotReady      the model is unknown, unloaded or failed
    └── RequestRejected    the server read the request and refused it
"""

from __future__ import annotations


class TritonlabError(Exception):
    """What went wrong, and what to do about it.

    Args:
        what: one or two sentences: what happened, where, why.
        fix: what to do, as a sentence; empty when the reason says it all.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\nWhat to do: {self.fix}" if self.fix else self.what

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this: a notebook then shows the sentences and no stack of ours.
        return [f"{type(self).__name__}: {line}" if i == 0 else line
                for i, line in enumerate(str(self).splitlines())]  # fmt: skip


class EngineError(TritonlabError):
    """The local engine cannot be installed or used on this machine."""


class RepositoryError(TritonlabError):
    """A name or an edit that would harm the model repository was refused."""


class CommandError(TritonlabError):
    """A docker command line that cannot be read, or a shell that it cannot be written for."""


class DockerError(TritonlabError):
    """No Docker engine answers, or it refused what was asked of it; `said` is what it said, word for word."""

    def __init__(self, what: str, fix: str = "", said: str = "") -> None:
        super().__init__(what, fix)
        self.said = said or what


class ServerFailed(TritonlabError):
    """A server did not become ready, or died while it served."""


class LogUnreadable(TritonlabError):
    """A log source that cannot be opened."""


class BenchError(TritonlabError):
    """A load that could not be run, or that nothing answered."""


class CourseError(TritonlabError):
    """A notebook, parameter or exercise that does not exist, or a run that failed."""


class ClientError(TritonlabError):
    """A request that got no good answer."""


class ServerUnreachable(ClientError):
    """Nothing answers at that address."""


class RequestTimeout(ClientError):
    """The server took longer than the time allowed."""


class ModelNotReady(ClientError):
    """The model is unknown, unloaded or failed to load."""


class RequestRejected(ClientError):
    """The server read the request and refused it."""
