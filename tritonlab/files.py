"""Write a file whole or not at all. Standard library only: a server's keeper imports this and must start fast."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step: whoever reads it meanwhile sees the old one or the new one, and never half of one.

    A link stays one, a file that is replaced leaves its rights to the new one, and a write that fails leaves nothing.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    unfinished = target.parent / f".{target.name}.{os.urandom(4).hex()}"
    try:
        with unfinished.open("xb") as file:
            file.write(data)
        with suppress(FileNotFoundError):
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
