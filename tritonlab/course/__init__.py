"""The notebooks: where they are, how they are run, and the exercises in them."""

from tritonlab.course.exercises import begin, check, hint, solution
from tritonlab.course.learner import progress
from tritonlab.course.paths import FIRST, data, notebooks, root, tutor_model, workspace
from tritonlab.course.runbook import Runbook
from tritonlab.course.showing import expect_error, show

__all__ = [
    "FIRST",
    "Runbook",
    "begin",
    "check",
    "data",
    "expect_error",
    "hint",
    "notebooks",
    "progress",
    "root",
    "show",
    "solution",
    "tutor_model",
    "workspace",
]
