"""The notebooks: where they are, how they are run, and the exercises in them."""

from tritonlab.course.exercises import check
from tritonlab.course.expected import expect_error
from tritonlab.course.paths import FIRST, data, notebooks, root

__all__ = ["FIRST", "check", "data", "expect_error", "notebooks", "root"]
