"""The other forms of a `DockerRun`: arguments for the docker SDK, and a compose file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.errors import CommandError
from tritonlab.servers import shells

if TYPE_CHECKING:
    from tritonlab.servers.command import DockerRun

_Form = dict[str, tuple[str, Callable[[list[str]], Any]]]


def last(values: list[str]) -> str:
    return values[-1]


def _flag(values: list[str]) -> bool:
    return True


def _pairs(values: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in values)}


def _ulimits(values: list[str]) -> Iterator[tuple[str, int, int]]:
    for name, limits in _pairs(values).items():
        soft, _, hard = limits.partition(":")
        yield name, int(soft), int(hard or soft)


def _published(values: list[str]) -> Iterator[tuple[str, str, str]]:
    """Address, port on the host (maybe ""), and port with protocol in the container, of each --publish."""
    for value in values:
        found = re.fullmatch(r"(?:(?:(\[[^]]+\]|[\d.]+):)?(\d*):)?(\d+)(?:/(tcp|udp))?", value)
        if not found:
            raise CommandError(f"-p {value} is no port.", "Write -p ADDRESS:HOST_PORT:CONTAINER_PORT.")
        yield (found[1] or "").strip("[]"), found[2] or "", f"{found[3]}/{found[4] or 'tcp'}"


def _sdk_ports(values: list[str]) -> dict[str, list[tuple[str, ...]]]:
    ports: dict[str, list[tuple[str, ...]]] = {}
    for address, host, container in _published(values):
        ports.setdefault(container, []).append((address or "0.0.0.0", host) if host else (address or "0.0.0.0",))
    return ports


def _sdk_gpus(values: list[str]) -> list[dict[str, Any]]:
    return [{"capabilities": [["gpu"]], **_devices(values[-1])}]


def _devices(wanted: str) -> dict[str, Any]:
    """The devices of --gpus, as the engine takes them: all of them, some number, or by name."""
    if wanted == "all":
        return {"count": -1}
    if wanted.isdigit():
        return {"count": int(wanted)}
    found = re.fullmatch(r'"?device=([\w,-]+)"?', wanted)
    if not found:
        raise CommandError(f"--gpus {wanted} cannot be read.", 'Write all, a number, or "device=0,1".')
    return {"device_ids": found[1].split(",")}


def _sdk_restart(values: list[str]) -> dict[str, Any]:
    name, _, count = values[-1].partition(":")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _sdk_ulimits(values: list[str]) -> list[dict[str, Any]]:
    return [{"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in _ulimits(values)]


_SDK: _Form = {
    "--rm": ("auto_remove", _flag), "--gpus": ("device_requests", _sdk_gpus), "--publish": ("ports", _sdk_ports),
    "--name": ("name", last), "--shm-size": ("shm_size", last), "--ipc": ("ipc_mode", last),
    "--ulimit": ("ulimits", _sdk_ulimits), "--network": ("network_mode", last), "--user": ("user", last),
    "--label": ("labels", _pairs), "--restart": ("restart_policy", _sdk_restart),
    "--entrypoint": ("entrypoint", list), "--workdir": ("working_dir", last), "--memory": ("mem_limit", last),
    "--runtime": ("runtime", last), "--platform": ("platform", last), "--privileged": ("privileged", _flag),
    "--init": ("init", _flag), "--interactive": ("stdin_open", _flag), "--tty": ("tty", _flag),
    "--cap-add": ("cap_add", list), "--cap-drop": ("cap_drop", list), "--security-opt": ("security_opt", list),
    "--hostname": ("hostname", last), "--read-only": ("read_only", _flag), "--pid": ("pid_mode", last),
    "--cpuset-cpus": ("cpuset_cpus", last), "--cpus": ("nano_cpus", lambda values: int(float(values[-1]) * 1e9)),
    "--tmpfs": ("tmpfs", lambda values: dict(word.partition(":")[::2] for word in values)),
}  # fmt: skip
_FIELDS = {"type", "source", "target", "readonly", "ro", "bind-propagation", "tmpfs-size"}
_READ_APART = {"--env", "--env-file", "--mount", "--volume", "--detach", "--pull"}


def sdk_arguments(run: DockerRun, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `docker.DockerClient.containers.create` takes for this command.

    Args:
        environment: what variables stand for, and where `--env NAME` looks; this process's by default.

    Raises:
        CommandError: an option has no counterpart, a variable is not set, or a value cannot be read.
    """
    values = os.environ if environment is None else environment
    arguments: dict[str, Any] = {"image": expand(run.image, values), "detach": True}
    if run.command:
        arguments["command"] = [expand(word, values) for word in run.command]
    for name in dict.fromkeys(option.name for option in run.options):
        if name in _SDK:
            keyword, form = _SDK[name]
            arguments[keyword] = _formed(name, form, [expand(value, values) for value in run.values(name)])
        elif name not in _READ_APART:
            raise CommandError(f"The docker SDK's arguments cannot say {name} here.", "Run the line in a shell.")
    if variables := dict(_variables(run, values)):
        arguments["environment"] = variables
    if mounts := [_sdk_mount(mount) for mount in run.mounts(values)]:
        arguments["mounts"] = mounts
    return arguments


def _formed(name: str, form: Callable[[list[str]], Any], values: list[str]) -> Any:
    try:
        return form(values)
    except ValueError:
        raise CommandError(f"{name} {' '.join(values)} cannot be read.", "See docker run --help.") from None


