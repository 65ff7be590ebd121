"""A checkpoint folder: what convert_checkpoint.py or quantize.py wrote, and what would fail when it is built."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonlab.errors import TritonlabError
from tritonlab.servers.command import Advice, AdviceList
from tritonlab.trtllm import parallel, precision
from tritonlab.trtllm.convert import FAMILIES
from tritonlab.vllm import ModelShape

if TYPE_CHECKING:
    import pandas as pd

RANK = re.compile(r"rank(\d+)\.safetensors")
LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000
"""Bytes of a header that the safetensors library reads at most (its README)."""
MANDATORY = ("architecture", "dtype", "hidden_size", "num_hidden_layers", "num_attention_heads")
SIZES = MANDATORY[2:]
COUNTS = ("world_size", "tp_size", "pp_size", "cp_size")


class RankFile(NamedTuple):
    """A `rankN.safetensors`, of which only the header is read.

    Attributes:
        size: bytes on disk.
        promised: bytes that its header says it has; 0 if it has no header that can be read.
        tensors: how many tensors the header names.
    """

    size: int
    promised: int = 0
    tensors: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the file is as long as its header says."""
        return self.size == self.promised


@dataclass(frozen=True)
class Checkpoint:
    """A folder with `config.json` and a `rankN.safetensors` for each GPU.

    Attributes:
        path: the folder.
        config: the content of config.json.
        ranks: rank -> its file.
    """

    path: Path
    config: Mapping[str, Any]
    ranks: Mapping[int, RankFile]

    @classmethod
    def read(cls, path: str | Path) -> Checkpoint:
        """Read a folder: config.json, and the headers of the weight files.

        Raises:
            TritonlabError: there is no such folder, or a file of it cannot be read; says where.
        """
        folder = Path(path)
        config = _config(folder / "config.json")
        try:
            found = {int(name[1]): _rank(file) for file in folder.iterdir() if (name := RANK.fullmatch(file.name))}
        except OSError as error:
            raise TritonlabError(
                f"A weight file in {folder} cannot be read: {error}.", "Copy the folder again, or convert it anew."
            ) from None
        return cls(folder, config, dict(sorted(found.items())))

    @property
    def architecture(self) -> str:
        """The model class, e.g. "LlamaForCausalLM"; "" if config.json has none."""
        return str(self.config.get("architecture") or "")

    @property
    def dtype(self) -> str:
        """The data type of what is not quantized; "" if config.json has none."""
        return str(self.config.get("dtype") or "")

    @property
    def mapping(self) -> Mapping[str, Any]:
        """How it is split over GPUs: world_size, tp_size, pp_size and more."""
        return parallel.mapping(self.config)

    @property
    def quantization(self) -> str:
        """`quant_algo`; "" for none."""
        return precision.algorithm(self.config)

    @property
    def kv_cache(self) -> str:
        """`kv_cache_quant_algo`; "" for none."""
        return precision.algorithm(self.config, "kv_cache_quant_algo")

    @property
    def world_size(self) -> int:
        """How many GPUs it was converted for."""
        return parallel.size(self.config, "world_size")

    @property
    def bytes(self) -> int:
        """Bytes of all weight files."""
        return sum(rank.size for rank in self.ranks.values())

    def facts(self) -> pd.DataFrame:
        """What it holds, and what it is for."""
        import pandas as pd

        rows = [
            ("architecture", self.architecture),
            ("data type", self.dtype),
            ("quantization", self.quantization or "none"),
            ("KV cache", self.kv_cache or "unquantized"),
            ("GPUs", self.world_size),
            ("tensor parallel", parallel.size(self.config, "tp_size")),
            ("pipeline parallel", parallel.size(self.config, "pp_size")),
            ("layers", self.config.get("num_hidden_layers", "")),
            ("tokens that the model was made for", self.config.get("max_position_embeddings") or ""),
            ("tensors", sum(rank.tensors for rank in self.ranks.values())),
            ("bytes on disk", self.bytes),
        ]
        return pd.DataFrame(rows, columns=["what", "value"])

    def check(self, capability: tuple[int, int] | None = None) -> AdviceList:
        """What is missing or contradicts itself; empty when nothing is seen.

        The rules are those of TensorRT-LLM's legacy documentation (architecture/checkpoint) and of its Mapping and
        PretrainedConfig near 0.20.

        Args:
            capability: the compute capability of the GPU that is to build and serve it, such as (8, 9).
        """
        if other := AdviceList(self._of_another_kind()):
            return other
        found = [*self._fields(), *self._heads(), *self._quantization(), *self._mapping(), *parallel.check(self.config)]
        return AdviceList([*found, *self._files(), *self._too_small(), *precision.on_gpu(self.config, capability)])

    def _of_another_kind(self) -> Iterator[Advice]:
        if "pretrained_config" in self.config:
            yield Advice(
                "config.json", "It is that of an engine.", "It has a pretrained_config, as trtllm-build writes it.",
                "Read it with EngineFolder, or name the folder that --output_dir of the conversion named.",
            )  # fmt: skip
        # quantize.py writes a model_type too, so that alone says nothing.
        elif "architecture" not in self.config and {"architectures", "model_type"} & set(self.config):
            yield Advice(
                "config.json", "It is that of a Hugging Face model.",
                "It has architectures or a model_type, and not the architecture of a checkpoint.",
                "Convert the model first: ConvertPlan writes the command.",
            )  # fmt: skip

    def _fields(self) -> Iterator[Advice]:
        for name in MANDATORY:
            yield from self._mandatory(name)
        for name in ("mapping", "quantization"):
            if not isinstance(self.config.get(name) or {}, Mapping):
                yield Advice(name, "It is no table.", "Its settings stand in fields of its own.", "Convert anew.")
        if self.dtype and self.dtype not in precision.DTYPES:
            yield Advice(
                f"dtype {self.dtype}", "There is no such data type.", f"There are {', '.join(precision.DTYPES)}.",
                "Convert the model anew, with one of them as --dtype.",
            )  # fmt: skip

    def _mandatory(self, name: str) -> Iterator[Advice]:
        value, fix = self.config.get(name), "Convert the model anew."
        if value is None:
            yield Advice(name, "It is missing.", "trtllm-build cannot do without it.", fix)
        elif name in SIZES and not parallel.number(self.config, name):
            yield Advice(name, f"{value!r} is no number above 0.", "trtllm-build sizes the model by it.", fix)
        elif name not in SIZES and not isinstance(value, str):
            yield Advice(name, f"{value!r} is no name.", "trtllm-build chooses by this name.", fix)

    def _heads(self) -> Iterator[Advice]:
        hidden, heads = parallel.number(self.config, "hidden_size"), parallel.number(self.config, "num_attention_heads")
        if hidden and heads and hidden % heads and not parallel.number(self.config, "head_size"):
            yield Advice(
                f"hidden_size {hidden}", f"It is no multiple of {heads} attention heads, and there is no head_size.",
                "Without head_size a head has hidden_size / num_attention_heads elements.", "Add head_size.",
            )  # fmt: skip
        kv = parallel.kv_heads(self.config)
        if heads and kv and heads % kv:
            what = f"There are more than attention heads: {heads}." if kv > heads else f"They do not divide {heads}."
            yield Advice(
                f"num_key_value_heads {kv}", what, "Each KV head serves the same number of attention heads.",
                "Compare with the model's own config.json, and convert anew.",
            )  # fmt: skip

    def _quantization(self) -> Iterator[Advice]:
        yield from _unknown("quant_algo", self.quantization, precision.ALGORITHMS)
        yield from _unknown("kv_cache_quant_algo", self.kv_cache, precision.KV_ALGORITHMS)

    def _mapping(self) -> Iterator[Advice]:
        wrong = [name for name in COUNTS if name in self.mapping and not parallel.number(self.mapping, name)]
        for name in wrong:
            yield Advice(
                name, f"{self.mapping[name]!r} is no number of GPUs.", "The mapping counts GPUs from 1 up.",
                "Convert the model anew.",
            )  # fmt: skip
        if not wrong:
            yield from self._product()

    def _product(self) -> Iterator[Advice]:
        tensor, pipeline, context = (parallel.size(self.config, f"{name}_size") for name in ("tp", "pp", "cp"))
        if self.world_size != tensor * pipeline * context:
            yield Advice(
                f"world_size {self.world_size}",
                f"It is not tp_size x pp_size x cp_size: {tensor} x {pipeline} x {context}.",
                "TensorRT-LLM refuses a mapping that does not add up.", "Convert the model anew.",
            )  # fmt: skip
        experts = [parallel.number(self.mapping, f"moe_{name}_size") for name in ("tp", "ep")]
        if all(experts) and math.prod(experts) != tensor:
            yield Advice(
                f"moe_tp_size {experts[0]}", f"Times moe_ep_size {experts[1]} it is not tp_size {tensor}.",
                "Experts are split over the GPUs of tensor parallelism.",
                "Convert anew with two that multiply to it, or leave both out.",
            )  # fmt: skip

    def _files(self) -> Iterator[Advice]:
        there = [rank for rank in self.ranks if rank < self.world_size]
        if missing := self.world_size - len(there):
            first = next(rank for rank in range(self.world_size) if rank not in self.ranks)
            yield Advice(
                f"rank{first}.safetensors", f"{missing} of {self.world_size} weight files are not there.",
                "config.json says for how many GPUs the model was converted, and each has its own file.",
                "Copy the whole folder, or convert anew.",
            )  # fmt: skip
        for rank, file in self.ranks.items():
            yield from self._file(rank, file)

    def _file(self, rank: int, file: RankFile) -> Iterator[Advice]:
        name = f"rank{rank}.safetensors"
        if rank >= self.world_size:
            yield Advice(
                name, f"No GPU loads this file: the checkpoint is for {self.world_size}.",
                "It is left from another conversion into the same folder.", "Convert into an empty folder.",
            )  # fmt: skip
        elif file.size == 0:
            yield Advice(name, "The file is empty.", "A copy or a conversion broke off.", "Copy or convert it again.")
        elif not file.promised:
            yield Advice(
                name, "It has no header of a safetensors file that can be read.",
                "The file is of another format, or broke off within its header.", "Copy or convert it again.",
            )  # fmt: skip
        elif not file.is_whole:
            yield Advice(
                name, f"It has {file.size} bytes, and its header says {file.promised}.",
                "A copy or a conversion broke off." if file.size < file.promised else "Something was added to it.",
                "Copy or convert it again.",
            )  # fmt: skip

    def _too_small(self) -> Iterator[Advice]:
        needed = self._matrix_bytes()
        is_complete = len(self.ranks) == self.world_size and not list(self._files())
        if is_complete and self.bytes < needed:
            yield Advice(
                "rank0.safetensors",
                f"The weight files have {self.bytes} bytes, and the layers' matrices alone take {needed}.",
                "config.json describes a larger model than the files hold, or weights of more bits.",
                "Convert the model anew, into an empty folder.",
            )  # fmt: skip

    def _matrix_bytes(self) -> int:
        """Bytes of the layers' matrices at the least; 0 for a model whose shape is not known here."""
        names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
        layers, hidden, heads, intermediate = (parallel.number(self.config, name) for name in names)
        if self.architecture not in FAMILIES or not all((layers, hidden, heads, intermediate)):
            return 0
        head_size = parallel.number(self.config, "head_size") or hidden // heads
        kv = parallel.kv_heads(self.config)
        shape = ModelShape(layers, hidden, heads, kv, head_size, intermediate, 0, tied_embeddings=True)
        return shape.matrices() * precision.weight_bits(self.quantization, self.dtype) // 8


