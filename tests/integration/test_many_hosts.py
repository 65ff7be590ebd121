"""docs/many-hosts.md is done to the letter: GNU parallel runs a runbook over SSH, to this machine's own sshd."""

from __future__ import annotations

import csv
import getpass
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tritonlab.servers import Server, ports

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "many-hosts.md").read_text(encoding="utf-8")
PROGRAMS = ("parallel", "ssh", "ssh-keygen", "sshd")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
CONFIG = """
ListenAddress {host}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
AcceptEnv PYTHONPATH
"""
LOGIN = """
Host gpu1.example
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {folder}/user
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  SendEnv PYTHONPATH
"""


def lines(beginning: str) -> str:
    """The command of the document that begins so."""
    [found] = [block for block in re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL) if block.startswith(beginning)]
    return found.replace("/srv/tritonlab", str(ROOT))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with hosts.txt, whose one host is reached through an sshd of the test's own."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert not missing, f"sudo apt install parallel openssh-client openssh-server, for {', '.join(missing)}"
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    port = ports.choose({})["http"]
    (tmp_path / "sshd_config").write_text(CONFIG.format(host=ports.HOST, port=port, folder=tmp_path))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's sshd locks itself in; its service would make it
    (tmp_path / "ssh_config").write_text(
        LOGIN.format(host=ports.HOST, port=port, folder=tmp_path, user=getpass.getuser())
    )
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec ssh -F {tmp_path}/ssh_config "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts.txt").write_text("gpu1.example\n")
    sshd = str(shutil.which("sshd", path=PATH))
    with subprocess.Popen([sshd, "-D", "-e", "-f", str(tmp_path / "sshd_config")]) as daemon:
        deadline = time.monotonic() + 10
        while ports.is_free(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            yield tmp_path
        finally:
            daemon.terminate()


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PARALLEL_SSH": str(folder / "ssh")}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_list_of_servers_shared_out_among_hosts(server: Server, folder: Path) -> None:
    (folder / "servers.txt").write_text(f"{server.url} gemma\nhttp://127.0.0.1:9 gemma\n")
    command = lines("parallel --sshloginfile").replace("run 03", f"run 03 --runs {folder}/runs")
    done = run(command, folder)
    assert done.returncode == 1, done.stderr
    with (folder / "fleet.tsv").open() as log:
        jobs = {job["Seq"]: job for job in csv.DictReader(log, delimiter="\t")}
    assert {number: job["Exitval"] for number, job in jobs.items()} == {"1": "0", "2": "1"}, done
    assert {job["Host"] for job in jobs.values()} == {"gpu1.example"}
    kept = {file.read_text()[:6].strip() for file in (folder / "fleet").rglob("stdout")}
    assert kept == {"ok", "failed"}
    assert len(list((folder / "runs").glob("*/result.json"))) == 2

    (folder / "servers.txt").write_text(f"{server.url} gemma\n{server.url} tutor\n")  # the second is mended
    again = run(command.replace("--joblog", "--resume-failed --joblog"), folder)
    assert again.returncode == 0, again.stderr
    assert len(list((folder / "runs").glob("*/result.json"))) == 3


def test_each_host_asks_its_own_server(server: Server, folder: Path) -> None:
    command = lines("parallel --nonall").replace("http://127.0.0.1:8000", server.url)
    done = run(command.replace("run 03", f"run 03 --runs {folder}/runs"), folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^gpu1\.example\t\s*ok ", done.stdout), done.stdout


def test_workflow_of_argo_names_the_runbook_and_its_parameters() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    workflow = yaml.safe_load(text)
    templates = {template["name"]: template for template in workflow["spec"]["templates"]}
    assert workflow["spec"]["entrypoint"] in templates
    [[step]] = templates["fleet"]["steps"]
    asked = templates[step["template"]]
    assert [p["name"] for p in step["arguments"]["parameters"]] == [p["name"] for p in asked["inputs"]["parameters"]]
    assert asked["container"]["args"][:2] == ["run", "03"]
