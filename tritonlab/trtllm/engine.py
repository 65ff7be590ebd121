"""An engine folder: what `trtllm-build` wrote, what it can do, and what would fail when a server loads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab import compatibility
from tritonlab.errors import TritonlabError
from tritonlab.servers.command import Advice, AdviceList

if TYPE_CHECKING:
    import pandas as pd

RANK = re.compile(r"rank(\d+)\.engine")


@dataclass(frozen=True)
class EngineFolder:
    """A folder with `config.json` and a `rankN.engine` for each GPU.

    Attributes:
        path: the folder.
        version: the TensorRT-LLM that built it.
        model: `pretrained_config`: architecture, dtype, mapping, quantization.
        build: `build_config`: limits, kind of KV cache, `plugin_config`.
        ranks: rank -> bytes of its engine file.
    """

    path: Path
    version: str
    model: Mapping[str, Any]
    build: Mapping[str, Any]
    ranks: Mapping[int, int]

    @classmethod
    def read(cls, path: str | Path) -> EngineFolder:
        """Read a folder.

        Raises:
            TritonlabError: there is no such folder, or its config.json cannot be read; says where.
        """
        folder = Path(path)
        config = folder / "config.json"
        try:
            content = json.loads(config.read_text(encoding="utf-8"))
            model, build = content["pretrained_config"], content["build_config"]
            version = str(content["version"])
        except FileNotFoundError:
            raise TritonlabError(
                f"There is no {config}.", "Name the folder that --output_dir of trtllm-build named."
            ) from None
        except (OSError, ValueError) as error:
            raise TritonlabError(
                f"{config} cannot be read: {error}.", "Copy the folder again, or build it anew."
            ) from None
        except (KeyError, TypeError) as error:
            raise TritonlabError(
                f"{config} is not that of an engine: it lacks {error}.",
                "A checkpoint's folder has a config.json too; the engine's was written by trtllm-build.",
            ) from None
        found = {int(name[1]): file.stat().st_size for file in folder.iterdir() if (name := RANK.fullmatch(file.name))}
        return cls(folder, version, model, build, dict(sorted(found.items())))

    @property
    def world_size(self) -> int:
        """How many GPUs it was built for: tensor, pipeline and context parallelism multiplied."""
        return int((self.model.get("mapping") or {}).get("world_size", 1))

    @property
    def has_inflight_batching(self) -> bool:
        """Whether Triton can take new requests into a running batch."""
        return not list(self._without_inflight())

    def facts(self) -> pd.DataFrame:
        """What it can do, and what it is for."""
        import pandas as pd

        quantization = self.model.get("quantization") or {}
        cache = quantization.get("kv_cache_quant_algo") or "unquantized"
        rows = [
            ("TensorRT-LLM", self.version),
            ("architecture", self.model.get("architecture", "")),
            ("data type", self.model.get("dtype", "")),
            ("quantization", quantization.get("quant_algo") or "none"),
            ("KV cache", f"{self.build.get('kv_cache_type', '')}, {cache}"),
            ("GPUs", self.world_size),
            ("bytes on disk", sum(self.ranks.values())),
            ("requests at once", self.build.get("max_batch_size", "")),
            ("tokens of prompt and answer", self.build.get("max_seq_len", "")),
            ("tokens in a step", self.build.get("max_num_tokens", "")),
            ("beams", self.build.get("max_beam_width", "")),
            ("in-flight batching", "yes" if self.has_inflight_batching else "no"),
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["what", "value"])

    def check(self, release: str = "", gpus: int = 1) -> AdviceList:
        """What would fail when a server loads it; empty when nothing is seen.

        The GPU's kind is not written in the folder: an engine runs on the compute capability that it was built on.

        Args:
            release: the tag of NVIDIA's Triton container that is to serve it, e.g. "25.06".
            gpus: how many GPUs the server has.
        """
        return AdviceList([*self._files(), *self._without_inflight(), *self._server(release, gpus)])

    def _files(self) -> Iterator[Advice]:
        missing = sorted(set(range(self.world_size)) - set(self.ranks))
        if missing:
            yield Advice(
                f"rank{missing[0]}.engine", f"{len(missing)} of {self.world_size} engine files are not there.",
                "config.json says for how many GPUs the engine was built, and each loads its own file.",
                "Copy the whole folder, or build it anew.",
            )  # fmt: skip
        for rank in sorted(set(self.ranks) - set(range(self.world_size))):
            yield Advice(
                f"rank{rank}.engine", f"No GPU loads this file: the engine is for {self.world_size}.",
                "It is left from another build in the same folder.", "Build into an empty folder.",
            )  # fmt: skip
        for rank, size in self.ranks.items():
            if size == 0:
                yield Advice(
                    f"rank{rank}.engine",
                    "The file is empty.",
                    "A copy or a build broke off.",
                    "Copy or build it again.",
                )

    def _without_inflight(self) -> Iterator[Advice]:
        plugins = self.build.get("plugin_config") or {}
        why = "In-flight batching needs the attention plugin, packed inputs and a paged KV cache."
        if "gpt_attention_plugin" in plugins and plugins["gpt_attention_plugin"] is None:
            yield Advice("gpt_attention_plugin null", "There is no in-flight batching.", why, "Build with auto.")
        if plugins.get("remove_input_padding") is False:
            yield Advice("remove_input_padding false", "There is no in-flight batching.", why, "Build with enable.")
        if str(self.build.get("kv_cache_type", "PAGED")).upper() != "PAGED":
            kind = f"kv_cache_type {self.build['kv_cache_type']}"
            yield Advice(kind, "There is no in-flight batching.", why, "Build with --kv_cache_type paged.")

    def _server(self, release: str, gpus: int) -> Iterator[Advice]:
        if gpus < self.world_size:
            yield Advice(
                f"world_size {self.world_size}", f"The server has {gpus} of the GPUs that it was built for.",
                "The number is fixed when the checkpoint is converted.",
                "Take that many GPUs, or convert and build anew.",
            )  # fmt: skip
        if not release:
            return
        known = compatibility.releases().get(release)
        if known is None or known.tensorrt_llm is None or not known.builds_engines:
            yield Advice(
                release, "No image of this release is known to serve engines.",
                "The engine path ends with TensorRT-LLM 1.2.1.", f"Take the release with TensorRT-LLM {self.version}.",
            )  # fmt: skip
        elif (other := known.tensorrt_llm).version != self.version:
            all_known = compatibility.releases().values()
            fitting = [r.tag for r in all_known if r.tensorrt_llm and r.tensorrt_llm.version == self.version]
            yield Advice(
                f"version {self.version}",
                f"Release {release} has TensorRT-LLM {other.version} with TensorRT {other.tensorrt}.",
                "An engine runs with the very TensorRT that built it, and another refuses to load it.",
                f"Serve it with {' or '.join(fitting)}." if fitting else f"Build it anew in the image of {release}.",
            )  # fmt: skip
