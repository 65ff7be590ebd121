"""A docker run command: read from any shell, written for any shell, explained, looked over."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonlab.compatibility import is_older, releases
from tritonlab.errors import CommandError
from tritonlab.servers.command import DockerRun, Option, flags
from tritonlab.servers.shells import SHELLS, guess, quote, split

BASH = r"""
$ sudo docker run -d --gpus all --rm \
    -p 127.0.0.1:8000:8000 -p8001:8001 \
    -e HF_TOKEN -v "$PWD/model_repository":/models:ro \
    --shm-size=1g --name triton_vllm_server nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3 \
    tritonserver --model-repository=/models --model-control-mode=explicit --load-model='my model'
"""
POWERSHELL = """
PS C:\\Users\\me> docker run -d --gpus all --rm `
    -p 127.0.0.1:8000:8000 -p 8001:8001 `
    -e HF_TOKEN -v "${PWD}/model_repository:/models:ro" `
    --shm-size 1g --name triton_vllm_server nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3 `
    tritonserver --model-repository=/models --model-control-mode=explicit "--load-model=my model"
"""
CMD = """
C:\\Users\\me>docker run -d --gpus all --rm ^
    -p 127.0.0.1:8000:8000 -p 8001:8001 ^
    -e HF_TOKEN -v "%CD%/model_repository:/models:ro" ^
    --shm-size=1g --name triton_vllm_server nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3 ^
    tritonserver --model-repository=/models --model-control-mode=explicit "--load-model=my model"
