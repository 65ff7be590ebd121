"""What AIPerf wrote down, read as one `Answer` a request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

MESSAGE = 300


class Answer(NamedTuple):
    """What became of one request.

    Attributes:
        concurrency, round: of the load that it was part of.
        start, end: seconds since 1970.
        latency_ms: from sending it to its last byte; None for one that failed, as all that follows.
        ttft_ms: to the first text.
        itl_ms: the mean time between its tokens, those of the first event left out.
        input_tokens, output_tokens: as the server counts them, else as AIPerf counts the text's.
        kind, message: of its error; empty for one that was answered.
    """

    concurrency: int
    round: int
    start: float
    end: float
    latency_ms: float | None = None
    ttft_ms: float | None = None
    itl_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    kind: str = ""
    message: str = ""


class Told(NamedTuple):
    """What the server itself said in the events of an answer."""

    first_tokens: int | None
    input_tokens: int | None
    output_tokens: int | None
    error: str


def read(folder: Path, phases: Mapping[str, int], turn: int) -> list[Answer]:
    """The answers to the phases named, in the order in which they were sent; warm-ups are left out.

    Args:
        folder: AIPerf's artifacts.
        phases: the name of a phase -> its concurrency.
        turn: the number of the round.
    """
    told = {record["metadata"]["x_request_id"]: _told(record) for record in _records(_raw(folder))}
    found = []
    for record in _records([folder / "profile_export.jsonl"]):
        about = record["metadata"]
        if about["phase_name"] in phases:
            found.append(_answer(record, phases[about["phase_name"]], turn, told.get(about["x_request_id"])))
    return sorted(found, key=lambda answer: answer.start)


def count(folder: Path) -> int:
    """The requests written down so far, warm-ups among them."""
    path = folder / "profile_export.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _raw(folder: Path) -> list[Path]:
    # Its parts are put together only when something was answered.
    return [*folder.glob("profile_export_raw.jsonl"), *folder.glob("raw_records/*.jsonl")]


def _records(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if not path.exists():
            continue
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # the last line of a run that was ended
                if isinstance(record, dict) and "phase_name" in record.get("metadata", {}):
                    yield record


def _answer(record: dict[str, Any], concurrency: int, turn: int, told: Told | None) -> Answer:
    about, metrics = record["metadata"], record.get("metrics", {})
    start, end = about["request_start_ns"] / 1e9, about["request_end_ns"] / 1e9
    error = record.get("error")
    if error:
        kind = str(error.get("type") or "error")
        kind = f"HTTP {error['code']} {kind}" if isinstance(error.get("code"), int) and error["code"] >= 400 else kind
        return Answer(concurrency, turn, start, end, kind=kind, message=_sentence(str(error.get("message", ""))))
    if told and told.error:
        # Triton reports an error in the middle of a stream inside a 200, which AIPerf counts as an answer.
        return Answer(concurrency, turn, start, end, kind="in the stream", message=_sentence(told.error))

    def value(name: str) -> float | None:
        found = metrics.get(name, {}).get("value")
        return float(found) if isinstance(found, (int, float)) else None

    latency, first, gap = value("request_latency"), value("time_to_first_token"), value("inter_token_latency")
    counted = value("output_sequence_length")
    tokens = told.output_tokens if told and told.output_tokens is not None else counted
    if told and told.output_tokens and told.first_tokens and latency is not None and first is not None:
        rest = told.output_tokens - told.first_tokens
        gap = (latency - first) / rest if rest > 0 else None
    seen = told.input_tokens if told else value("input_sequence_length")
    return Answer(
        concurrency, turn, start, end, latency, first, gap,
        None if seen is None else int(seen), None if tokens is None else int(tokens),
    )  # fmt: skip


def _told(record: dict[str, Any]) -> Told:
    first = read = total = None
    error = ""
    for response in record.get("responses") or ():
        for packet in response.get("packets") or ():
            try:
                event = json.loads(packet.get("value") or "")
            except ValueError:
                continue
            if not isinstance(event, dict):
                continue
            error = error or str(event.get("error", ""))
            made, taken = _number(event.get("num_output_tokens")), _number(event.get("num_input_tokens"))
            read = read if taken is None else taken
            if made is not None:
                total = (total or 0) + made
                # AIPerf takes the first event with a text for the first token.
                first = total if first is None and event.get("text_output") else first
    return Told(first, read, total, error)


def _number(value: Any) -> int | None:
    one = value[0] if isinstance(value, list) and value else value
    return one if isinstance(one, int) else None


def _sentence(text: str) -> str:
    """What an error says: Triton's own words, if it is one of Triton's events."""
    said = text.strip().removeprefix("data: ")
    try:
        event = json.loads(said)
        said = str(event["error"]) if isinstance(event, dict) and "error" in event else said
    except ValueError:
        pass
    said = " ".join(said.split())
    return said if len(said) <= MESSAGE else f"{said[: MESSAGE - 1]}…"
