"""What a server said: text -> events -> stages, memory, models -> verdict."""

from tritonlab.logs.report import Finding, LogReader, LogReport, read_log

__all__ = ["Finding", "LogReader", "LogReport", "read_log"]