"""
# The line that many guides have, for PowerShell.
GUIDE = (
    "docker run --gpus all -d --rm -p 8000:8000 -p 8001:8001 -p 8002:8002 --env HUGGING_FACE_HUB_TOKEN=$env:HF_TOKEN "
    '--mount type=bind,source="C:\\Users\\me\\triton_project\\model_repository",target="/models" '
    '--mount type=volume,source=triton_hf_cache,target="/root/.cache/huggingface" --name triton_vllm_server '
    "nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3 tritonserver --model-repository=/models "
    "--model-control-mode=explicit --load-model=gemma"
)

# What a person may write into a word: anything but line ends; of cmd's own characters it has no way to write some.
plain = st.text(
    st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"], blacklist_characters='%^"‘’“”„'), max_size=12
)
word = st.lists(plain.map(lambda text: text.replace("$", "$$")) | st.sampled_from(["${PWD}", "${HOME}", "${HF_TOKEN}"]),
                max_size=3).map("".join)  # fmt: skip
options = st.lists(
    st.builds(Option, st.sampled_from(["--env", "--publish", "--mount", "--name", "--shm-size"]), word)
    | st.sampled_from([Option("--detach"), Option("--rm"), Option("--init")]),
    max_size=6,
).map(lambda found: tuple(sorted(found, key=lambda option: option.value is not None)))
runs = st.builds(
    DockerRun,
    image=st.from_regex(r"[a-z0-9]+(/[a-z0-9]+)?:[a-z0-9.]+", fullmatch=True),
    command=st.lists(word, max_size=4).map(tuple),
    options=options,
)


@given(runs, st.sampled_from(SHELLS))
def test_what_is_written_reads_back(run: DockerRun, shell: str) -> None:
    assert DockerRun.parse(run.render(shell), shell) == run


@given(st.lists(plain, min_size=1, max_size=4))
def test_bash_itself_reads_the_same_words(words: list[str]) -> None:
    line = " ".join(quote(text.replace("$", "$$"), "bash") for text in words)
    assert shlex.split(line) == words
    said = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == words


@given(st.text(max_size=80), st.sampled_from(SHELLS))
def test_any_text_is_read_or_refused_in_words(text: str, shell: str) -> None:
    with suppress(CommandError):
        DockerRun.parse(text, shell)


@pytest.mark.parametrize(("text", "shell"), [(BASH, "bash"), (POWERSHELL, "powershell"), (CMD, "cmd")])
def test_one_command_in_three_shells(text: str, shell: str) -> None:
    assert guess(text) == shell
    run = DockerRun.parse(text)
    assert run == DockerRun.parse(BASH)
    assert run.image == "nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3"
    assert run.values("--volume") == ["${PWD}/model_repository:/models:ro"]
    assert run.values("--publish") == ["127.0.0.1:8000:8000", "8001:8001"]
    assert run.command[-1] == "--load-model=my model"


def test_the_line_of_the_guides() -> None:
    assert guess(GUIDE) == "powershell"
    run = DockerRun.parse(GUIDE)
    assert run.values("--env") == ["HUGGING_FACE_HUB_TOKEN=${HF_TOKEN}"]
    assert run.values("--mount")[0] == r"type=bind,source=C:\Users\me\triton_project\model_repository,target=/models"
    assert '"HUGGING_FACE_HUB_TOKEN=${HF_TOKEN}"' in run.render("bash")
    assert "%HF_TOKEN%" in run.render("cmd")
    assert [advice.part for advice in run.lint()] == ["-p 8000:8000", "-p 8001:8001", "-p 8002:8002", run.image, "--rm"]


def test_every_part_is_explained() -> None:
    table = DockerRun.parse(GUIDE).explain()
    assert len(table) == 15
    assert (table["what it does"].str.len() > 5).all()
    assert table.part.iloc[0] == "--gpus all"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("docker ps", "no docker run command"),
        ("docker run --gpu all x", "Did you mean --gpus?"),
        ("docker run -dz x", "no option -z"),
        ("docker run --name", "has no value"),
        ("docker run -d", "names no image"),
        ("docker run 'x", "does not end"),
        ('docker run "x', "does not end"),
        ("docker run x | tee log", "another command"),
        ("docker run -v $(realpath .):/models x", "only the shell can work out"),
        ("docker run x\ndocker logs x", "second command"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(line: str, told: str) -> None:
    with pytest.raises(CommandError, match=told.replace("?", r"\?")):
        DockerRun.parse(line)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("docker run -e HF_TOKEN=hf_abc x:1", "--env HF_TOKEN=…"),
        ("docker run -p 8000 x:1", "-p 8000"),
        ("docker run nvcr.io/nvidia/tritonserver:25.06-py3", "nvcr.io/nvidia/tritonserver:25.06-py3"),
        (
            "docker run --mount type=bind,src=/a,dst=/models x:1 tritonserver --model-repository=/model",
            "--model-repository=/model",
        ),
        ("docker run x:1 tritonserver --model-control-mode=explicit", "--model-control-mode=explicit"),
        ("docker run --rm --restart always x:1", "--rm"),
        ("docker run -v ./models:/models x:1", "-v ./models:/models"),
        ("docker run --gpus all myvllm:1", "myvllm:1"),
        ("docker run x", "x"),
        ("docker run host:5000/x", "host:5000/x"),
        ("docker run x/tritonserver:1 tritonserver --model-repository=/models", "x/tritonserver:1"),
    ],
)
def test_lint_finds(line: str, part: str) -> None:
    found = DockerRun.parse(line).lint()
    assert [advice.part for advice in found] == [part]
    assert all(all(text) for text in found)
    assert "hf_abc" not in repr(found) + repr(DockerRun.parse(line)) + DockerRun.parse(line).explain().to_string()


@pytest.mark.parametrize(
    "line",
    [
        "docker run -p 127.0.0.1:8000:8000 -p [::1]:8001:8001 -e HF_TOKEN x:1",
        "docker run --gpus all --shm-size=1g --mount type=bind,source=/a,target=/models "
        "nvcr.io/nvidia/tritonserver:25.06-py3 "
        "tritonserver --model-repository=/models/sub --model-control-mode=explicit --load-model=a",
        "docker run -v cache:/root x@sha256:abc",
    ],
)
def test_lint_is_silent_where_nothing_is_wrong(line: str) -> None:
    assert DockerRun.parse(line).lint() == []


def test_image_is_explained_by_what_is_in_it() -> None:
    table = DockerRun.parse(GUIDE).explain()
    [text] = table[table.part.str.startswith("nvcr.io")]["what it does"]
    assert text == "the image: Triton 2.59.0 with vLLM 0.9.0rc1 and CUDA 12.9.0.043"


def test_driver_is_compared_with_the_image() -> None:
    run = DockerRun.parse(GUIDE)
    assert any("575.51.03" in advice.what for advice in run.lint(driver="572.83"))
    assert run.lint(driver="580.82.07") == run.lint()
    unknown = DockerRun.parse("docker run --gpus all nvcr.io/nvidia/tritonserver:31.02-py3")
    assert [advice.part for advice in unknown.lint()] == [unknown.image]


def test_releases_are_whole_and_in_order() -> None:
    found = list(releases().values())
    assert [release.tag for release in found] == sorted((release.tag for release in found), reverse=True)
    for newer, older in pairwise(found):
        assert is_older(older.triton, newer.triton)
        assert not is_older(newer.vllm.driver, older.vllm.driver)


def test_options_are_named_once() -> None:
    for program in ("docker", "triton"):
        for name, flag in flags(program).items():
            assert name in flag.names
    assert split("docker  run\t-it # a word", "bash") == ["docker", "run", "-it"]
    with pytest.raises(CommandError, match="no shell"):
        DockerRun("x").render("fish")


EVERYTHING = r"""
docker run -d --gpus '"device=0,1"' -p 127.0.0.1:8000:8000 -p 8001 -p [::1]:8002:8002/tcp --env HF_TOKEN --env A=b=c
  --mount type=bind,source=/srv/models,target=/models,readonly -v cache:/root/.cache:ro -v ./here:/there
  --mount type=tmpfs,target=/scratch,tmpfs-size=64k --shm-size=1g --ipc host --ulimit memlock=-1 --ulimit stack=1:2
  --name triton --network llm --user 1000:1000 --label a=b --restart on-failure:3 --entrypoint run --workdir /srv
  --memory 8g --cpus 1.5 --init --cap-drop ALL --pull never image:1 tritonserver --model-repository=/models
