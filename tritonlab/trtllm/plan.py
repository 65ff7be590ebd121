"""A build of an engine, planned: the options of `trtllm-build`, what each costs, and what contradicts what."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonlab.errors import CommandError
from tritonlab.servers.command import Advice, AdviceList
from tritonlab.trtllm import command, precision

if TYPE_CHECKING:
    import pandas as pd

Value = str | int | bool

FP8 = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_BLOCK_SCALES")
FUSING = ("LlamaForCausalLM", "MistralForCausalLM", "Gemma2ForCausalLM", "MedusaForCausalLM")

MOST_DIGITS = 10
MOST_TOKENS = 16384
"""max_num_tokens above which trtllm-build warns (0.20, models' _common.py)."""


class Flag(NamedTuple):
    """An entry of `build_flags.toml`; that file says what the fields mean."""

    name: str
    kind: str
    default: str
    does: str
    costs: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildPlan(command.Plan):
    """A `trtllm-build` command of TensorRT-LLM 0.20.

    Attributes:
        checkpoint: the folder of the checkpoint.
        output: the folder for the engine.
        options: the other options, by name, without the dashes.
    """

    checkpoint: str
    output: str
    options: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what `trtllm-build` does not know.

        Raises:
            CommandError: an option is unknown, was removed, or has a value that it cannot have.
        """
        for name, value in self.options.items():
            _check(name, value)

    def words(self) -> list[str]:
        """The command, word for word."""
        words = ["trtllm-build", "--checkpoint_dir", self.checkpoint, "--output_dir", self.output]
        return words + [word for name, value in self.options.items() for word in _words(name, value)]

    def explain(self) -> pd.DataFrame:
        """Every option that is given: what it does, what to mind, and what would hold without it."""
        import pandas as pd

        given: dict[str, Value] = {"checkpoint_dir": self.checkpoint, "output_dir": self.output, **self.options}
        rows = [(" ".join(_words(name, value)), *_told(flags()[name])) for name, value in given.items()]
        return pd.DataFrame(rows, columns=["option", "what it does", "what to mind", "default"])

    def check(
        self, checkpoint: Mapping[str, Any] | None = None, capability: tuple[int, int] | None = None
    ) -> AdviceList:
        """What contradicts itself, the checkpoint or the GPU; empty when nothing does.

        Args:
            checkpoint: the content of the checkpoint's config.json.
            capability: the GPU's compute capability, such as (8, 9).
        """
        given = checkpoint or {}
        return AdviceList([*self._alone(), *self._with_checkpoint(given), *precision.on_gpu(given, capability)])

    def value(self, name: str) -> str:
        """What holds of an option, given or by default; "" where trtllm-build works it out."""
        return _written(self.options[name]) if name in self.options else flags()[name].default

    def _alone(self) -> Iterator[Advice]:
        if "opt_num_tokens" in self.options and self.value("multiple_profiles") == "enable":
            yield Advice(
                "--opt_num_tokens", "It contradicts --multiple_profiles enable.",
                "With several profiles each has an optimum of its own, and trtllm-build ends with an error.",
                "Leave one of them out.",
            )  # fmt: skip
        if self.options.get("weight_streaming") and self.value("gemm_plugin") != "disable":
            yield Advice(
                "--weight_streaming", f"It does not go with --gemm_plugin {self.value('gemm_plugin')}.",
                "The plugin wants its weights on the GPU.", "--gemm_plugin disable",
            )  # fmt: skip
        yield from self._in_flight()
        is_packed = self.value("remove_input_padding") == self.value("context_fmha") == "enable"
        if "max_input_len" in self.options and is_packed:
            yield Advice(
                "--max_input_len", "It changes nothing.",
                "With packed inputs and the fused kernel max_seq_len and max_num_tokens bound a prompt.",
                "Leave it out, and set max_seq_len; max_num_tokens for prompts beyond its default.",
            )  # fmt: skip
        if "user_buffer" in self.options and self.value("reduce_fusion") != "enable":
            yield Advice(
                "--user_buffer", "It needs --reduce_fusion enable.", "The buffer is that of the fused exchange.",
                "--reduce_fusion enable, or leave both out.",
            )  # fmt: skip
        yield from self._lengths()

    def _in_flight(self) -> Iterator[Advice]:
        for name, wanted in (
            ("gpt_attention_plugin", "--gpt_attention_plugin auto"),
            ("remove_input_padding", "--remove_input_padding enable"),
            ("kv_cache_type", "--kv_cache_type paged"),
            ("paged_kv_cache", "--kv_cache_type paged"),
        ):
            if self.value(name) in {"disable", "continuous", "disabled"}:
                yield Advice(
                    f"--{name} {self.value(name)}", "Triton cannot serve this engine with in-flight batching.",
                    "That needs the attention plugin, packed inputs and a paged KV cache.", wanted,
                )  # fmt: skip
        if self.value("paged_kv_cache") == "enable":
            yield Advice(
                "--paged_kv_cache enable", "It is deprecated.",
                "trtllm-build takes it, and warns: use --kv_cache_type=paged/disabled instead.",
                "--kv_cache_type paged, or leave both out: paged is the default.",
            )  # fmt: skip

    def _lengths(self) -> Iterator[Advice]:
        tokens, batch, length = (self.value(name) for name in ("max_num_tokens", "max_batch_size", "max_seq_len"))
        if length and int(tokens) > int(length) * int(batch):
            yield Advice(
                f"--max_num_tokens {tokens}", f"It is lowered to {int(length) * int(batch)}.",
                "More tokens than max_seq_len times max_batch_size never come together.", "Leave it out, or lower it.",
            )  # fmt: skip
        if int(tokens) > MOST_TOKENS:
            yield Advice(
                f"--max_num_tokens {tokens}", f"trtllm-build warns above {MOST_TOKENS}.",
                "It expects no more speed, and the activations grow with it.", f"--max_num_tokens {MOST_TOKENS}",
            )  # fmt: skip
        if int(tokens) < int(batch):
            yield Advice(
                f"--max_num_tokens {tokens}", f"It is less than --max_batch_size {batch}.",
                "Each request computes a token a step, so a full batch does not fit into one.",
                "Raise it, or lower max_batch_size.",
            )  # fmt: skip

    def _with_checkpoint(self, checkpoint: Mapping[str, Any]) -> Iterator[Advice]:
        longest, length = checkpoint.get("max_position_embeddings"), self.value("max_seq_len")
        if longest and length and int(length) > int(longest) and not checkpoint.get("rotary_scaling"):
            yield Advice(
                f"--max_seq_len {length}", f"The model was made for {longest} tokens.",
                "What lies beyond has positions that it never saw.", f"--max_seq_len {longest}",
            )  # fmt: skip
        if not checkpoint:
            return
        yield from self._plugin_types(str(checkpoint.get("dtype") or ""))
        is_fp8 = precision.algorithm(checkpoint) in FP8
        gemm = self.value("gemm_plugin")
        if is_fp8 and gemm not in {"disable", "fp8"}:
            yield Advice(
                f"--gemm_plugin {gemm}", "The checkpoint is FP8, and NVIDIA recommends the plugin for FP16 and BF16.",
                "Its guide to performance has it off with FP8; fp8 is there for a few requests at once.",
                "--gemm_plugin disable, which is the default.",
            )  # fmt: skip
        if self.options.get("use_fp8_context_fmha") in ("enable", True) and not is_fp8:
            yield Advice(
                "--use_fp8_context_fmha", "It is switched off.", "The checkpoint is not of FP8.", "Leave it out."
            )
        if self.value("user_buffer") == "enable" and not is_fp8:
            yield Advice("--user_buffer", "It needs an FP8 checkpoint.", "This one is not.", "Leave it out.")
        parallel = int(checkpoint.get("mapping", {}).get("tp_size", 1))
        fuses = checkpoint.get("architecture") in FUSING and parallel > 1
        if self.value("reduce_fusion") == "enable" and not fuses:
            yield Advice(
                "--reduce_fusion", "It is switched off.",
                f"It fuses an exchange between GPUs, in Llama-like models; this is {checkpoint.get('architecture')} "
                f"on {parallel}.",
                "Leave it out.",
            )  # fmt: skip

    def _plugin_types(self, dtype: str) -> Iterator[Advice]:
        for name in ("gpt_attention_plugin", "gemm_plugin"):
            if self.value(name) in precision.DTYPES and dtype and self.value(name) != dtype:
                yield Advice(
                    f"--{name} {self.value(name)}", f"The checkpoint is {dtype}.",
                    "A plugin takes the types that it was made for: the build ends with 'could not find any supported "
                    "formats consistent with input/output data types'.",
                    f"--{name} auto",
                )  # fmt: skip


def _check(name: str, value: Value) -> None:
    known = flags()
    if name in _old("gone"):
        hint = _old("instead").get(name, "Leave it out.")
        raise CommandError(f"trtllm-build 0.20 has no --{name}: {_old('gone')[name]}.", hint)
    if name in _old("alias"):
        raise CommandError(
            f"--{name} is another name of --{_old('alias')[name]}.", f"Write --{_old('alias')[name]}, its usual name."
        )
    if name not in known or name in {"checkpoint_dir", "output_dir"}:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else "See trtllm-build --help."
        raise CommandError(f"trtllm-build has no option {name!r} here.", hint)
    flag, text = known[name], _written(value)
    if flag.kind == "number" and (isinstance(value, bool) or not text.isdecimal() or len(text) > MOST_DIGITS):
        raise CommandError(f"--{name} {value!r} is no number.", "Write a whole number, e.g. 64.")
    if flag.kind == "switch" and not isinstance(value, bool):
        raise CommandError(f"--{name} takes no value.", f"Write {name}=True.")
    allowed = flag.values or (("enable", "disable") if flag.kind == "enable" else ())
    if allowed and text not in allowed:
        raise CommandError(f"--{name} cannot be {value!r}.", f"It can be {', '.join(allowed)}.")


def _words(name: str, value: Value) -> list[str]:
    if flags()[name].kind == "switch":
        return [f"--{name}"] if value else []
    return [f"--{name}", _written(value)]


def _told(flag: Flag) -> tuple[str, str, str]:
    return flag.does, flag.costs, flag.default


def _written(value: Value) -> str:
    return ("enable" if value else "disable") if isinstance(value, bool) else str(value)


@cache
def flags() -> dict[str, Flag]:
    """The options of trtllm-build 0.20, by name."""
    return {entry["name"]: Flag(**{**entry, "values": tuple(entry.get("values", ()))}) for entry in _table()["flag"]}


def _old(table: str) -> dict[str, str]:
    old: dict[str, str] = _table()[table]
    return old


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("build_flags.toml").read_text(encoding="utf-8"))
