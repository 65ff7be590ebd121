"""A Hugging Face model -> a checkpoint of TensorRT-LLM, planned: the command, and the config.json that it will write.

    plan = ConvertPlan("models/Llama-3.1-8B", "checkpoints/llama", shapes()["meta-llama/Llama-3.1-8B"], tp=2)
    print(plan.render())
    plan.check(capability=(8, 9))
    BuildPlan("checkpoints/llama", "engines/llama").check(plan.checkpoint(), (8, 9))

Two scripts write checkpoints: each family's convert_checkpoint.py, and quantize.py, which calibrates with ModelOpt.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonlab.errors import CommandError
from tritonlab.servers.command import Advice, AdviceList, Option
from tritonlab.trtllm import command, parallel, precision

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma",
    "Qwen2ForCausalLM": "qwen",
    "Qwen3ForCausalLM": "qwen",
}
"""architectures of config.json -> the folder of its script (TensorRT-LLM's legacy documentation, support matrix)."""
EXAMPLES = "/app/examples"
"""Where NVIDIA's container 25.06 has the scripts: models/core/FAMILY since 0.19, FAMILY alone before."""
KV_CACHES = {"none": "", "int8": "INT8", "fp8": "FP8"}
"""kv_cache of a plan -> `kv_cache_quant_algo`."""
AWQ_GROUP = 128
"""Weights that share a factor: default of quantize.py's --awq_block_size."""
COLUMNS = [
    "name", "quant_algo", "weight bits", "activation bits", "needs", "not on", "command", "what it does",
    "what it costs",
]  # fmt: skip
NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
    "max_position_embeddings",
)