""".replace("\n", " ")


def test_sdk_arguments_make_the_container_that_the_line_does() -> None:
    """The engine's own configuration, as the docker SDK builds it from the arguments, is the judge."""
    from docker.models.containers import _create_container_args

    made = DockerRun.parse(EVERYTHING).sdk_arguments({"HF_TOKEN": "secret"})
    assert made["environment"] == {"HF_TOKEN": "secret", "A": "b=c"}
    config = _create_container_args({**made, "version": "1.41"})
    host = config["host_config"]
    assert host["PortBindings"]["8000/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8000"}]
    assert host["PortBindings"]["8001/tcp"][0]["HostPort"] in ("", None)
    assert host["PortBindings"]["8002/tcp"] == [{"HostIp": "::1", "HostPort": "8002"}]
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["0", "1"]
    assert [(m["Type"], m["Target"], m["ReadOnly"]) for m in host["Mounts"]] == [
        ("bind", "/models", True),
        ("volume", "/root/.cache", True),
        ("bind", "/there", False),
        ("tmpfs", "/scratch", False),
    ]
    assert host["Mounts"][3]["TmpfsOptions"] == {"SizeBytes": 65536}
    assert (host["ShmSize"], host["Memory"], host["NanoCpus"]) == (1 << 30, 8 << 30, 1_500_000_000)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert [dict(limit) for limit in host["Ulimits"]] == [
        {"Name": "memlock", "Soft": -1, "Hard": -1},
        {"Name": "stack", "Soft": 1, "Hard": 2},
    ]
    assert (host["NetworkMode"], host["IpcMode"], host["Init"], host["CapDrop"]) == ("llm", "host", True, ["ALL"])
    assert (config["user"], config["working_dir"], config["entrypoint"]) == ("1000:1000", "/srv", ["run"])


def test_variables_are_put_in_and_asked_for() -> None:
    run = DockerRun.parse("docker run -v \"$DATA/models:/models\" --env HF_TOKEN x:1 echo '$5'")
    made = run.sdk_arguments({"DATA": "/srv"})
    assert made["mounts"][0]["Source"] == "/srv/models"
    assert made["command"] == ["echo", "$5"]
    assert "environment" not in made, "a name whose variable is not set sets nothing, as in docker run"
    with pytest.raises(CommandError, match="DATA is not set"):
        run.sdk_arguments({})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("docker run -p eight:8000 x:1", "is no port"),
        ("docker run --gpus some x:1", "cannot be read"),
        ("docker run --volumes-from a x:1", "cannot say --volumes-from"),
        ("docker run --env-file /nowhere x:1", "cannot be read"),
    ],
)
def test_what_the_sdk_cannot_be_told_is_refused_in_words(line: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        DockerRun.parse(line).sdk_arguments({})


def test_compose_file_says_what_the_line_does() -> None:
    import yaml

    file = yaml.safe_load(DockerRun.parse(EVERYTHING).compose("llm"))
    service = file["services"]["llm"]
    assert service["ports"] == ["127.0.0.1:8000:8000", "8001", "[::1]:8002:8002/tcp"]
    assert service["environment"] == ["HF_TOKEN", "A=b=c"]
    assert service["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "device_ids": ["0", "1"], "capabilities": ["gpu"]}
    ]
    assert service["volumes"][0] == {"type": "bind", "source": "/srv/models", "target": "/models", "read_only": True}
    assert file["volumes"] == {"cache": {"name": "cache"}}
    assert (service["command"], service["restart"]) == (["tritonserver", "--model-repository=/models"], "on-failure:3")
    with pytest.raises(CommandError, match="--volumes-from"):
        DockerRun.parse("docker run --volumes-from a x:1").compose()
