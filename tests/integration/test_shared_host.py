"""Two people on one machine, each with an account of their own, and one engine that neither may change."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tritonlab.engine import Engine, installer
from tritonlab.workshop import handout

ROOT = Path(__file__).parents[2]
ANSWER = "Sunlight holds all colours"
# What tritonlab needs of this machine, made reachable for others where it lies in a folder that is closed to them, such
# as /root: in a mount namespace of their own, so that nothing is changed for anybody else.
OPENED = """
set -eu
umask 022
scratch=$1 closed=$2; shift 2
if [ -n "$closed" ]; then
  count=0
  for path in $NEEDED; do count=$((count + 1)); mkdir -p "$scratch/$count"; mount --bind "$path" "$scratch/$count"; done
  for folder in $closed; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
  count=0
  for path in $NEEDED; do count=$((count + 1)); mkdir -p "$path"; mount --bind "$scratch/$count" "$path"; done
fi
exec setpriv --reuid "$WHO" --regid "$WHO" --init-groups --no-new-privs --reset-env -- /usr/bin/env -C "$WHERE" "$@"
"""
HOLDER = """
import json, sys
from tritonlab import ModelRepository, VllmModel, serve, tutor_model
repository = ModelRepository("model_repository")
repository.add(VllmModel("tutor", model=tutor_model(), dtype="bfloat16", enforce_eager=True, max_model_len=1024))
with serve(repository, ["tutor"], "local") as server:
    server.wait_ready(quiet=True)
    facts = {"id": server.id, "url": server.url, "grpc": server.grpc_url, "metrics": server.metrics_url}
    print(json.dumps({**facts, "pids": list(server.processes())}), flush=True)
    for line in sys.stdin:
        print(json.dumps(server.client.generate("tutor", line.strip(), max_tokens=64).text), flush=True)
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes accounts; .ci/run is root")


@dataclass(frozen=True)
class Person:
    """An account, its home with a hand-out of the course in it, and the package that it uses."""

    name: str
    home: Path
    package: Path

    def command(self, *words: str) -> list[str]:
        """The command line that runs `words` as this person, in their hand-out, with an environment of their own."""
        needed = {Path(sys.base_prefix), Path(sys.prefix), Path(sys.executable).parent, ROOT, installer.engines_path()}
        needed = {path for path in needed if not any(other in path.parents for other in needed)}
        closed = {next(folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001)
                  for path in needed if not all(folder.stat().st_mode & 0o001 for folder in path.parents)}  # fmt: skip
        environment = {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "PYTHONPATH": str(self.package),
            "TRITONLAB_ENGINE": str(installer.engines_path()),
        }
        own = {"WHO": self.name, "WHERE": str(self.home / "course"), "NEEDED": " ".join(map(str, sorted(needed)))}
        return [
            *(
                "env",
                *(f"{name}={value}" for name, value in own.items()),
                "unshare",
                "--mount",
                "sh",
                "-c",
                OPENED,
                "sh",
            ),
            *(str(self.home / ".mounts"), " ".join(map(str, sorted(closed)))),
            *(f"{name}={value}" for name, value in environment.items()),
            *words,
        ]

    def tritonlab(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(sys.executable, "-m", "tritonlab", *words),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def processes(self) -> list[str]:
        """What runs as this person."""
        user, found = pwd.getpwnam(self.name).pw_uid, []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.uids().real == user and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
        return found


@contextmanager
def person(place: Path, package: Path | None = None) -> Iterator[Person]:
    name = f"tl-{secrets.token_hex(3)}"
    home = place / name
    subprocess.run(["useradd", "--create-home", "--home-dir", str(home), name], check=True, capture_output=True)
    try:
        handout.make(home / "course", ["00"])
        if package is None:  # one who has a checkout of their own
            package = home / "checkout"
            shutil.copytree(ROOT / "tritonlab", package / "tritonlab", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chown", "-R", f"{name}:", str(home)], check=True)
        who = Person(name, home, package)
        yield who
        assert who.processes() == []
    finally:
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)
        assert not home.exists()


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the homes lie: pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="tritonlab-homes-"))
    folder.chmod(0o755)
    yield folder
    folder.rmdir()


def ask(server: subprocess.Popen[str], question: str) -> str:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{question}\n")
    server.stdin.flush()
    return str(json.loads(server.stdout.readline()))


def test_two_people_share_a_host(place: Path) -> None:
    engine = Engine.find().path
    before = sorted(path.name for path in engine.iterdir())
    with ExitStack() as stack:
        people = [stack.enter_context(person(place, package)) for package in (ROOT, None)]
        servers = []
        for who in people:
            command = who.command(sys.executable, "-c", HOLDER)
            holding = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(holding)  # it ends when its standard input does
            servers.append(holding)
        facts = [json.loads(holding.stdout.readline()) for holding in servers if holding.stdout]
        addresses = {fact[service] for fact in facts for service in ("url", "grpc", "metrics")}
        assert len(addresses) == 6
        for holding in servers:
            assert ANSWER in ask(holding, "Why is the sky blue?")

        for who, own, other in ((people[0], *facts), (people[1], *reversed(facts))):
            listed = who.tritonlab("ps").stdout
            assert (own["id"] in listed, other["id"] in listed) == (True, False), listed
            refused = who.tritonlab("stop", other["id"])
            assert (refused.returncode, f"There is no server '{other['id']}'" in refused.stderr) == (1, True)
            kill = f"import os; os.kill({other['pids'][0]}, 9)"
            killed = subprocess.run(
                who.command(sys.executable, "-c", kill), capture_output=True, text=True, check=False
            )
            assert "PermissionError" in killed.stderr
        stopped = people[0].tritonlab("stop", "--all")
        assert (stopped.returncode, stopped.stdout) == (0, f"stopped {facts[0]['id']}\n")
        assert servers[0].stdin is not None
        servers[0].stdin.close()
        servers[0].wait(60)
        assert people[0].processes() == []
        assert ANSWER in ask(servers[1], "Why is the sky blue?"), "the other's goes on"

        for who in people:
            installed = who.tritonlab("engine", "install")
            assert (installed.returncode, str(engine) in installed.stdout) == (0, True), installed.stderr
            removed = who.tritonlab("engine", "remove")
            assert (removed.returncode, "You may not write to" in removed.stderr) == (1, True)
            looked = who.tritonlab("doctor", "--target", "local")
            assert looked.returncode == 0, looked.stdout
    assert sorted(path.name for path in engine.iterdir()) == before