class Quantization(NamedTuple):
    """An entry of `convert_flags.toml`; that file says what the fields mean."""

    name: str
    quant_algo: str
    weights: int
    activations: int
    script: str
    options: tuple[Option, ...]
    does: str
    costs: str
    families: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConvertPlan(command.Plan):
    """A command of TensorRT-LLM 0.20 that turns a Hugging Face model into a checkpoint.

    The options are those of the scripts near 0.20; the scripts of 0.20.0 itself were not read.

    Attributes:
        model: the folder of the Hugging Face model.
        output: the folder for the checkpoint.
        config: the content of the model's config.json; `shapes` has some.
        dtype: "auto", "float16", "bfloat16" or "float32": of what is not quantized.
        tp, pp: over how many GPUs each layer, and the layers, are split.
        quantization: a name of the table `quantizations`.
        kv_cache: "none", "int8" or "fp8".
    """

    model: str
    output: str
    config: Mapping[str, Any]
    dtype: str = "auto"
    tp: int = 1
    pp: int = 1
    quantization: str = "none"
    kv_cache: str = "none"

    def __post_init__(self) -> None:
        """Refuse what the scripts do not know.

        Raises:
            CommandError: a name or a number is none, config.json lacks a field, or the family's script lacks an option.
        """
        self.checkpoint()
        if self.script == "convert_checkpoint.py":
            self._refuse_missing_options()

    @property
    def family(self) -> str:
        """The family whose script converts the model: "llama", "gemma" or "qwen"."""
        return FAMILIES[_architecture(self.config)]

    @property
    def script(self) -> str:
        """The script that does the quantization: "convert_checkpoint.py" or "quantize.py"."""
        return _quantization(self.quantization).script

    @property
    def path(self) -> str:
        """Where the script lies in NVIDIA's container, of a recorded conversion in release 25.06."""
        if self.script == "quantize.py":
            return f"{EXAMPLES}/quantization/quantize.py"
        return f"{EXAMPLES}/models/core/{self.family}/convert_checkpoint.py"

    @property
    def world_size(self) -> int:
        """How many GPUs the checkpoint is for, and how many rankN.safetensors it has."""
        return self.tp * self.pp

    def words(self) -> list[str]:
        """The command, word for word."""
        return ["python3", self.path, *(word for option in self._options() for word in _words(option))]

    def explain(self) -> pd.DataFrame:
        """Every option that is given: what it does, what to mind, and what would hold without it."""
        import pandas as pd

        rows = [(" ".join(_words(option)), *_flags()[option.name]) for option in self._options()]
        return pd.DataFrame(rows, columns=["option", "what it does", "what to mind", "default"])

    def checkpoint(self) -> dict[str, Any]:
        """The config.json that the checkpoint will have; see `checkpoint_config`."""
        return checkpoint_config(self.config, self.dtype, self.tp, self.pp, self.quantization, self.kv_cache)

    def check(self, capability: tuple[int, int] | None = None) -> AdviceList:
        """What the model or the GPU contradicts, and what costs more than it seems; empty when nothing does.

        Args:
            capability: the compute capability of the GPU that is to serve it, such as (8, 9).
        """
        config = self.checkpoint()
        found = [*parallel.check(config), *self._copies(config), *self._quantized(config)]
        return AdviceList([*found, *precision.on_gpu(config, capability)])

    def _options(self) -> list[Option]:
        quantized = [*_quantization(self.quantization).options, *self._kv_options()]
        split = [Option("tp_size", str(self.tp)), Option("pp_size", str(self.pp))]
        if self.script == "convert_checkpoint.py" and self.family == "gemma":
            folders = [
                Option("ckpt-type", "hf"),
                Option("model-dir", self.model),
                Option("output-model-dir", self.output),
            ]
            split = [Option("world-size", str(self.tp))]
        else:
            folders = [Option("model_dir", self.model), Option("output_dir", self.output)]
        return [*folders, Option("dtype", self.dtype), *quantized, *(option for option in split if option.value != "1")]

    def _kv_options(self) -> list[Option]:
        if self.kv_cache == "none":
            return []
        if self.script == "quantize.py":
            return [Option("kv_cache_dtype", self.kv_cache)]
        return [Option(f"{self.kv_cache}_kv_cache")]

    def _refuse_missing_options(self) -> None:
        families = _quantization(self.quantization).families
        if families and self.family not in families:
            raise CommandError(
                f"convert_checkpoint.py of {self.family} does not do {self.quantization!r}: that of "
                f"{' and '.join(families)} does.",
                f"Take one of {', '.join(_doing(self.family))}.",
            )
        if self.family == "gemma" and self.pp > 1:
            raise CommandError(
                f"convert_checkpoint.py of gemma has no pipeline parallelism: pp is {self.pp}.",
                f"Leave pp out, and split by tp={self.world_size}.",
            )
        if self.family == "qwen" and self.kv_cache == "fp8":
            raise CommandError(
                "convert_checkpoint.py of qwen has no --fp8_kv_cache.",
                "Take kv_cache='int8', or quantization='fp8', which quantize.py does.",
            )

    def _copies(self, config: Mapping[str, Any]) -> Iterator[Advice]:
        kv, layers = parallel.kv_heads(config), config["num_hidden_layers"]
        if self.tp > kv and self.tp % kv == 0:
            yield Advice(
                f"tp_size {self.tp}", f"Each KV head is copied to {self.tp // kv} GPUs: there are {kv} for {self.tp}.",
                "Fewer KV heads than GPUs cannot be split, so the KV cache of a GPU no longer shrinks.",
                f"tp={kv}, unless the weights need more GPUs.",
            )  # fmt: skip
        if self.pp < layers and layers % self.pp:
            yield Advice(
                f"pp_size {self.pp}", f"{layers} layers do not divide evenly over {self.pp} stages.",
                "The first stages get a layer more, and the others wait for them.",
                f"Take a pp_size that divides {layers}.",
            )  # fmt: skip

    def _quantized(self, config: Mapping[str, Any]) -> Iterator[Advice]:
        wanted = _quantization(self.quantization)
        if wanted.listed and config["architecture"] not in wanted.listed:
            yield Advice(
                f"quantization {wanted.name}", f"It is not known to work with {config['architecture']}.",
                f"The legacy precision page lists it for {', '.join(wanted.listed)} and few others.",
                "quantization='fp8'",
            )  # fmt: skip
        if wanted.name == "smoothquant" and self.family == "gemma" and config["dtype"] != "float16":
            yield Advice(
                f"dtype {config['dtype']}", "SmoothQuant of Gemma needs float16.",
                "The README of its example says that no other data type is supported with it.", "dtype='float16'",
            )  # fmt: skip
        if wanted.name.endswith("_awq") and config["intermediate_size"] % (AWQ_GROUP * self.tp):
            yield Advice(
                f"tp_size {self.tp}",
                f"{config['intermediate_size']} of intermediate_size cannot be split into groups of {AWQ_GROUP} on "
                f"{self.tp} GPUs.",
                "AWQ scales weights by groups, and a group must lie on one GPU.",
                "Take another tp, or quantization='fp8'.",
            )  # fmt: skip


