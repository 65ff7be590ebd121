"""From the faults in a log to what to tell a person: one finding for the root cause.

`RULES` holds the causes that one line proves beyond doubt; everything else is told in the log's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tritonlab.logs.stages import ECHO, Fault, Progress


@dataclass(frozen=True)
class Finding:
    """What is wrong: severity "error" or "warning", the line that proves it, a page of documentation."""

    id: str
    severity: str
    title: str
    cause: str
    fix: str
    evidence: str
    line: int
    docs: str = ""


RULES: tuple[tuple[str, str, str, str], ...] = (
    ("engine-args-unexpected-keyword", r"EngineArgs.*got an unexpected keyword argument",
     "model.json has a key that this vLLM does not know",
     "Correct or remove that key in model.json: its keys are vLLM's engine arguments, all on one level."),
    ("model-json-missing", r"'?model\.json'? containing vllm engine args must be provided",
     "The model has no model.json",
     "Put model.json, with at least {\"model\": ...}, into the model's version folder (the folder named 1)."),
    ("bind-source-missing", r"bind source path does not exist",
     "Docker cannot find the folder that is to be mounted",
     "Give the full path of a folder that exists on the host, and share its drive with Docker Desktop."),
    ("hf-gated-repo", r"access(?:ing)? (?:a )?gated repo",
     "Hugging Face holds the model behind a licence",
     "Accept the licence on the model's page, and give the server a token of that account in HF_TOKEN."),
    ("engine-core-died", r"EngineDeadError|vLLM engine of model .* has died",
     "The engine died while it served",
     "Load the model again; the lines before this one say why the engine ended."),
)  # fmt: skip
"""(id, pattern, title, fix)."""


def findings_of(progress: Progress) -> list[Finding]:
    """The root cause of a failed log as one finding; none for a log that did not fail."""
    if progress.verdict != "failed":
        return []
    faults = list(progress.faults.values())
    for rule, pattern, title, fix in RULES:
        for fault in faults:
            if re.search(pattern, fault.text):
                return [_finding(rule, title, fix, fault)]
    # Best an error that nothing followed, and none that only passes another on.
    faults = faults[progress.survived :] + faults[: progress.survived]
    own = [fault for fault in faults if not ECHO.search(fault.text)]
    root = next(iter(own or faults), Fault("the log does not say why", "", 0))
    failed = [model.name for model in progress.models.values() if model.failed]
    title = f"Model {', '.join(failed)} failed to load" if failed else "The start failed"
    return [_finding("model-load-failed", title, "The line says what to mend; then start again.", root)]


def _finding(rule: str, title: str, fix: str, fault: Fault) -> Finding:
    return Finding(rule, "error", title, fault.text, fix, fault.evidence, fault.line)
