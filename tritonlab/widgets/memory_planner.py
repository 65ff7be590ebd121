"""`MemoryPlanner`: model, GPU, precision and lengths -> how either backend splits the memory, and whether it fits."""

from __future__ import annotations

from typing import Any, NamedTuple

import ipywidgets as widgets

from tritonlab import gpus
from tritonlab.errors import TritonlabError
from tritonlab.memory import ACTIVATIONS, GIB, WEIGHT_BITS, Answer, Fit, fit_tensorrt_llm, fit_vllm
from tritonlab.servers.command import AdviceList
from tritonlab.trtllm import shapes
from tritonlab.trtllm.convert import looked_over
from tritonlab.vllm import ModelShape
from tritonlab.widgets import fields
from tritonlab.widgets.panel import Panel, plain_table, status, table, text

NAMES = {"vllm": "vLLM", "tensorrtllm": "TensorRT-LLM"}
PASTED = "another: paste its config.json"
UNLISTED = "another: say its memory"
METHODS = {"fp8": "fp8", "int8": "int8_wo", "int4": "int4_awq"}
"""Weights -> the name in `quantizations` of what makes them."""
LINES = "repeating-linear-gradient(45deg, transparent 0 5px, rgba(255, 255, 255, 0.5) 5px 8px)"
DOTS = "radial-gradient(rgba(255, 255, 255, 0.7) 22%, transparent 24%) 0 0 / 8px 8px"
PARTS = {
    "weights": ("W", "#3b82c4"),
    "activations": ("A", f"{LINES}, #8f6bb5"),
    "other": ("O", "#6b7785"),
    "KV cache": ("K", f"{DOTS}, #d9901c"),
    "CUDA graphs": ("G", f"{LINES}, #3f9464"),
    "left": ("L", "transparent"),
}
"""A part -> its letter and its filling: none of them is told by its colour alone."""
NARROW = 2.5
"""Per cent of the bar below which a part has no room for its letter."""


class Plan(NamedTuple):
    """What one backend would do."""

    fit: Fit
    answer: Answer
    advice: AdviceList


