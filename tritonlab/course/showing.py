"""Show what a plain cell output would not: an expected error that must not stop the run, a figure with its text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tritonlab.errors import CourseError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@contextmanager
def expect_error(kind: type[Exception] = Exception) -> Iterator[None]:
    """Print the expected error and go on; a `raises-exception` tag would not do, papermill stops at it.

    Raises:
        CourseError: the block raised nothing.
    """
    try:
        yield
    except kind as error:
        print(f"{type(error).__name__}: {without_places(str(error))}")
    else:
        raise CourseError(f"An error of kind {kind.__name__} was expected here, and none came.")


def without_places(text: str) -> str:
    """The text with this folder's and this person's paths shortened, as a shell would show them."""
    text = text.replace(f"{Path.cwd()}/", "")
    return text if Path.home() == Path("/") else text.replace(str(Path.home()), "~")


def show(shown: Figure | pd.DataFrame, text: str = "") -> None:
    """Display a figure, with a text that says what it shows for those who do not see it; or a table, to be read.

    pandas itself sets text flush right and numbers the rows.
    """
    from IPython.display import display
    from matplotlib.figure import Figure

    if not isinstance(shown, Figure):
        plain, rich = shown.to_string(index=False, na_rep=""), shown.to_html(index=False, na_rep="", border=0)
        rich = re.sub(r"<(t[dh])>", r"<\1 style='text-align:left'>", rich)
        display({"text/html": rich, "text/plain": plain}, raw=True)  # type: ignore[no-untyped-call]
        return
    image = io.BytesIO()
    shown.savefig(image, format="png", dpi=110)
    display({"image/png": image.getvalue(), "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]
