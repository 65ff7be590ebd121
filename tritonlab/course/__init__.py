"""The notebooks: where they are, how they are run, and the exercises in them."""

from tritonlab.course.exercises import check
from tritonlab.course.paths import FIRST, data, notebooks, root, tutor_model, workspace
from tritonlab.course.showing import expect_error, show

__all__ = [
    "FIRST",
    "check",
    "data",
    "expect_error",
    "notebooks",
    "root",
    "show",
    "tutor_model",
    "workspace",
]
