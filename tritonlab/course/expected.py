"""Show an error that a lesson provokes on purpose, so that the notebook goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tritonlab.errors import CourseError


@contextmanager
def expect_error(kind: type[Exception] = Exception) -> Iterator[None]:
    """Print the expected error and go on; a `raises-exception` tag would not do, papermill stops at it.

    Raises:
        CourseError: the block raised nothing.
    """
    try:
        yield
    except kind as error:
        print(f"{type(error).__name__}: {error}")
    else:
        raise CourseError(f"An error of kind {kind.__name__} was expected here, and none came.")