def expand(word: str, environment: Mapping[str, str]) -> str:
    """A word with its variables' values in place.

    Raises:
        CommandError: a variable is not set.
    """

    def value(found: re.Match[str]) -> str:
        if not found[1]:
            return "$"
        own = {"PWD": os.getcwd(), "HOME": str(Path.home())}
        if found[1] not in environment and found[1] not in own:
            raise CommandError(f"The variable {found[1]} is not set.", "Set it, or write its value.")
        return environment.get(found[1]) or own.get(found[1], "")

    return shells.VARIABLE.sub(value, word)


def _variables(run: DockerRun, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in run.values("--env-file"):
        path = Path(expand(name, environment))
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}.", "Check --env-file.") from None
        for line in lines:
            if line.strip() and not line.startswith("#"):
                yield from _variable(line, environment)
    for word in run.values("--env"):
        yield from _variable(expand(word, environment), environment)


def _variable(word: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name, equals, value = word.partition("=")
    if equals:
        yield name, value
    elif name in environment:
        yield name, environment[name]


def _sdk_mount(mount: Mapping[str, str]) -> dict[str, Any]:
    """As the engine's interface has it."""
    from docker.errors import DockerException
    from docker.utils import parse_bytes

    _refuse_unknown_fields(mount)
    written: dict[str, Any] = {"Type": mount.get("type", "volume"), "Target": mount.get("target")}
    written |= {"Source": mount.get("source"), "ReadOnly": _is_readonly(mount)}
    if "bind-propagation" in mount:
        written["BindOptions"] = {"Propagation": mount["bind-propagation"]}
    if "tmpfs-size" in mount:
        try:
            written["TmpfsOptions"] = {"SizeBytes": parse_bytes(mount["tmpfs-size"])}
        except DockerException:
            raise CommandError(f"tmpfs-size={mount['tmpfs-size']} is no size.", "Write 64k, 512m or 2g.") from None
    return written


def _refuse_unknown_fields(mount: Mapping[str, str]) -> None:
    if unknown := set(mount) - _FIELDS:
        raise CommandError(
            f"A mount's {', '.join(sorted(unknown))} cannot be said here.",
            "Run the line in a shell, or leave that out.",
        )


def _is_readonly(mount: Mapping[str, str]) -> bool:
    return mount.get("readonly", mount.get("ro", "false")) in ("", "true", "1")


_COMPOSE: _Form = {
    "--name": ("container_name", last), "--shm-size": ("shm_size", last), "--ipc": ("ipc", last),
    "--ulimit": ("ulimits", lambda v: {name: {"soft": soft, "hard": hard} for name, soft, hard in _ulimits(v)}),
    "--network": ("network_mode", last), "--user": ("user", last), "--label": ("labels", _pairs),
    "--restart": ("restart", last), "--entrypoint": ("entrypoint", list), "--workdir": ("working_dir", last),
    "--memory": ("mem_limit", last), "--runtime": ("runtime", last), "--platform": ("platform", last),
    "--privileged": ("privileged", _flag), "--init": ("init", _flag), "--interactive": ("stdin_open", _flag),
    "--tty": ("tty", _flag), "--cap-add": ("cap_add", list), "--cap-drop": ("cap_drop", list),
    "--security-opt": ("security_opt", list), "--hostname": ("hostname", last), "--read-only": ("read_only", _flag),
    "--pid": ("pid", last), "--cpuset-cpus": ("cpuset", last), "--cpus": ("cpus", last), "--tmpfs": ("tmpfs", list),
    "--pull": ("pull_policy", last), "--env": ("environment", list), "--env-file": ("env_file", list),
    "--publish": ("ports", list),
}  # fmt: skip
_NOT_IN_A_FILE = {"--rm", "--detach"}  # said to `docker compose run` and `up`, and not in the file


def compose(run: DockerRun, service: str) -> str:
    """The command as a compose file of one service; compose reads its variables as our words write them.

    Raises:
        CommandError: an option has no counterpart, or a value cannot be read.
    """
    import yaml

    content: dict[str, Any] = {"image": run.image}
    if run.command:
        content["command"] = list(run.command)
    for name in dict.fromkeys(option.name for option in run.options):
        if name == "--gpus":
            content["deploy"] = {"resources": {"reservations": {"devices": [_compose_gpus(run.values(name)[-1])]}}}
        elif name in _COMPOSE:
            keyword, form = _COMPOSE[name]
            content[keyword] = _formed(name, form, run.values(name))
        elif name not in _NOT_IN_A_FILE | {"--mount", "--volume"}:
            raise CommandError(f"There is no way to write {name} in a compose file here.", "Write it by hand.")
    mounts = list(run.mounts())
    if mounts:
        content["volumes"] = [_compose_mount(mount) for mount in mounts]
    names = [mount["source"] for mount in mounts if mount.get("type", "volume") == "volume" and mount.get("source")]
    file: dict[str, Any] = {"services": {service: content}}
    if names:
        # Named in full: compose would put the project's name before it, and begin with an empty volume.
        file["volumes"] = {name: {"name": name} for name in names}
    return str(yaml.safe_dump(file, sort_keys=False, allow_unicode=True, width=120))


def _compose_gpus(wanted: str) -> dict[str, Any]:
    devices = _devices(wanted)
    if devices.get("count") == -1:
        devices = {"count": "all"}
    return {"driver": "nvidia", **devices, "capabilities": ["gpu"]}


def _compose_mount(mount: Mapping[str, str]) -> dict[str, Any]:
    written: dict[str, Any] = {"type": mount.get("type", "volume")}
    _refuse_unknown_fields(mount)
    written |= {key: mount[key] for key in ("source", "target") if key in mount}
    if "bind-propagation" in mount:
        written["bind"] = {"propagation": mount["bind-propagation"]}
    if "tmpfs-size" in mount:
        written["tmpfs"] = {"size": mount["tmpfs-size"]}
    return {**written, "read_only": True} if _is_readonly(mount) else written
