"""Ensembles: whether the map of tensors joins what is there. Triton refuses an ensemble at load when it does not."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tritonlab.pbtxt import ConfigFile, enum_name
from tritonlab.problems import Problem
from tritonlab.schema import schema

WHY = "Triton checks the map when it loads the ensemble, and refuses it"


def check(ensemble: ConfigFile, models: Mapping[str, ConfigFile], names: Collection[str]) -> Iterator[Problem]:
    """What an ensemble's map names that is not there, or leaves out.

    Args:
        ensemble: any model's configuration; one that is no ensemble has no problems.
        models: the repository's models whose configuration could be read.
        names: all models of the repository.
    """
    steps = ensemble.config.ensemble_scheduling.step
    inputs = [tensor.name for tensor in ensemble.config.input]
    produced = [ours for step in steps for ours in step.output_map.values()]
    for step in steps:
        if step.model_name not in names:
            what = f"a step runs {step.model_name!r}, which is not in the repository"
            yield ensemble.at(what, WHY, _near(step.model_name, names), f'"{step.model_name}"')
        elif step.model_name in models:
            yield from _step(ensemble, step, models[step.model_name], {*inputs, *produced})
    for tensor in ensemble.config.output:
        if steps and tensor.name not in produced:
            what = f"no step produces the output {tensor.name!r}"
            fix = f"map an output to it, or leave it out; {_near(tensor.name, produced)}"
            yield ensemble.at(what, WHY, fix, f'"{tensor.name}"')


def _step(ensemble: ConfigFile, step: Any, model: ConfigFile, there: set[str]) -> Iterator[Problem]:
    inputs = {tensor.name: tensor for tensor in model.config.input}
    outputs = {tensor.name: tensor for tensor in model.config.output}
    yield from _names(ensemble, step.input_map, inputs, f"{model.name} has no input")
    yield from _names(ensemble, step.output_map, outputs, f"{model.name} has no output")
    for theirs, ours in step.input_map.items():
        if ours not in there:
            what = f"{theirs} of {model.name} is mapped to {ours!r}, which is neither an input nor a step's output"
            yield ensemble.at(what, WHY, _near(ours, there), f'"{ours}"')
    for name, tensor in inputs.items():
        if not tensor.optional and name not in step.input_map:
            what = f"the step of {model.name} does not map its input {name}"
            yield ensemble.at(what, f"{name} is not optional. {WHY}", f"map {name} in input_map", f'"{model.name}"')
    own = {tensor.name: tensor for tensor in (*ensemble.config.input, *ensemble.config.output)}
    for mapped, known in ((step.input_map, inputs), (step.output_map, outputs)):
        for theirs, ours in mapped.items():
            yield from _types(ensemble, own.get(ours), known.get(theirs), model.name)


def _names(ensemble: ConfigFile, mapped: Iterable[str], known: Mapping[str, Any], what: str) -> Iterator[Problem]:
    # A model that declares no tensors leaves it to its backend to add them at load.
    for name in mapped if known else ():
        if name not in known:
            yield ensemble.at(f"{what} {name!r}", WHY, _near(name, known), f'"{name}"')


def _types(ensemble: ConfigFile, ours: Any, theirs: Any, model: str) -> Iterator[Problem]:
    if ours is None or theirs is None or ours.data_type == theirs.data_type:
        return
    is_type, wanted = (enum_name(schema().DataType, tensor.data_type) for tensor in (ours, theirs))
    what = f"{ours.name} is {is_type}, and {theirs.name} of {model} is {wanted}"
    yield ensemble.at(what, WHY, "write the same data_type in both", f'"{ours.name}"')


def _near(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
