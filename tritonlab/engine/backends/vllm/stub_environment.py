"""Give the stub's Python what an ordinary interpreter has. Import this before anything of vLLM or torch.

Triton's stub starts Python isolated: PYTHONPATH is not read, the locale is ASCII, and so are stdout and stderr, which
the engine's process inherits. torch then fails on the first byte that is not ASCII. And the folder in which the server
was started comes first in the search for modules: a file there named `request.py`, say, would stand in for ours.
"""

import locale
import os
import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
_GIVEN = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
_REST = [folder for folder in sys.path if folder not in ("", ".", os.getcwd(), _HERE, *_GIVEN)]
sys.path[:] = [_HERE, *_GIVEN, *_REST]
locale.setlocale(locale.LC_ALL, "C.UTF-8")
for _stream in (sys.stdout, sys.stderr):
    _stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
# For the processes that are spawned and not forked.
os.environ.setdefault("PYTHONUTF8", "1")
