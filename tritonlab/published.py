"""Figures that others published, and the ones measured on a GPU for this course: each with its source.

    published()                             # a table
    published(model="Llama 3.1 8B")         # what there is of one model

They say what to expect, never what you will get. Compare within a source: no two of them measured the same.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.errors import TritonlabError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("by", "engine", "model", "precision", "hardware", "load", "value", "unit", "date", "method", "url", "read")


def published(**wanted: str) -> pd.DataFrame:
    """The figures whose columns have these words in them, in any case: published(by="nvidia", hardware="H200").

    Raises:
        TritonlabError: there is no such column.
    """
    import pandas as pd

    table = _table()
    found = pd.DataFrame([{**table["sources"][row["source"]], **row} for row in table["figures"]])[list(COLUMNS)]
    for column, words in wanted.items():
        if column not in COLUMNS:
            raise TritonlabError(f"The figures have no column {column!r}.", f"There are {', '.join(COLUMNS)}.")
        found = found[found[column].astype(str).str.contains(str(words), case=False, regex=False)]
    return found.reset_index(drop=True)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
