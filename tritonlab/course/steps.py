"""Steps that several runbooks have: is the repository in order, does a server come up, does it do what clients need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tritonlab.client import Client
from tritonlab.course.runbook import Runbook
from tritonlab.errors import ClientError, RepositoryError, RequestRejected, ServerFailed
from tritonlab.repository import ModelRepository
from tritonlab.servers import Server, serve
from tritonlab.servers.serve import resolved

PROMPT = "Why is the sky blue?"
TOKENS = 16


def running(target: str, grpc_address: str = "", metrics_address: str = "") -> Client | None:
    """A client of the server that runs already, if the target, or what "auto" stands for, is its URL."""
    url = resolved(target)
    if not url.startswith(("http://", "https://")):
        return None
    return Client(url, grpc_url=grpc_address, metrics_url=metrics_address and f"http://{metrics_address}/metrics")


def launched(
    book: Runbook, repository: ModelRepository, models: Sequence[str], target: str, log: Path, wait: float
) -> Server | None:
    """Start a server and wait until it is ready; None when that fails. At a URL there is one already."""
    if running(target):
        return serve(repository, models or None, target)
    server = book.step("a server is started", lambda: serve(repository, models or None, target, log=log))
    if server is not None:
        book.step("it becomes ready", lambda: _none(server.wait_ready(wait, quiet=True)))
    return server


def in_order(book: Runbook, repository: ModelRepository, models: Sequence[str]) -> None:
    """Look a repository over: an error ends the runbook before a server is started."""
    book.step("the repository is in order", lambda: _in_order(repository, models))


def _in_order(repository: ModelRepository, models: Sequence[str]) -> str:
    for model in models:
        repository[model]  # raises for one that is not there, naming those that are
    problems = repository.validate()
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        first = errors[0]
        place = f"{first.file}:{first.line}" if first.line else first.file
        more = f" ({len(errors) - 1} more follow.)" if errors[1:] else ""
        raise RepositoryError(f"{place}: {first.what}: {first.why}.{more}", f"{first.fix}.")
    return f"{len(problems)} warnings" if problems else ""


def _none(_: object) -> None:
    pass


def _yes(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ServerFailed(otherwise, "Read its log: `tritonlab run 06 -p log FILE`.")


def answers(book: Runbook, client: Client, models: Sequence[str] = ()) -> None:
    """Ask each model, or each that is loaded, for a few tokens: only an answer proves that it works."""
    is_there = _health(book, client)
    names = models or book.step("it tells its models", lambda: _loaded(client), anyway=is_there) or ()
    for model in names:
        book.step(f"{model} is ready", partial(_model_ready, client, model), anyway=is_there)
        book.step(f"{model} answers", partial(_answer, client, model), anyway=is_there)


def _health(book: Runbook, client: Client) -> bool:
    """Is it there? A server that is gone is told once; of one that is there, every fault is worth knowing."""
    is_there = client.live()
    book.step("it is live", lambda: _yes(is_there, f"Nothing that is live answers at {client.url}."))
    book.step("it is ready", lambda: _yes(client.ready(), f"The server at {client.url} says that it is not ready."))
    book.step("it tells its version", lambda: _version(book, client), anyway=is_there)
    return is_there


def _loaded(client: Client) -> list[str]:
    index = client.index()
    names = sorted(set(index[index.state == "READY"].name))
    _yes(bool(names), f"The server at {client.url} has no model that is ready.")
    return names


def _model_ready(client: Client, model: str) -> None:
    _yes(client.model_ready(model), f"The server at {client.url} has no model {model!r} that is ready.")


def _answer(client: Client, model: str) -> str:
    if "text_input" not in {tensor["name"] for tensor in client.model_metadata(model)["inputs"]}:
        return "it takes no text, so it was not asked"
    answer = client.generate(model, PROMPT, max_tokens=TOKENS)
    if not answer.text and not answer.num_output_tokens:
        raise ClientError(f"{model} answered with nothing.", "Ask it by hand, and read the server's log.")
    return f"{answer.text[:60]!r}"


def _version(book: Runbook, client: Client) -> str:
    told = client.metadata()
    book.versions[str(told.get("name", "server"))] = str(told.get("version", ""))
    return " ".join(book.versions.values())


def smoke(book: Runbook, client: Client, model: str, *, http_alone: bool = False) -> None:
    """What clients rely on: health, an answer, a stream, an error where one is due, and gRPC and metrics."""
    tried: dict[str, Callable[[], Any]] = {
        "generate answers": lambda: _answer(client, model),
        "generate_stream comes in pieces": lambda: _stream(client, model),
        "a request that makes no sense is refused": lambda: _refused(client, model),
        "an unknown model is refused": lambda: _unknown(client),
    }
    if not http_alone:
        tried["gRPC answers"] = lambda: _grpc(client, model)
        tried["metrics are counted"] = lambda: _metrics(client)
    is_there = _health(book, client)
    for what, do in tried.items():
        book.step(what, do, anyway=is_there)


def _stream(client: Client, model: str) -> str:
    pieces = [piece for piece in client.stream(model, PROMPT, max_tokens=TOKENS) if piece]
    if not pieces:
        raise ClientError(f"The stream of {model} ended without a word.", "Ask it with generate, and read the log.")
    return f"{len(pieces)} pieces"


def _refused(client: Client, model: str) -> str:
    try:
        client.generate(model, PROMPT, max_tokens=-5)
    except RequestRejected:
        return ""
    raise ClientError(f"{model} took max_tokens=-5 for a number of tokens.", "See which backend serves the model.")


def _unknown(client: Client) -> str:
    name = "no-such-model-of-tritonlab"
    try:
        client.generate(name, PROMPT, max_tokens=1)
    except ClientError:
        return ""
    raise ClientError(f"The server answered for a model {name!r}.", "See what listens at that address.")


def _grpc(client: Client, model: str) -> str:
    pieces = "".join(client.stream_grpc(model, PROMPT, max_tokens=TOKENS))
    return f"{len(pieces)} characters at {client.grpc_url}"


def _metrics(client: Client) -> str:
    metrics = client.metrics()
    asked = metrics[metrics.name == "nv_inference_request_success"].value.sum()
    if not asked:
        raise ClientError(f"{client.metrics_url} counts no request, and some were just made.", "Is it that server's?")
    return f"{asked:.0f} requests so far"


def four_questions(book: Runbook, client: Client | None, log: Path | None) -> None:
    """Where did it stop, what came first, whose word is it, what changed: of a server, of its log, or of both."""
    from tritonlab.logs import read_log

    report = read_log(log) if log else None
    if client is not None:
        answers(book, client)
        book.step("no model has failed", lambda: _none_failed(client), anyway=client.live())
    if report is not None:
        book.read(report)
        for what, said in _asked(report).items():
            book.step(what, partial(str, said), anyway=True)


def _none_failed(client: Client) -> str:
    index = client.index()
    failed = index[(index.state == "UNAVAILABLE") & ~index.reason.isin(["", "unloaded"])]
    if len(failed):
        row = failed.iloc[0]
        raise ServerFailed(
            f"Model {row['name']} failed to load.\n{row.reason}", "Read the server's log above that line."
        )
    return ""


def _asked(report: Any) -> dict[str, str]:
    """The four questions about a log, and what it answers."""
    stages = report.stages
    came = [name for name, status in zip(stages.stage, stages.status, strict=True) if status == "reached"]
    errors = [found for found in report.findings if found.severity == "error"]
    said = {"Where did it stop?": f"{report.verdict}; the last stage that it reached: {came[-1] if came else 'none'}"}
    if not errors:
        return {**said, "What came first?": "no error that it did not go on after"}
    first = errors[0]
    events = report.events
    writer = events[events.line <= first.line].component
    earlier = [run for run in report.runs if run.verdict in ("ready", "built")]
    return {
        **said,
        "What came first?": f"line {first.line}: {first.title}",
        "Whose word is it?": str(writer.iloc[-1]) if len(writer) else "unknown",
        "What changed?": _changed(earlier[-1], report)
        if earlier
        else "no good run stands in this log: what was edited?",
    }


def _changed(before: Any, now: Any) -> str:
    """What two runs in one log say of themselves and do not agree on."""
    differing = [
        f"{key}: {before.facts[key]} -> {now.facts[key]}"
        for key in sorted(before.facts.keys() & now.facts.keys())
        if before.facts[key] != now.facts[key] and not key.endswith("seconds")
    ]
    return "; ".join(differing) or f"nothing that the good run at {before.lines} tells: look outside the server"
