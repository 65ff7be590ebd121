"""What a server said: text -> events -> stages, memory, models -> findings -> verdict."""

from tritonlab.logs.findings import Finding, Rule, causes, rules
from tritonlab.logs.reader import LogReader, follow, read_log
from tritonlab.logs.report import LogReport
from tritonlab.logs.stages import FACTS, MEMORY, Stage

__all__ = [
    "FACTS",
    "MEMORY",
    "Finding",
    "LogReader",
    "LogReport",
    "Rule",
    "Stage",
    "causes",
    "follow",
    "read_log",
    "rules",
]
