"""What a server said: text -> events -> stages, memory, models -> findings -> verdict."""

from tritonlab.logs.findings import Finding, Rule, rules
from tritonlab.logs.report import LogReader, LogReport, read_log
from tritonlab.logs.stages import FACTS, MEMORY, Stage

__all__ = ["FACTS", "MEMORY", "Finding", "LogReader", "LogReport", "Rule", "Stage", "read_log", "rules"]
