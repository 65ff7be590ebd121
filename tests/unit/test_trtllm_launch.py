"""The launch line is that of NVIDIA's script, rank by rank, and fits the engine or says that it does not."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tritonlab.errors import CommandError
from tritonlab.trtllm import EngineFolder, LaunchPlan

SERVER = ["tritonserver", "--model-repository=/m", "--grpc-port=8001", "--http-port=8000", "--metrics-port=8002"]
EXPLICIT = ["--model-control-mode=explicit", "--load-model=tensorrt_llm"]


def tail(rank: int) -> list[str]:
    return ["--disable-auto-complete-config", f"--backend-config=python,shm-region-prefix-name=prefix{rank}_"]


def engine(world_size: int) -> EngineFolder:
    return EngineFolder(Path("e"), "0.20.0", {"mapping": {"world_size": world_size}}, {}, {})


def test_one_rank_needs_no_mpirun() -> None:
    assert LaunchPlan("/m").words() == [*SERVER, *tail(0)]


def test_a_server_for_each_rank() -> None:
    plan = LaunchPlan("/m", world_size=2, log_file="log.txt", oversubscribe=True)
    assert plan.words() == [
        *("mpirun", "--allow-run-as-root", "--oversubscribe"),
        *("-n", "1", *SERVER, "--log-verbose=3", "--log-file=log.txt", *tail(0)),
        *(":", "-n", "1", *SERVER, *EXPLICIT, *tail(1)),
    ]
    assert LaunchPlan("/m", 4).words().count(":") == 3


def test_bash_reads_the_same_words() -> None:
    plan = LaunchPlan("/my models/$x", 2, models=["a", "b"])
    assert shlex.split(plan.render().replace("\\\n", " ")) == plan.words()
    assert plan.words().count("--load-model=b") == 1
    with pytest.raises(CommandError, match="runs in the container"):
        plan.render("powershell")


@pytest.mark.parametrize("shell", ["bash", "powershell", "cmd"])
def test_container_starts_from_any_shell(shell: str) -> None:
    run = LaunchPlan("/m", 2).docker()
    assert run.image == "nvcr.io/nvidia/tritonserver:25.06-trtllm-python-py3"
    assert "--model-repository=/model_repository" in run.command
    assert run.values("--ulimit") == ["memlock=-1", "stack=67108864"]
    assert [mount["target"] for mount in run.mounts()] == ["/engines", "/model_repository"]
    assert type(run).parse(run.render(shell), shell).command == run.command
    assert run.lint() == []


def test_release_without_tensorrt_llm_is_refused() -> None:
    with pytest.raises(CommandError, match=r"19\.01 is known"):
        LaunchPlan("/m").docker(release="19.01")


def test_every_word_is_explained() -> None:
    plan = LaunchPlan("/m", 2, log_file="log.txt", oversubscribe=True)
    told = {part.partition("=")[0] for part in plan.explain()["part"]}
    assert told == {word.partition("=")[0] for word in plan.words()} - {"1"}
    assert plan.explain().map(bool).all(axis=None)


@pytest.mark.parametrize(("ranks", "told"), [(2, []), (4, ["world_size 2"]), (1, ["world_size 2"])])
def test_as_many_ranks_as_the_engine_has(ranks: int, told: list[str]) -> None:
    found = LaunchPlan("/m", 2).check(engine(ranks))
    assert [advice.part for advice in found] == told
    assert all(all(advice) for advice in found)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"model_repository": ""}, "No model repository"),
        ({"world_size": 0}, "world_size is 0"),
        ({"world_size": True}, "world_size is True"),
        ({"http_port": 8001}, "three different numbers"),
        ({"http_port": 70000}, "from 1 to 65535"),
        ({"models": "tensorrt_llm"}, "a list of names"),
        ({"models": []}, "a list of names"),
    ],
)
def test_what_makes_no_line_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(CommandError) as error:
        LaunchPlan(**{"model_repository": "/m", **arguments})
    assert told in str(error.value)
