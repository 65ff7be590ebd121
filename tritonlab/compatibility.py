"""Which versions belong together: NVIDIA's Triton containers, and what is in them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

IMAGE = re.compile(r"nvcr\.io/nvidia/tritonserver:(?P<tag>\d\d\.\d\d)(?:-(?P<kind>[a-z-]+))?-py3")


@dataclass(frozen=True)
class Engine:
    """vLLM or TensorRT-LLM in a container: its version, CUDA, and the driver that this CUDA comes with."""

    version: str
    cuda: str
    driver: str
    tensorrt: str = ""


@dataclass(frozen=True)
class Release:
    """A month's containers; `tensorrt_llm` is None where there was no such image."""

    tag: str
    triton: str
    vllm: Engine
    tensorrt_llm: Engine | None = None

    @property
    def builds_engines(self) -> bool:
        """Whether its TensorRT-LLM image compiles and serves TensorRT engines.

        Those up to TensorRT-LLM 1.2.1 do: the path left TensorRT-LLM's main branch in July 2026.
        """
        return self.tensorrt_llm is not None and bool(self.tensorrt_llm.tensorrt)


@cache
def releases() -> dict[str, Release]:
    """Tag -> release, newest first; the source stands at the head of `compatibility.toml`."""
    table = tomllib.loads(Path(__file__).with_name("compatibility.toml").read_text(encoding="utf-8"))
    engines = ("vllm", "tensorrt_llm")
    found = [Release(**{**row, **{name: Engine(**row[name]) for name in engines if name in row}})
             for row in table["release"]]  # fmt: skip
    return {release.tag: release for release in found}


def contents(image: str) -> tuple[Release, Engine | None] | None:
    """The release that an image's name belongs to, and its engine; None if it is no Triton image known here."""
    found = IMAGE.fullmatch(image)
    release = releases().get(found["tag"]) if found else None
    if found is None or release is None:
        return None
    engine = {"vllm-python": release.vllm, "trtllm-python": release.tensorrt_llm}.get(found["kind"] or "")
    return release, engine


def newest(driver: str) -> Release | None:
    """The newest release whose vLLM image's CUDA comes with a driver that is no newer than this one."""
    fitting = (release for release in releases().values() if not is_older(driver, release.vllm.driver))
    return next(fitting, None)


def is_older(version: str, than: str) -> bool:
    """Whether a dotted version is older than another: "572.83" than "575.51.03"."""
    return _numbers(version) < _numbers(than)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
