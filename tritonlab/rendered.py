"""Files that were made up and not yet written."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonlab.errors import TritonlabError
from tritonlab.files import write_whole
from tritonlab.repository import Text


@dataclass(frozen=True, repr=False)
class Rendered:
    """Files by name, in the order in which one reads them.

    Attributes:
        files: name, with slashes where it lies in a folder -> text.
        notes: what the files need of you before they work, as sentences.
    """

    files: dict[str, str]
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Text:
        """The text of a file.

        Raises:
            TritonlabError: there is none of that name.
        """
        if name not in self.files:
            raise TritonlabError(f"There is no file {name!r} here.", f"There are: {', '.join(self.files)}.")
        return Text(self.files[name])

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the files into a folder, which is made if need be; files of the same name are replaced.

        Raises:
            TritonlabError: it cannot be written.
        """
        root, written = Path(folder), []
        for name, text in self.files.items():
            path = root / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, text.encode())
                if text.startswith("#!"):
                    path.chmod(0o755)
            except OSError as error:
                raise TritonlabError(
                    f"{path} cannot be written: {error.strerror}.", "Choose a folder of yours."
                ) from None
            written.append(path)
        return written

    def __repr__(self) -> str:
        sizes = [f"  {name} ({text.count(chr(10))})" for name, text in self.files.items()]
        return "\n".join(["Rendered files (lines):", *sizes, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        opened = " open" if len(self.files) == 1 else ""
        shown = "".join(
            f"<details{opened}><summary><code>{html.escape(name)}</code></summary>"
            f"<pre style='font-family:monospace'>{html.escape(text)}</pre></details>"
            for name, text in self.files.items()
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return shown + (f"<ul>{notes}</ul>" if notes else "")


def as_yaml(documents: Iterable[Any]) -> str:
    """The documents as YAML, in their order, texts of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=1_000, allow_unicode=True))
