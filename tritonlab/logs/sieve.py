"""Which of many patterns may match a text, told by a word that each of them must find there.

Most lines match none of two hundred patterns, and looking for a word is thirty times cheaper than a search.
"""

from __future__ import annotations

import re
import re._constants as opcode  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
SHORTEST = 3
"""A shorter word is in too many lines to be worth looking for."""


class Sieve(Generic[T]):
    """Things with a pattern each; `of` a text are those whose pattern may match it, in their order."""

    def __init__(self, things: Iterable[tuple[re.Pattern[str], T]]) -> None:
        self._things: list[T] = []
        self._words: list[tuple[str, int]] = []
        self._always: set[int] = set()
        for index, (pattern, thing) in enumerate(things):
            self._things.append(thing)
            needed = words(pattern)
            self._words += [(word, index) for word in needed]
            if not needed:
                self._always.add(index)

    def of(self, text: str) -> list[T]:
        """No thing is missing whose pattern matches the text."""
        found = {index for word, index in self._words if word in text}
        return [self._things[index] for index in sorted(found | self._always)]


def words(pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Words of which every text that matches has at least one; none where no such words can be told."""
    if pattern.flags & (re.IGNORECASE | re.VERBOSE):
        return ()
    return tuple(sorted(_needed(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))))


def _needed(sequence: Any) -> set[str]:
    """The best of what the parts of a sequence need: that whose shortest word is longest."""
    choices: list[set[str]] = []
    run = ""
    for operator, value in _flat(sequence):
        if operator is opcode.LITERAL:
            run += chr(value)
            continue
        choices.append({run})
        before, run = [(opcode.LITERAL, ord(character)) for character in run], ""
        if operator is opcode.BRANCH:
            # The parser has put what all alternatives begin with before them.
            alternatives = [_needed([*before, *alternative]) for alternative in value[1]]
            choices.append(set().union(*alternatives) if all(alternatives) else set())
        elif operator in (opcode.MAX_REPEAT, opcode.MIN_REPEAT) and value[0] > 0:
            choices.append(_needed(value[2]))
    choices.append({run})
    best = max(choices, key=lambda choice: min(map(len, choice), default=0))
    return best if min(map(len, best), default=0) >= SHORTEST else set()


def _flat(sequence: Any) -> Iterable[tuple[Any, Any]]:
    """The parts of a sequence; those of plain groups in place of the group, and without the places that are no text."""
    for operator, value in sequence:
        if operator is opcode.SUBPATTERN and not value[1] and not value[2]:
            yield from _flat(value[3])
        elif operator is not opcode.AT:
            yield operator, value
