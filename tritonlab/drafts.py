"""Edits of a model repository's files that are not saved yet: checked as if they were, and written without a loss.

drafts = Drafts(repo)
drafts.edit("gemma/config.pbtxt", text)
drafts.problems()        # of what is typed; the files are as they were
drafts.save("gemma/config.pbtxt")
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tritonlab.errors import RepositoryError
from tritonlab.files import write_whole
from tritonlab.pbtxt import CONFIG
from tritonlab.problems import Problems
from tritonlab.repository import ModelRepository

LARGEST = 1 << 20
"""Bytes of a file that is edited here; no configuration comes near."""


@dataclass(frozen=True)
class _Read:
    """A file as it was read: its bytes, None if it is not there; and why it is not edited here, or ""."""

    data: bytes | None
    why_not: str = ""

    @property
    def text(self) -> str:
        """With the line ends that an editor has."""
        return "" if self.data is None or self.why_not else self.data.decode("utf-8").replace("\r\n", "\n")


class Drafts:
    """What was typed for files of a repository. A file is named by its path in the repository, as problems name it."""

    def __init__(self, repo: ModelRepository) -> None:
        self.repo = repo
        self._read: dict[str, _Read] = {}
        self._typed: dict[str, str] = {}

    def files(self, model: str) -> tuple[str, str]:
        """The two files of a model that people edit: config.pbtxt, and model.json of its newest version.

        Raises:
            RepositoryError: there is no such model.
        """
        found = self.repo[model]
        return f"{model}/{CONFIG}", found.model_json_path.relative_to(self.repo.path).as_posix()

    def text(self, file: str) -> str:
        """What is typed for a file, or what it holds; "" where it is not there, or cannot be edited here."""
        return self._typed.get(file, self._base(file).text)

    def why_not(self, file: str) -> str:
        """Why a file cannot be edited here, as a sentence; "" if it can."""
        return self._base(file).why_not

    def exists(self, file: str) -> bool:
        """Whether the file was there when it was read."""
        return self._base(file).data is not None

    def edit(self, file: str, text: str) -> None:
        """Take what was typed; the file stays as it is.

        Raises:
            RepositoryError: the file cannot be edited here.
        """
        base = self._base(file)
        if base.why_not:
            raise RepositoryError(f"{file} cannot be edited here: {base.why_not}", "Use an editor made for it.")
        if text == base.text:
            self._typed.pop(file, None)
        else:
            self._typed[file] = text

    def unsaved(self) -> list[str]:
        """The files for which something is typed that they do not hold."""
        return sorted(self._typed)

    def changed(self, file: str) -> bool:
        """Whether somebody else has changed the file since it was read."""
        return _read(self.repo.path / file).data != self._base(file).data

    def save(self, file: str, *, overwrite: bool = False) -> None:
        """Write what was typed. The file is replaced in one step, so that it is never half written.

        Args:
            file: its path in the repository.
            overwrite: whether what somebody else has written since may be lost.

        Raises:
            RepositoryError: somebody else has changed the file since it was read, or it cannot be written.
        """
        if file not in self._typed:
            return
        if self.changed(file) and not overwrite:
            raise RepositoryError(
                f"{file} has changed on disk since it was read here, so it was not written.",
                "Overwrite it with what is typed here, or take the file as it is and type anew.",
            )
        before = self._base(file).data or b""
        text = self._typed[file].replace("\r\n", "\n")
        try:
            data = (text.replace("\n", "\r\n") if b"\r\n" in before else text).encode("utf-8")
        except UnicodeEncodeError as error:
            raise RepositoryError(f"{file} was not written: a sign in it has no UTF-8: {error.reason}.") from None
        _replace(self.repo.path / file, data)
        self._read[file] = _Read(data)
        del self._typed[file]

    def discard(self, file: str) -> None:
        """Forget what was typed, and read the file anew."""
        self._typed.pop(file, None)
        self._read.pop(file, None)

    def refresh(self) -> None:
        """Read anew every file for which nothing is typed."""
        self._read = {file: read for file, read in self._read.items() if file in self._typed}

    def problems(self, vllm_version: str | None = None) -> Problems:
        """What `ModelRepository.validate` would find if everything typed were saved; the files are not touched.

        Raises:
            RepositoryError: there is no room for a temporary folder.
        """
        if not self._typed:
            return self.repo.validate(vllm_version)
        try:
            with tempfile.TemporaryDirectory(prefix="tritonlab-") as folder:
                copy = Path(folder) / self.repo.path.name
                self._lay_out(self.repo.path.absolute(), copy, dict(self._typed))
                return ModelRepository(copy).validate(vllm_version)
        except OSError as error:
            raise RepositoryError(
                f"What is typed cannot be checked: {error.strerror or error}.", "Make room for temporary files."
            ) from None

    def _base(self, file: str) -> _Read:
        if file not in self._read:
            self._read[file] = _read(self.repo.path / file)
        return self._read[file]

    def _lay_out(self, source: Path, copy: Path, texts: dict[str, str]) -> None:
        """A folder with these texts in it, and links to everything else: a repository may hold weights of any size."""
        copy.mkdir()
        inside: dict[str, dict[str, str]] = {}
        for path, text in texts.items():
            name, _, rest = path.partition("/")
            if rest:
                inside.setdefault(name, {})[rest] = text
            else:
                (copy / name).write_text(text, encoding="utf-8", errors="replace")
        for name, deeper in inside.items():
            self._lay_out(source / name, copy / name, deeper)
        for child in source.iterdir() if source.is_dir() else ():
            if child.name not in texts and child.name not in inside:
                (copy / child.name).symlink_to(child)


def _read(path: Path) -> _Read:
    try:
        if path.stat().st_size > LARGEST:
            return _Read(b"", f"it has {path.stat().st_size / (1 << 20):.0f} MiB.")
        data = path.read_bytes()
    except FileNotFoundError:
        return _Read(None)
    except OSError as error:
        return _Read(b"", f"it cannot be read: {error.strerror}.")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _Read(data, f"byte {error.start} is not UTF-8, so it is no text.")
    return _Read(data, "it holds a null byte, so it is no text." if b"\0" in data else "")


def _replace(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise RepositoryError(
            f"{path} cannot be written: {error.strerror}. What is typed is still here.", "Mend the folder's rights."
        ) from None
