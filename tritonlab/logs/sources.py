"""Where a log comes from: anything that holds its text -> chunks of UTF-8."""

from __future__ import annotations

import codecs
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from tritonlab.errors import LogUnreadable

CHUNK = 1 << 16
LONGEST_PATH = 4096
IN_MEMORY = 1 << 23
"""A text that is kept and is longer than this goes to a temporary file."""
GZIP = b"\x1f\x8b"


class HasLogs(Protocol):
    """What docker-py calls a Container."""

    def logs(self, **options: Any) -> bytes:
        """What the container wrote so far."""


class HasLogPath(Protocol):
    """What tritonlab's server on the local target is."""

    log_path: Path


Source = str | bytes | os.PathLike[str] | IO[str] | IO[bytes] | Iterable[str | bytes] | HasLogs | HasLogPath


class Kept:
    """The text of a log that cannot be read a second time."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - it lives as long as this does

    def __del__(self) -> None:
        self._file.close()

    def add(self, data: bytes) -> None:
        """Keep what comes next."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(data)

    def chunks(self) -> Iterator[bytes]:
        """What was kept, from the beginning."""
        at = 0
        while self._file.seek(at) == at and (chunk := self._file.read(CHUNK)):
            at += len(chunk)
            yield chunk


def chunks(source: Source) -> Iterator[bytes]:
    """The text of a log in UTF-8, unpacked, in pieces.

    Raises:
        LogUnreadable: the path cannot be opened, or the source is nothing that holds a log.
    """
    return _utf8(_unzipped(_raw(source)))


def lasts(source: Source) -> bool:
    """Whether the source can be read again."""
    return isinstance(source, str | bytes | os.PathLike | list | tuple)


def growth(source: Path | IO[bytes], every_s: float) -> Iterator[bytes | None]:
    """The chunks of a file that is being written, or of a stream; None whenever all that is there has come.

    A stream ends when its writer does. A file never ends; one that has become shorter was begun anew: b"" says so.

    Raises:
        LogUnreadable: the path cannot be opened.
    """
    if not isinstance(source, Path):
        while chunk := os.read(source.fileno(), CHUNK):
            yield chunk
            yield None
        return
    read = 0
    while True:
        with _opened(source) as file:
            if os.fstat(file.fileno()).st_size < read:
                read = 0
                yield b""
            file.seek(read)
            before = read
            while chunk := file.read(CHUNK):
                read += len(chunk)
                yield chunk
        if read > before:
            yield None
        time.sleep(every_s)


def as_bytes(piece: object) -> bytes:
    """Text or bytes as bytes.

    Raises:
        LogUnreadable: it is neither.
    """
    if isinstance(piece, str):
        return piece.encode(errors="replace")
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise LogUnreadable(
        f"A log consists of text or bytes, and this source gives {type(piece).__name__}.",
        "Give a path, text, bytes, a list of lines or an open file.",
    )


def _raw(source: Source) -> Iterator[bytes]:
    if isinstance(source, str) and not _is_path(source):
        yield as_bytes(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif isinstance(source, str | os.PathLike):
        with _opened(Path(source)) as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    elif hasattr(source, "log_path"):
        yield from _raw(source.log_path)
    elif hasattr(source, "logs"):
        yield source.logs(stdout=True, stderr=True, timestamps=True)
    elif hasattr(source, "read"):
        while chunk := source.read(CHUNK):
            yield as_bytes(chunk)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        for line in source:
            data = as_bytes(line)
            yield data if data.endswith(b"\n") else data + b"\n"
    else:
        raise LogUnreadable(
            f"A log cannot be read from an object of type {type(source).__name__}.",
            "Give a path, text, bytes, a list of lines, an open file, a server or a container.",
        )


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        why = error.strerror or str(error)
        raise LogUnreadable(f"The log {path} cannot be opened: {why}.", "Give the path of a log file.") from error


def _is_path(text: str) -> bool:
    """Several lines are a log; a single one is a path if it names a file or looks like nothing else."""
    if not 0 < len(text) < LONGEST_PATH or "\n" in text or "\0" in text:
        return False
    if text.endswith((".log", ".txt", ".gz")) or ("/" in text and " " not in text):
        return True
    try:
        return Path(text).is_file()
    except OSError:  # too long a name
        return False


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks as they are, or unpacked if the first bytes are gzip's; broken gzip ends where it breaks."""
    head = b""
    while len(head) < len(GZIP) and (chunk := next(pieces, b"")):
        head += chunk
    if not head.startswith(GZIP):
        yield head
        yield from pieces
        return
    unpack = zlib.decompressobj(wbits=31)
    data = head
    while data:
        try:
            yield unpack.decompress(data, CHUNK)
        except zlib.error:
            return
        data = unpack.unconsumed_tail
        if unpack.eof:
            data = unpack.unused_data or next(pieces, b"")
            unpack = zlib.decompressobj(wbits=31)
        elif not data:
            data = next(pieces, b"")


def _utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks in UTF-8; PowerShell redirects into UTF-16, and says so in the first two bytes."""
    head = b""
    while len(head) < len(codecs.BOM_UTF8) and (chunk := next(pieces, b"")):
        head += chunk
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        yield decoder.decode(head).encode(errors="replace")
        yield from (decoder.decode(chunk).encode(errors="replace") for chunk in pieces)
    else:
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from pieces
