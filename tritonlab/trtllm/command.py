"""A command of TensorRT-LLM: as a line for a shell, and in NVIDIA's container."""

from __future__ import annotations

from collections.abc import Sequence

from tritonlab import compatibility
from tritonlab.errors import CommandError
from tritonlab.servers import shells
from tritonlab.servers.command import DockerRun, Option


class Plan:
    """A command that runs in NVIDIA's container with TensorRT-LLM."""

    def words(self) -> list[str]:
        """The command, word for word."""
        raise NotImplementedError

    def render(self, shell: str = "bash") -> str:
        """The command line for a shell, "bash", "powershell" or "cmd", an option to each line.

        Raises:
            CommandError: there is no such shell.
        """
        if shell not in shells.SHELLS:
            raise CommandError(f"There is no shell {shell!r} here.", f"There are {', '.join(shells.SHELLS)}.")
        escaped = literal(self.words())
        starts = [at for at, word in enumerate(escaped) if at and word.startswith("--")]
        lines = [escaped[a:b] for a, b in zip([0, *starts], [*starts, len(escaped)], strict=True)]
        return shells.join(lines, shell)

    def docker(self, folder: str = "${PWD}", release: str = "25.06") -> DockerRun:
        """The same in NVIDIA's container, with a folder of the host as its working folder.

        Raises:
            CommandError: the release has no image that builds engines.
        """
        known = compatibility.releases().get(release)
        if known is None or not known.builds_engines:
            raise CommandError(
                f"No image of release {release} is known to build engines.",
                f"Take one of {', '.join(r.tag for r in compatibility.releases().values() if r.builds_engines)}.",
            )
        options = (
            Option("--rm"),
            Option("--gpus", "all"),
            Option("--mount", f"type=bind,source={folder},target=/workspace"),
            Option("--workdir", "/workspace"),
            Option("--shm-size", "2g"),
        )
        return DockerRun(image(release), tuple(literal(self.words())), options)


def image(release: str) -> str:
    """NVIDIA's image with TensorRT-LLM, of a release such as "25.06"."""
    return f"nvcr.io/nvidia/tritonserver:{release}-trtllm-python-py3"


def literal(words: Sequence[str]) -> list[str]:
    """Words without variables in the notation of `shells`, where a dollar begins one."""
    return [word.replace("$", "$$") for word in words]