class MemoryPlanner(Panel):
    """Will it fit? The arithmetic is `tritonlab.memory`'s, which says where each formula comes from.

    Attributes:
        plans: the backends' plans, by the names "vllm" and "tensorrtllm"; empty while a field makes no sense.
    """

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self._gpus = {f"{gpu.name}, this machine's": gpu for gpu in gpus.here()}
        self._gpus |= {gpu.name: gpu for gpu in gpus.KNOWN}
        number = {"continuous_update": True}
        self.model = fields.field(widgets.Dropdown, "Model", "260px", options=[*shapes(), PASTED])
        self.config = fields.field(
            widgets.Textarea, "The model's config.json", "100%", code=True, rows=6, continuous_update=True
        )
        self.gpu = fields.field(
            widgets.Dropdown, "GPU", "200px", options=[*self._gpus, UNLISTED], value=gpus.KNOWN[1].name
        )
        self.gib = fields.field(widgets.FloatText, "GPU memory, GiB", "140px", value=16.0, **number)
        self.weights = fields.field(widgets.Dropdown, "Weights", "130px", options=list(WEIGHT_BITS), value="bfloat16")
        self.cache = fields.field(widgets.Dropdown, "KV cache", "130px", options=["bfloat16", "float16", "fp8"])
        self.tensor = fields.field(widgets.IntText, "Tensor parallel, GPUs", "170px", value=1, **number)
        self.pipeline = fields.field(widgets.IntText, "Pipeline parallel, GPUs", "170px", value=1, **number)
        self.prompt = fields.field(widgets.IntText, "Prompt, tokens", "120px", value=3072, **number)
        self.reply = fields.field(widgets.IntText, "Answer, tokens", "120px", value=1024, **number)
        self.requests = fields.field(widgets.IntText, "Requests at once", "130px", value=16, **number)
        self.share = fields.field(widgets.FloatText, "vLLM: gpu_memory_utilization", "210px", value=0.9, **number)
        self.fraction = fields.field(
            widgets.FloatText, "TensorRT-LLM: kv_cache_free_gpu_mem_fraction", "340px", value=0.9, **number
        )
        self.activations = fields.field(
            widgets.FloatText, "Activations, GiB, by a log", "190px", value=round(ACTIVATIONS / GIB, 2), **number
        )
        self._said = widgets.HTML()
        self._views = {name: widgets.HTML() for name in NAMES}
        controls = (
            *(self.model, self.config, self.gpu, self.gib, self.weights, self.cache, self.tensor, self.pipeline),
            *(self.prompt, self.reply, self.requests, self.share, self.fraction, self.activations),
        )
        for control in controls:
            control.observe(lambda _: self._update(), "value")
        super().__init__(
            fields.style(),
            fields.row(self.model, self.gpu, self.gib),
            self.config,
            fields.row(self.weights, self.cache, self.tensor, self.pipeline),
            fields.row(self.prompt, self.reply, self.requests),
            fields.row(self.share, self.fraction, self.activations),
            self._said,
            *self._views.values(),
        )
        self._update()

    def plain(self) -> str:
        try:
            plans = self._planned()
        except TritonlabError as error:
            return str(error)
        parts = [self._asked()]
        for name, plan in plans.items():
            parts.append(f"{NAMES[name]}: {plan.answer.text}")
            parts.append(plain_table(_rows(plan.fit), ("part", "GiB")))
            parts.append(_cache(plan.fit))
            if plan.advice:
                parts.append(str(plan.advice))
        return "\n\n".join(parts)

    def _planned(self) -> dict[str, Plan]:
        is_pasted = self.model.value == PASTED
        shape = ModelShape.parse(self.config.value) if is_pasted else ModelShape.of(shapes()[self.model.value])
        positions = 0 if is_pasted else shapes()[self.model.value]["max_position_embeddings"]
        for field, least, most in (
            (self.gib, 0.1, 4096), (self.activations, 0, 4096), (self.prompt, 1, 10**9), (self.reply, 1, 10**9),
            (self.requests, 1, 10**6), (self.tensor, 1, 1024), (self.pipeline, 1, 1024),
        ):  # fmt: skip
            if not least <= field.value <= most:
                raise TritonlabError(
                    f"{field.description}: {field.value} is none.", f"Give a number from {least} to {most:,}."
                )
        gpu = self._gpus.get(self.gpu.value)
        memory = gpu.memory if gpu else int(self.gib.value * GIB)
        given: dict[str, Any] = {
            "weights": self.weights.value,
            "kv_cache": self.cache.value,
            "max_positions": positions,
            "activations": int(self.activations.value * GIB),
            "tensor_parallel": self.tensor.value,
            "pipeline_parallel": self.pipeline.value,
        }
        fits = (
            fit_vllm(shape, memory, gpu_memory_utilization=self.share.value, **given),
            fit_tensorrt_llm(shape, memory, kv_cache_free_gpu_mem_fraction=self.fraction.value, **given),
        )
        length = self.prompt.value + self.reply.value
        advice = {"vllm": AdviceList(), "tensorrtllm": AdviceList() if is_pasted else self._converted()}
        return {fit.backend: Plan(fit, fit.answer(length, self.requests.value), advice[fit.backend]) for fit in fits}

    def _converted(self) -> AdviceList:
        """What a conversion for TensorRT-LLM says to the same choices, or that no script does it."""
        quantization, gpu = METHODS.get(self.weights.value, "none"), self._gpus.get(self.gpu.value)
        _, advice = looked_over(
            shapes()[self.model.value],
            gpu.capability if gpu else None,
            dtype="auto" if quantization != "none" else self.weights.value,
            tp=self.tensor.value,
            pp=self.pipeline.value,
            quantization=quantization,
            kv_cache="fp8" if self.cache.value == "fp8" else "none",
        )
        return advice

    def _update(self) -> None:
        fields.shown(self.config, self.model.value == PASTED)
        fields.shown(self.gib, self.gpu.value == UNLISTED)
        try:
            self.plans = self._planned()
        except TritonlabError as error:
            self.plans = {}
            self._said.value = status(error, "bad")
            for view in self._views.values():
                view.value = ""
            return
        self._said.value = status(self._asked())
        for name, plan in self.plans.items():
            advice = (
                fields.words(table(plan.advice, ("part", "what", "why", "fix"), "What its conversion says"))
                if plan.advice
                else ""
            )
            self._views[name].value = (
                f"<h4>{NAMES[name]}</h4>"
                + status(plan.answer.text, "good" if plan.answer.fits else "warning" if plan.fit.fits else "bad")
                + _bar(plan.fit)
                + table(_rows(plan.fit), ("part", "GiB"))
                + f"<p>{text(_cache(plan.fit))}</p>{advice}"
            )

    def _asked(self) -> str:
        gpu = self._gpus.get(self.gpu.value)
        name, memory = (gpu.name, gpu.memory / GIB) if gpu else ("a GPU", self.gib.value)
        model = "The model that is pasted" if self.model.value == PASTED else self.model.value
        count, weights = self.tensor.value * self.pipeline.value, self.weights.value
        each = f", each of {count} GPUs" if count > 1 else ""
        return (
            f"{model} on {name} with {memory:.2f} GiB{each}: weights {weights}, KV cache {self.cache.value}, "
            f"{self.requests.value:,} requests of {self.prompt.value:,} + {self.reply.value:,} tokens."
        )


def _rows(fit: Fit) -> list[tuple[str, str]]:
    return [
        (f"{PARTS[name][0]}  {name}" if size >= 0 else "beyond the GPU's end", f"{abs(size) / GIB:.2f}")
        for name, size in fit.parts().items()
        if size
    ]


def _cache(fit: Fit) -> str:
    each = f"{fit.kv_bytes_per_token / 1024:,.0f} KiB of KV cache a token"
    if not fit.fits:
        return f"{each}; none is left for it."
    return f"{each}: {fit.tokens:,} tokens, in blocks of {fit.block}; {fit.longest:,} in one request at most."


def _bar(fit: Fit) -> str:
    """The split as one bar, with the GPU's end marked where more is needed; its text says the same."""
    parts = [(name, size) for name, size in fit.parts().items() if size > 0]
    whole = max(fit.gpu_memory, sum(size for _, size in parts))
    said = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts)
    drawn, at = [], 0.0
    for name, size in parts:
        letter, filling = PARTS[name]
        width = 100 * size / whole
        drawn.append(
            f'<div style="left: {at:.2f}%; width: {width:.2f}%">{letter if width > NARROW else "&nbsp;"}'
            f'<div class="tl-fill" style="background: {filling}"></div></div>'
        )
        at += width
    end = 100 * fit.gpu_memory / whole
    if end < 100:
        drawn.append(f'<div class="tl-end" style="right: {100 - end:.2f}%">the GPU&#x27;s end</div>')
    label = text(f"{NAMES[fit.backend]}: {said} of {fit.gpu_memory / GIB:.2f} GiB")
    height = ' style="height: 80px"' if end < 100 else ""
    return f'<div class="tl-bar" role="img" aria-label="{label}"{height}>{"".join(drawn)}</div>'
