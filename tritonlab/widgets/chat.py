"""Chat: ask a model, watch the answer come, stop it; with the figures of each answer."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from tritonlab.errors import ClientError, TritonlabError
from tritonlab.widgets.panel import Panel, status, text

if TYPE_CHECKING:
    from tritonlab.client import Client, Generation

DRAW_EVERY_S = 0.1
# The browser sends the text right after the Enter that submits it, as a message of its own.
SETTLE_S = 0.1
ALONE = "Each question is sent by itself: the server remembers none of those before."
BUTTON = {"width": "80px"}


@dataclass
class Turn:
    """A question and what came of it: `answer` so far, `figures` when it has ended, `error` when it failed."""

    question: str
    answer: str = ""
    figures: str = ""
    error: str = ""


class Chat(Panel):
    """Chat with a model of a server.

    Enter sends, Tab goes on to the buttons and the sampling parameters. Stop closes the connection with the next piece,
    and the server cancels the request: it generates no more for it. A request that still waits for its first token is
    cancelled when that comes.

    Args:
        client: a server's client.
        model: the model's name.
        sampling: first values for the controls (temperature, max_tokens, top_p, seed); any other is sent as it is.
    """

    def __init__(self, client: Client, model: str, **sampling: Any) -> None:
        self._client, self._model = client, model
        self._turns: list[Turn] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._asking = threading.Lock()
        first = {"temperature": 0.0, "max_tokens": 128, "top_p": 1.0, "seed": "", **sampling}
        self._question = widgets.Text(
            description="Question",
            placeholder="Enter sends it",
            continuous_update=False,
            style={"description_width": "max-content"},
            layout={"flex": "1 1 300px", "width": "auto"},
        )
        self._send = widgets.Button(
            description="Send", button_style="primary", tooltip="Send the question (Enter)", layout=BUTTON
        )
        self._stop = widgets.Button(description="Stop", tooltip="Stop the answer: the server cancels it", layout=BUTTON)
        number, whole = widgets.BoundedFloatText, widgets.BoundedIntText
        self._temperature = _field(number, "temperature", first.pop("temperature"), "150px", min=0, max=2, step=0.1)
        self._max_tokens = _field(whole, "max_tokens", first.pop("max_tokens"), "160px", min=1, max=1_000_000)
        self._top_p = _field(number, "top_p", first.pop("top_p"), "110px", min=0.01, max=1, step=0.05)
        self._seed = _field(widgets.Text, "seed", str(first.pop("seed")), "110px", placeholder="none")
        self._more = first
        self._talk, self._last, self._state = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._question.on_msg(self._on_message)
        self._send.on_click(lambda _: self.send())
        self._stop.on_click(lambda _: self.stop())
        row = {"flex_flow": "row wrap", "align_items": "center"}
        super().__init__(
            widgets.HTML(f"<b>{text(self._title())}</b> <span class='tl-quiet'>{ALONE}</span>"),
            self._talk,
            self._last,
            self._state,
            widgets.Box([self._question, self._send, self._stop], layout=row),
            widgets.Box([self._temperature, self._max_tokens, self._top_p, self._seed], layout=row),
        )
        self._say("Nothing asked yet.")

    def ask(self, question: str) -> Generation:
        """Ask as a person would, and wait for the answer, e.g. in a runbook; the conversation shows both.

        Raises:
            ClientError: the server gave no good answer.
            TritonlabError: another answer is still coming, or a control holds what cannot be sent.
        """
        sampling = self._sampling()
        return self._stream(self._open(question), sampling)

    def send(self) -> None:
        """What Enter and the button do: send the question and return; the answer comes in the background."""
        self._start(settle=False)

    def stop(self) -> None:
        """What the button does: close the connection of the answer that is coming."""
        if self._asking.locked():
            self._stopped.set()
            self._say("Stopping, with the next piece.")
        else:
            self._say("Nothing to stop: no answer is coming.")

    def plain(self) -> str:
        lines = [self._title()]
        for turn in self._turns:
            lines.append(f"you: {turn.question}")
            if turn.answer:
                lines.append(f"{self._model}: {turn.answer.strip()}")
            lines += [f"  {told}" for told in (turn.figures, turn.error) if told]
        return "\n".join(lines if self._turns else [*lines, "nothing asked yet"])

    def _title(self) -> str:
        return f"Chat with {self._model} at {self._client.url}."

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("event") == "submit":
            self._start(settle=True)

    def _start(self, *, settle: bool) -> None:
        # A thread: the kernel stays free, so that Stop is heard while the answer comes.
        threading.Thread(target=self._in_background, args=(settle,), daemon=True).start()

    def _in_background(self, settle: bool) -> None:
        if settle:
            time.sleep(SETTLE_S)
        try:
            question = self._question.value
            sampling = self._sampling()
            turn = self._open(question)
        except TritonlabError as error:
            self._say(error, bad=True)
            return
        self._question.value = ""
        with suppress(TritonlabError):  # the conversation shows it
            self._stream(turn, sampling)

    def _open(self, question: str) -> Turn:
        """A new turn, once the one before has ended."""
        if not question.strip():
            raise TritonlabError("There is no question to send.", "Write one into the field.")
        if not self._asking.acquire(blocking=False):
            raise TritonlabError("An answer is still coming.", "Wait for its end, or press Stop.")
        self._stopped.clear()
        self._talk.value = "".join(_html_of(self._model, turn) for turn in self._turns)
        self._turns.append(Turn(question))
        return self._turns[-1]

    def _stream(self, turn: Turn, sampling: dict[str, Any]) -> Generation:
        """Hear the answer of the turn that `_open` gave; it is told to have ended once the next may be opened."""
        self._draw(turn)
        self._say("Waiting for the first token.")
        drawn, ended, is_bad = 0.0, "No answer: the reason stands above.", True
        try:
            with self._client.stream(self._model, turn.question, **sampling) as stream:
                for piece in stream:
                    if not turn.answer:
                        self._say("The answer is coming.")
                    turn.answer += piece
                    if time.monotonic() - drawn > DRAW_EVERY_S:
                        drawn = time.monotonic()
                        self._draw(turn)
                    if self._stopped.is_set():
                        break
            turn.figures = self._figures(stream.result)
            ended, is_bad = "Stopped." if self._stopped.is_set() else "Answered.", False
            return stream.result
        except ClientError as error:
            turn.error = str(error)
            raise
        finally:
            self._draw(turn)
            self._asking.release()
            self._say(ended, bad=is_bad)

    def _figures(self, answer: Generation) -> str:
        rate, first = answer.tokens_per_second, answer.time_to_first_token
        ended = "stopped by you, cancelled on the server" if self._stopped.is_set() else answer.finish_reason
        told = [
            f"{answer.num_output_tokens} tokens" if answer.num_output_tokens is not None else "",
            f"{rate:.0f} tokens/s" if rate else "",
            f"first token after {first:.2f} s" if first is not None else "",
            f"{answer.seconds:.2f} s in all",
            f"finish reason: {ended}",
        ]
        return ", ".join(filter(None, told))

    def _sampling(self) -> dict[str, Any]:
        sampling = {
            "temperature": self._temperature.value,
            "max_tokens": self._max_tokens.value,
            "top_p": self._top_p.value,
            **self._more,
        }
        if seed := self._seed.value.strip():
            try:
                sampling["seed"] = int(seed)
            except ValueError:
                raise TritonlabError(
                    f"The seed {seed!r} is no whole number.", "Write one such as 7, or leave the field empty."
                ) from None
        return sampling

    def _draw(self, turn: Turn) -> None:
        self._last.value = _html_of(self._model, turn)

    def _say(self, said: object, *, bad: bool = False) -> None:
        self._state.value = status(said, "bad" if bad else "")


def _field(kind: Any, name: str, value: Any, width: str, **more: Any) -> Any:
    style = {"description_width": "max-content"}
    return kind(value=value, description=name, style=style, layout={"width": width}, continuous_update=False, **more)


def _html_of(model: str, turn: Turn) -> str:
    parts = [f"<p><b>you:</b> {text(turn.question)}</p>"]
    if turn.answer:
        parts.append(f"<p><b>{text(model)}:</b> {text(turn.answer.strip())}</p>")
    if turn.figures:
        parts.append(f"<p class='tl-quiet'>{text(turn.figures)}</p>")
    if turn.error:
        parts.append(status(turn.error, "bad"))
    return "".join(parts)