def looked_over(
    config: Mapping[str, Any], capability: tuple[int, int] | None = None, **choices: Any
) -> tuple[dict[str, Any], AdviceList]:
    """The config.json of a checkpoint that somebody has in mind, and what speaks against it.

    What no script converts is advice too, and then the content is empty.

    Args:
        config: the content of the model's config.json.
        capability: the compute capability of the GPU that is to serve it.
        choices: dtype, tp, pp, quantization and kv_cache of a `ConvertPlan`.
    """
    try:
        plan = ConvertPlan("model", "checkpoint", config, **choices)
    except CommandError as error:
        return {}, AdviceList([Advice("conversion", error.what, "An engine is built from a checkpoint.", error.fix)])
    return plan.checkpoint(), plan.check(capability)


def checkpoint_config(
    config: Mapping[str, Any],
    dtype: str = "auto",
    tp: int = 1,
    pp: int = 1,
    quantization: str = "none",
    kv_cache: str = "none",
) -> dict[str, Any]:
    """The config.json of the checkpoint that a Hugging Face model would become, before anything is converted.

    The fields are those that TensorRT-LLM's legacy documentation names (architecture/checkpoint), and what its
    LLaMAConfig, GemmaConfig and QWenConfig put into them near 0.20. A model's own fields beyond, such as the
    softcapping of Gemma 2, are left out; quantize.py writes some others too.

    Args:
        config: the content of the model's config.json.
        dtype, tp, pp, quantization, kv_cache: as in a `ConvertPlan`.

    Raises:
        CommandError: a name or a number is none, or config.json lacks a field.
    """
    _check_number("tp", tp)
    _check_number("pp", pp)
    architecture, wanted = _architecture(config), _quantization(quantization)
    _known("KV cache", kv_cache, KV_CACHES)
    for name in NEEDED:
        if not parallel.number(config, name):
            raise CommandError(
                f"The model's config.json has no {name}, or one that is no number above 0: {config.get(name)!r}.",
                "Give the whole config.json of the Hugging Face model.",
            )
    return {
        "architecture": architecture,
        "dtype": _dtype(dtype, config),
        "logits_dtype": "float32",
        **{name: config[name] for name in NEEDED},
        **_attention(config),
        "hidden_act": config.get("hidden_act") or config.get("hidden_activation") or "silu",
        "norm_epsilon": config.get("rms_norm_eps", 1e-5),
        **_embeddings(config, tp),
        "mapping": {
            "world_size": tp * pp,
            "gpus_per_node": 8,
            "cp_size": 1,
            "tp_size": tp,
            "pp_size": pp,
            "moe_tp_size": tp,
            "moe_ep_size": 1,
        },
        "quantization": _quantization_fields(wanted, kv_cache),
    }


def quantizations() -> pd.DataFrame:
    """The quantizations by name: quant_algo, bits, what GPU each needs, and which script does it.

    GPUs: TensorRT-LLM's legacy support matrix and precision page. Scripts: see `convert_flags.toml`. GPTQ and QServe
    are not here: they begin with a model that others have quantized.
    """
    import pandas as pd

    return pd.DataFrame([_row(entry) for entry in _quantizations().values()], columns=COLUMNS)


def shapes() -> dict[str, dict[str, Any]]:
    """Hugging Face name -> what matters here of its config.json, for four models."""
    found: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("shapes.json").read_text(encoding="utf-8"))
    return found


