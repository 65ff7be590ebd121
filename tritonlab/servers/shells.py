"""Command lines of bash, PowerShell and cmd -> words, and back. Nothing is ever run.

A word keeps its variables in one notation, compose's: `${HF_TOKEN}` is a variable, and `$$` is a dollar. The working
folder is `${PWD}` and the home folder `${HOME}`, whatever the shell calls them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tritonlab.errors import CommandError

SHELLS = ("bash", "powershell", "cmd")
VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}")
_PROMPT = re.compile(r"\s*(?:PS(?: [^>\n]*)?> |[A-Z]:\\[^>\n]*>|\$ )?")
_PLAIN = {
    "bash": re.compile(r"[\w@%+=:,./-]+"),
    # A comma makes a list in PowerShell, and an at sign at the beginning splats.
    "powershell": re.compile(r"[\w%+=:./\\-][\w@%+=:./\\-]*"),
    "cmd": re.compile(r"[\w@+=:,./\\{}-]+"),
}
_NAMES = {
    "powershell": {"pwd": "PWD", "home": "HOME", "env:userprofile": "HOME"},
    "cmd": {"cd": "PWD", "userprofile": "HOME"},
}


def guess(text: str) -> str:
    """The shell that a command line was written for, by what only that shell writes so."""
    if re.search(r"`[ \t]*\r?\n|\$\{?env:|\$\{?pwd\}?\\", text, re.IGNORECASE):
        return "powershell"
    if re.search(r"\^[ \t]*\r?\n|%\w+%", text):
        return "cmd"
    return "bash"


def split(text: str, shell: str) -> list[str]:
    """The words of one command.

    Raises:
        CommandError: a quote is open, there is a second command, or something that only the shell can know.
    """
    prompt = _PROMPT.match(text)
    return list(_Reader(text[prompt.end() if prompt else 0 :], shell).words())


def typed(text: str) -> str:
    """A word as people type it into a field, where $HF_TOKEN is a variable as ${HF_TOKEN} is; $$ is a dollar."""
    return re.sub(r"\$\$|\$([A-Za-z_]\w*)", lambda found: f"${{{found[1]}}}" if found[1] else "$$", text)


def quote(word: str, shell: str) -> str:
    """A word as one writes it in a shell."""
    pieces = _pieces(word)
    plain = "".join(text for text, is_variable in pieces if not is_variable)
    has_variable = any(is_variable for _, is_variable in pieces)
    if not has_variable and _PLAIN[shell].fullmatch(plain):
        return plain
    return _QUOTED[shell](pieces, has_variable)


def join(lines: Sequence[Sequence[str]], shell: str) -> str:
    """A command of several lines, each a few words."""
    ends = {"bash": " \\\n  ", "powershell": " `\n  ", "cmd": " ^\n  "}
    return ends[shell].join(" ".join(quote(word, shell) for word in line) for line in lines)


def _pieces(word: str) -> list[tuple[str, bool]]:
    """Text and the names of variables in turn: (text, whether it is a variable's name)."""
    pieces: list[tuple[str, bool]] = []
    at = 0
    for found in VARIABLE.finditer(word):
        pieces.append((word[at : found.start()] + ("" if found[1] else "$"), False))
        if found[1]:
            pieces.append((found[1], True))
        at = found.end()
    return [*pieces, (word[at:], False)]


def _bash(pieces: list[tuple[str, bool]], has_variable: bool) -> str:
    if not has_variable:
        return "'" + "".join(text for text, _ in pieces).replace("'", "'\\''") + "'"
    written = (f"${{{text}}}" if name else re.sub(r'(["\\$`])', r"\\\1", text) for text, name in pieces)
    return '"' + "".join(written) + '"'


def _powershell(pieces: list[tuple[str, bool]], has_variable: bool) -> str:
    if not has_variable:
        return "'" + "".join(text for text, _ in pieces).replace("'", "''") + "'"
    own = {"PWD": "${PWD}", "HOME": "${HOME}"}
    written = (own.get(text, f"${{env:{text}}}") if name else re.sub(r'(["$`])', r"`\1", text) for text, name in pieces)
    return '"' + "".join(written) + '"'


def _cmd(pieces: list[tuple[str, bool]], has_variable: bool) -> str:
    own = {"PWD": "%CD%", "HOME": "%USERPROFILE%"}
    written = (own.get(text, f"%{text}%") if name else text.replace('"', '""') for text, name in pieces)
    return '"' + "".join(written) + '"'


_QUOTED: dict[str, Callable[[list[tuple[str, bool]], bool], str]] = {
    "bash": _bash,
    "powershell": _powershell,
    "cmd": _cmd,
}


class _Reader:
    """Reads one command, character by character."""

    def __init__(self, text: str, shell: str) -> None:
        self._text = text.replace("\r\n", "\n").strip()
        self._at = 0
        self._shell = shell
        self._escape = {"bash": "\\", "powershell": "`", "cmd": "^"}[shell]

    def words(self) -> Iterator[str]:
        word: list[str] | None = None
        while self._at < len(self._text):
            char = self._text[self._at]
            if self._continues():
                continue
            if char in " \t\n" or (char == "#" and word is None and self._shell != "cmd"):
                if word is not None:
                    yield "".join(word)
                    word = None
                self._rest_must_be_blank(char)
                continue
            if char in "|;&<>" and not (char == ";" and self._shell == "cmd"):
                raise CommandError(
                    f"{self._text[self._at : self._at + 20]!r} begins another command or a redirection.",
                    "Give the docker command alone.",
                )
            word = word if word is not None else []
            word.append(self._piece(first=not word))
        if word is not None:
            yield "".join(word)

    def _continues(self) -> bool:
        """Step over the end of a line that goes on."""
        found = re.compile(re.escape(self._escape) + r"[ \t]*\n[ \t]*").match(self._text, self._at)
        if found:
            # The shells differ on whether a line's end parts two words; people always mean it to.
            self._text = f"{self._text[: self._at]} {self._text[found.end() :]}"
        return bool(found)

    def _rest_must_be_blank(self, char: str) -> None:
        if char == "#":
            end = self._text.find("\n", self._at)
            self._at = len(self._text) if end < 0 else end
        elif char == "\n" and not re.match(r"\s*(?:#.*)?$", self._text[self._at :]):
            following = self._text[self._at :].split()[0]
            if not following.startswith("-"):
                raise CommandError(
                    f"A second command begins with {following!r}.",
                    f"Give one command; a line that goes on ends in {self._escape!r}.",
                )
            self._at += 1
        else:
            self._at += 1

    def _piece(self, *, first: bool) -> str:
        char = self._text[self._at]
        if char == "'" and self._shell != "cmd":
            return self._single()
        if char == '"':
            return self._double()
        if char == self._escape:
            self._at += 2
            return _literal(self._text[self._at - 1 : self._at])
        if char == "~" and first and self._shell != "cmd" and re.match(r"~(?:[/\\\s]|$)", self._text[self._at :]):
            self._at += 1
            return "${HOME}"
        return self._variable() or self._take(1)

    def _single(self) -> str:
        pattern = r"'((?:[^']|'')*)'" if self._shell == "powershell" else r"'([^']*)'"
        found = re.compile(pattern).match(self._text, self._at)
        if not found:
            raise self._open("'")
        self._at = found.end()
        inner = found[1].replace("''", "'") if self._shell == "powershell" else found[1]
        return _literal(inner)

    def _double(self) -> str:
        pieces = []
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] != '"':
            pair = self._text[self._at : self._at + 2]
            if (self._shell == "bash" and re.match(r'\\["\\$`]', pair)) or (
                self._shell == "powershell" and pair[0] == "`"
            ):
                pieces.append(_literal(pair[1:]))
                self._at += 2
            else:
                pieces.append(self._variable() or self._take(1))
            if self._shell != "bash" and self._text[self._at : self._at + 2] == '""':
                pieces.append('"')
                self._at += 2
        if self._at >= len(self._text):
            raise self._open('"')
        self._at += 1
        return "".join(pieces)

    def _variable(self) -> str:
        """A variable at this place in compose's notation, or ""."""
        rest = self._text[self._at :]
        if self._shell == "cmd":
            found = re.match(r"%(\w+)%", rest)
        else:
            found = re.match(r"\$\{((?:env:)?\w+)\}|\$((?:env:)?\w+)|\$\((pwd)\)|`(pwd)`", rest, re.IGNORECASE)
        if not found:
            if self._shell != "cmd" and rest.startswith(("$(", "${", "`")):
                raise CommandError(
                    f"{rest[:20]!r} is something that only the shell can work out.",
                    "Write its result in its place, or a plain variable such as $PWD.",
                )
            return ""
        self._at += found.end()
        name = next(group for group in found.groups() if group)
        own = _NAMES.get(self._shell, {}).get(name.lower())
        return f"${{{own or ('PWD' if name == 'pwd' else re.sub('(?i)^env:', '', name))}}}"

    def _take(self, count: int) -> str:
        self._at += count
        return _literal(self._text[self._at - count : self._at])

    def _open(self, mark: str) -> CommandError:
        return CommandError(f"A quotation that begins with {mark} does not end.", f"Close it with another {mark}.")


def _literal(text: str) -> str:
    return text.replace("$", "$$")
