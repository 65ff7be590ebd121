"""`CommandBuilder`: a `docker run` or a `trtllm-build` line, each choice explained as it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import ipywidgets as widgets

from tritonlab import compatibility, gpus
from tritonlab.errors import CommandError, TritonlabError
from tritonlab.servers.command import AdviceList, DockerRun, flags, without_secret
from tritonlab.trtllm import BuildPlan, quantizations, shapes
from tritonlab.trtllm import command as trtllm_command
from tritonlab.trtllm import plan as trtllm_plan
from tritonlab.trtllm.convert import looked_over
from tritonlab.widgets import fields
from tritonlab.widgets.panel import Panel, plain_table, preformatted, status, table, text

DOCKER_LINE = r"""
docker run -d --gpus all \
  -p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 -p 127.0.0.1:8002:8002 \
  --env HF_TOKEN \
  --mount type=bind,source="$PWD/model_repository",target=/models,readonly \
  --mount type=volume,source=triton_hf_cache,target=/root/.cache/huggingface \
  --shm-size=1g --name triton_vllm_server \
  nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3 \
  tritonserver --model-repository=/models --model-control-mode=explicit --load-model=gemma
"""
"""The line of notebook 02."""
BUILD_MODEL = "meta-llama/Llama-3.2-1B"
BUILD_OPTIONS = {"max_batch_size": "64", "max_seq_len": "8192", "gemm_plugin": "auto"}
"""The plan of notebook 04."""
SHELLS = {"bash": "bash", "powershell": "PowerShell"}
HEADINGS = ("part", "what it does", "without it")
LONGEST_VERSION = 20


class Choice(NamedTuple):
    """An option that can be chosen: `kind` is "text", "switch", or "choice" of `values`."""

    label: str
    does: str
    kind: str = "text"
    values: tuple[str, ...] = ()
    default: str = ""


class _Row(NamedTuple):
    name: str
    value: Any
    told: Any
    box: Any


class _Rows:
    """Options that are chosen, a row for each, and a list to add others from."""

    def __init__(
        self,
        label: str,
        known: Mapping[str, Choice],
        changed: Callable[[], None],
        *,
        repeat: bool,
        secrets: bool = False,
    ) -> None:
        self._known, self._changed, self._repeat, self._secrets = known, changed, repeat, secrets
        self._rows: list[_Row] = []
        self._list = widgets.VBox()
        self.add = fields.field(widgets.Dropdown, f"Add: {label}", "300px")
        self._preview = widgets.HTML()
        self.add_button = fields.button("Add", self._added)
        self.add.observe(lambda _: self._show_preview(), "value")
        self.box = widgets.VBox(
            [
                fields.heading(label[0].upper() + label[1:]),
                self._list,
                fields.row(self.add, self.add_button),
                self._preview,
            ]
        )
        self._offer()

    def values(self) -> list[tuple[str, str]]:
        """The names with their values, in order; "" for a switch."""
        return [(row.name, "" if row.value is None else row.value.value) for row in self._rows]

    def fill(self, values: Iterable[tuple[str, str]]) -> None:
        """Begin anew with these."""
        self._rows = [self._row(name, value) for name, value in values]
        self._arrange()

    def tell(self, said: Sequence[str]) -> None:
        """Explain each row."""
        for row, told in zip(self._rows, said, strict=False):
            row.told.value = f'<div class="tl-quiet">{text(told)}</div>'

    def _row(self, name: str, value: str) -> _Row:
        choice = self._known.get(name, Choice(name or "argument", "an argument of the program"))
        told = widgets.HTML()
        if choice.kind == "switch":
            field, shown = None, widgets.HTML(f"<b>{text(choice.label)}</b>", layout={"flex": "1 1 280px"})
        elif choice.kind == "choice":
            options = choice.values if value in choice.values else (*choice.values, value)
            field = shown = fields.field(widgets.Dropdown, choice.label, "", options=options, value=value)
        else:
            field = shown = fields.field(widgets.Text, choice.label, "", code=True, value=value, continuous_update=True)
        if field is not None:
            field.observe(lambda change: self._edited(name, change), "value")
        remove = fields.button(f"Remove {choice.label}", lambda: self._removed(row))
        row = _Row(name, field, told, widgets.VBox([fields.row(shown, remove), told]))
        return row

    def _edited(self, name: str, change: Any) -> None:
        if self._secrets and (safe := without_secret(name, change["new"])) != change["new"]:
            change["owner"].value = safe  # it comes here again
        else:
            self._changed()

    def _removed(self, row: _Row) -> None:
        self._rows = [kept for kept in self._rows if kept is not row]
        self._arrange()
        self.add.focus()
        self._changed()

    def _added(self) -> None:
        name = self.add.value
        if not name:
            return
        choice = self._known[name]
        row = self._row(name, choice.default if choice.kind != "choice" else choice.default or choice.values[0])
        self._rows.append(row)
        self._arrange()
        (row.value or self.add).focus()
        self._changed()

    def _arrange(self) -> None:
        self._list.children = [row.box for row in self._rows]
        self._offer()

    def _offer(self) -> None:
        taken = set() if self._repeat else {row.name for row in self._rows}
        self.add.options = [
            ("choose an option", ""),
            *((c.label, n) for n, c in self._known.items() if n not in taken),
        ]
        self.add.value = ""
        self._show_preview()

    def _show_preview(self) -> None:
        choice = self._known.get(self.add.value)
        self._preview.value = status(f"{choice.label} {choice.does}") if choice else ""
        self.add_button.disabled = choice is None


class _Form(Protocol):
    """What of a builder depends on the command."""

    controls: Sequence[Any]

    def command(self) -> DockerRun | BuildPlan: ...
    def lint(self, command: Any) -> AdviceList: ...
    def tell(self, command: Any) -> list[tuple[str, ...]]: ...


class _DockerForm:
    def __init__(self, changed: Callable[[], None]) -> None:
        docker = {
            flag.names[0]: Choice(
                flag.names[0], f"{flag.does}; without it: {flag.without}", "text" if flag.value else "switch"
            )
            for flag in flags("docker").values()
            if flag.without
        }
        triton = {
            flag.names[0]: Choice(flag.names[0], f"{flag.does}; without it: {flag.without}")
            for flag in flags("triton").values()
        }
        self._docker = _Rows("options of Docker", docker, changed, repeat=True, secrets=True)
        self._triton = _Rows("options of the server", triton, changed, repeat=True)
        images = [
            name
            for release in compatibility.releases().values()
            for name in (
                f"nvcr.io/nvidia/tritonserver:{release.tag}-vllm-python-py3",
                *([trtllm_command.image(release.tag)] if release.tensorrt_llm else []),
            )
        ]
        self.image = fields.field(widgets.Combobox, "Image", "480px", code=True, options=images, continuous_update=True)
        self.program = fields.field(widgets.Text, "Program", "200px", code=True, continuous_update=True)
        self.driver = fields.field(
            widgets.Text, "The host's NVIDIA driver, if you know it", "300px", placeholder="such as 575.51.03"
        )
        self._told = widgets.HTML()
        self.paste = fields.field(
            widgets.Textarea,
            "Or paste a docker run line of any shell",
            "100%",
            code=True,
            rows=3,
            continuous_update=False,
        )
        self.read_button = fields.button("Read the line", self._pasted)
        self._heard = widgets.HTML()
        for control in (self.image, self.program, self.driver):
            control.observe(lambda _: changed(), "value")
        self._changed = changed
        self.controls: list[Any] = [
            self._docker.box,
            fields.heading("The image, and the program in it"),
            fields.row(self.image, self.program),
            self._told,
            self._triton.box,
            self.driver,
            self.paste,
            fields.row(self.read_button),
            self._heard,
        ]
        self.take(DockerRun.parse(DOCKER_LINE, "bash"))

    def take(self, run: DockerRun) -> None:
        """Put a command into the fields."""
        self._docker.fill((name, without_secret(name, value or "")) for name, value in run.options)
        self.image.value, self.program.value = run.image, run.command[0] if run.command else ""
        words = [word.partition("=") for word in run.command[1:]]
        self._triton.fill(
            (name, value) if equals and name in flags("triton") else ("", f"{name}{equals}{value}")
            for name, equals, value in words
        )

    def command(self) -> DockerRun:
        words = [f"{name}={value}" if name else value for name, value in self._triton.values()]
        program = [self.program.value] if self.program.value else []
        return DockerRun.chosen(self._docker.values(), self.image.value, [*program, *words])

    def lint(self, command: DockerRun) -> AdviceList:
        return command.lint(self.driver.value[:LONGEST_VERSION])

    def tell(self, command: DockerRun) -> list[tuple[str, ...]]:
        told = [tuple(row) for row in command.explain().itertuples(index=False)]
        count = len(command.options)
        said = [f"{does}; without it: {without}" if without else does for _, does, without in told]
        self._docker.tell(said[:count])
        self._told.value = f'<div class="tl-quiet">{text(said[count])}</div>'
        self._triton.tell(said[count + 1 + bool(self.program.value) :])
        return told

    def _pasted(self) -> None:
        try:
            run = DockerRun.parse(self.paste.value)
        except TritonlabError as error:
            self._heard.value = status(error, "bad")
            return
        self.take(run)
        self.paste.value = ""  # it may have held a secret, and the notebook is saved
        self._heard.value = status("The line is in the fields above.", "good")
        self._changed()


class _BuildForm:
    def __init__(self, changed: Callable[[], None]) -> None:
        folders = ("checkpoint_dir", "output_dir")
        known = {}
        for flag in trtllm_plan.flags().values():
            if flag.name in folders:
                continue
            values = flag.values or (("enable", "disable") if flag.kind == "enable" else ())
            kind = "switch" if flag.kind == "switch" else "choice" if values else "text"
            does = f"{flag.does}; mind: {flag.costs}; default: {flag.default or 'worked out by trtllm-build'}"
            known[flag.name] = Choice(f"--{flag.name}", does, kind, values, flag.default)
        name = BUILD_MODEL.rpartition("/")[2]
        self.model = fields.field(
            widgets.Dropdown, "Model that was converted", "260px", options=list(shapes()), value=BUILD_MODEL
        )
        methods = list(quantizations()["name"])
        self.quantization = fields.field(widgets.Dropdown, "Quantization", "170px", options=methods, value="none")
        self.tp = fields.field(widgets.Dropdown, "GPUs (tensor parallel)", "170px", options=[1, 2, 4, 8])
        self._gpus = {"not known": None, **{gpu.name: gpu.capability for gpu in gpus.KNOWN}}
        self.gpu = fields.field(
            widgets.Dropdown, "GPU that is to serve it", "190px", options=list(self._gpus), value=gpus.KNOWN[1].name
        )
        self.checkpoint = fields.field(
            widgets.Text, "--checkpoint_dir", "", code=True, value=f"checkpoints/{name}", continuous_update=True
        )
        self.output = fields.field(
            widgets.Text, "--output_dir", "", code=True, value=f"engines/{name}", continuous_update=True
        )
        self._told = widgets.HTML()
        self._rows = _Rows("options of trtllm-build", known, changed, repeat=False)
        self._rows.fill(BUILD_OPTIONS.items())
        for control in (self.model, self.quantization, self.tp, self.gpu, self.checkpoint, self.output):
            control.observe(lambda _: changed(), "value")
        self.controls: list[Any] = [
            fields.heading("The checkpoint"),
            fields.row(self.model, self.quantization, self.tp, self.gpu),
            fields.row(self.checkpoint, self.output),
            self._told,
            self._rows.box,
        ]

    def command(self) -> BuildPlan:
        options = {
            name: True if trtllm_plan.flags()[name].kind == "switch" else value for name, value in self._rows.values()
        }
        for label, folder in (("--checkpoint_dir", self.checkpoint.value), ("--output_dir", self.output.value)):
            if not folder.strip():
                raise CommandError(f"{label} is empty.", "Name a folder.")
        return BuildPlan(self.checkpoint.value, self.output.value, options)

    def lint(self, command: BuildPlan) -> AdviceList:
        capability = self._gpus[self.gpu.value]
        config, advice = looked_over(
            shapes()[self.model.value], capability, tp=self.tp.value, quantization=self.quantization.value
        )
        found = command.check(config, capability)
        return AdviceList([*advice, *(one for one in found if one not in advice)])

    def tell(self, command: BuildPlan) -> list[tuple[str, ...]]:
        rows = list(command.explain().itertuples(index=False))
        said = [
            f"{does}; mind: {mind}; default: {default or 'worked out by trtllm-build'}"
            for _, does, mind, default in rows
        ]
        self._told.value = "".join(
            f'<div class="tl-quiet">{text(row[0])}: {text(told)}</div>'
            for row, told in zip(rows[:2], said[:2], strict=True)
        )
        self._rows.tell(said[2:])
        return [(option, does, f"{mind}; default: {default or 'worked out'}") for option, does, mind, default in rows]


FORMS: dict[str, Any] = {"docker run": _DockerForm, "trtllm-build": _BuildForm}


class CommandBuilder(Panel):
    """A command line, built by choosing. Nothing is run, and nothing is handed to a shell.

    Args:
        program: "docker run" or "trtllm-build".

    Raises:
        CommandError: there is no builder for it.
    """

    def __init__(self, program: str = "docker run") -> None:
        if program not in FORMS:
            raise CommandError(f"There is no builder for {program!r}.", f"There are {' and '.join(FORMS)}.")
        self.program = program
        self._lines = {shell: widgets.HTML() for shell in SHELLS}
        self._advice = widgets.HTML()
        self._ready = False
        self.form: _Form = FORMS[program](self._update)
        self._ready = True
        # The line stands first: who types in the first fields sees what becomes of it.
        super().__init__(
            fields.style(), fields.heading("The line"), self._advice, *self._lines.values(), *self.form.controls
        )
        self._update()

    @property
    def command(self) -> DockerRun | BuildPlan:
        """The command that is chosen, as an object.

        Raises:
            CommandError: what is chosen and typed is none.
        """
        return self.form.command()

    def plain(self) -> str:
        try:
            command = self.command
            advice = self.form.lint(command)
        except TritonlabError as error:
            return str(error)
        lines = [f"{name}:\n{command.render(shell)}" for shell, name in SHELLS.items()]
        told = plain_table(
            self.form.tell(command), HEADINGS if self.program == "docker run" else (*HEADINGS[:2], "mind")
        )
        return "\n\n".join([*lines, told, f"looked over: {advice}"])

    def _update(self) -> None:
        if not self._ready:  # the fields are being filled
            return
        try:
            command = self.command
            advice = self.form.lint(command)
        except TritonlabError as error:
            # No line rather than the one before: it would not be what stands in the fields.
            self._advice.value = status(error, "bad")
            for shown in self._lines.values():
                shown.value = ""
            return
        self.form.tell(command)
        for shell, name in SHELLS.items():
            self._lines[shell].value = f"<div>{name}</div>" + preformatted(
                command.render(shell), f"The line for {name}"
            )
        count = f"{len(advice)} {'problem' if len(advice) == 1 else 'problems'}"
        self._advice.value = (
            status(f"Looked over: {count}.", "warning") + fields.words(table(advice, ("part", "what", "why", "fix")))
            if advice
            else status("Looked over: no problems.", "good")
        )