def _row(entry: Quantization) -> tuple[str, str, int, int, str, str, str, str, str]:
    first, after = precision.WITHOUT_INTEGERS
    refused = f"{precision.written(first)} to below {precision.written(after)}"
    asked = " ".join(word for option in entry.options for word in _words(option))
    return (
        entry.name,
        entry.quant_algo or "none",
        entry.weights,
        entry.activations,
        _needs(entry.quant_algo),
        refused if precision.is_refused(entry.quant_algo, first) else "",
        f"{entry.script} {asked}".rstrip(),
        entry.does,
        entry.costs,
    )


def _needs(quant_algo: str) -> str:
    if quant_algo:
        return precision.generation(precision.least_capability(quant_algo))
    return f"bfloat16: {precision.generation(precision.BFLOAT16_CAPABILITY)}"


def _attention(config: Mapping[str, Any]) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    return {
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "head_size": config.get("head_dim") or config["hidden_size"] // heads,
        # Qwen2 has the bias without a field for it.
        "attn_bias": bool(config.get("attention_bias", _architecture(config) == "Qwen2ForCausalLM")),
    }


def _embeddings(config: Mapping[str, Any], tp: int) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling")
    is_gemma = FAMILIES[_architecture(config)] == "gemma"
    fields = {
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": config.get("rope_theta") or rope.get("rope_theta", 10_000.0),
        "rotary_scaling": scaling or (rope if rope.get("rope_type", "default") != "default" else None),
        "use_parallel_embedding": is_gemma and tp > 1,
        "embedding_sharding_dim": 0,
    }
    return fields if is_gemma else {**fields, "tie_word_embeddings": bool(config.get("tie_word_embeddings", False))}


def _quantization_fields(wanted: Quantization, kv_cache: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "quant_algo": wanted.quant_algo or None,
        "kv_cache_quant_algo": KV_CACHES[kv_cache] or None,
    }
    if wanted.name.endswith("_awq"):
        return {**fields, "group_size": AWQ_GROUP, "has_zero_point": False, "pre_quant_scale": True}
    if wanted.name == "smoothquant":
        return {**fields, "smoothquant_val": 0.5}
    if wanted.name == "fp8_rowwise":
        return {**fields, "clamp_val": [-1200.0, 1200.0]}
    return fields


def _dtype(dtype: str, config: Mapping[str, Any]) -> str:
    if dtype != "auto":
        return _known("dtype", dtype, [*precision.DTYPES, "auto"])
    own = str(config.get("torch_dtype") or config.get("dtype") or "float16").removeprefix("torch.")
    _known("dtype of a model", own, precision.DTYPES)
    return "float16" if own == "float32" else own


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures") if isinstance(config, Mapping) else None
    if not isinstance(named, list) or not named:
        raise CommandError(
            "The config names no architecture: it has no list 'architectures'.",
            "Give the content of the config.json in the Hugging Face model's folder.",
        )
    return _known("architecture", str(named[0]), FAMILIES)


def _quantization(name: str) -> Quantization:
    return _quantizations()[_known("quantization", name, _quantizations())]


def _doing(family: str) -> list[str]:
    return [name for name, entry in _quantizations().items() if not entry.families or family in entry.families]


def _known(what: str, name: str, names: Iterable[str]) -> str:
    known = list(names)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, 1)
    raise CommandError(
        f"There is no {what} {name!r} here.", f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
    )


def _check_number(name: str, value: int) -> None:
    if not parallel.number({name: value}, name):
        raise CommandError(f"{name} {value!r} is no number of GPUs.", "Write a whole number from 1 up.")


def _words(option: Option) -> list[str]:
    return [f"--{option.name}"] if option.value is None else [f"--{option.name}", option.value]


@cache
def _flags() -> dict[str, tuple[str, str, str]]:
    return {entry["name"]: (entry["does"], entry["costs"], entry["default"]) for entry in _table()["flag"]}


@cache
def _quantizations() -> dict[str, Quantization]:
    return {entry["name"]: _entry(entry) for entry in _table()["quantization"]}


def _entry(entry: Mapping[str, Any]) -> Quantization:
    lists = {name: tuple(entry.get(name, ())) for name in ("families", "listed")}
    return Quantization(**{**entry, **lists, "options": tuple(Option(*option) for option in entry["options"])})


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("convert_flags.toml").read_text(encoding="utf-8"))
