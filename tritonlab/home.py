"""Where tritonlab keeps what it makes: one folder per user, moved by the variable TRITONLAB_HOME."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The user's tritonlab folder: `$TRITONLAB_HOME`, or the platform's data folder."""
    if override := os.environ.get("TRITONLAB_HOME"):
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("tritonlab", appauthor=False))
