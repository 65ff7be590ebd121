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
sys.path[:] = [_HERE, *(folder for folder in sys.path if folder not in ("", ".", os.getcwd(), _HERE))]
for _folder in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)
locale.setlocale(locale.LC_ALL, "C.UTF-8")
for _stream in (sys.stdout, sys.stderr):
    _stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
# For the processes that are spawned and not forked.
os.environ.setdefault("PYTHONUTF8", "1")