def _unknown(field: str, value: str, names: tuple[str, ...]) -> Iterator[Advice]:
    if value and value not in names:
        near = difflib.get_close_matches(value, names, 1)
        yield Advice(
            f"{field} {value}", "TensorRT-LLM 0.20 knows no such quantization.",
            f"The nearest is {near[0]}." if near else f"There are {', '.join(names)}.",
            "Convert the model anew, with a script of the TensorRT-LLM that builds it.",
        )  # fmt: skip


def _config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TritonlabError(
            f"There is no {file}.", "Name the folder that --output_dir of the conversion named."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise TritonlabError(
            f"{file} cannot be read: {error}.", "Copy the folder again, or convert the model anew."
        ) from None
    if not isinstance(content, dict):
        raise TritonlabError(f"{file} is no table of fields.", "Copy the folder again, or convert the model anew.")
    return content


def _rank(file: Path) -> RankFile:
    """A file of the safetensors format: 8 bytes of the header's length, the header in JSON, the tensors."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if not 0 < length <= min(size - LENGTH_BYTES, HEADER_LIMIT):
            return RankFile(size)
        header = stream.read(length)
    try:
        ends = [tensor["data_offsets"][1] for name, tensor in json.loads(header).items() if name != "__metadata__"]
        return RankFile(size, LENGTH_BYTES + length + max(ends, default=0), len(ends))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return RankFile(size)
