"""JupyterHub for a workshop on one Linux host; README.md beside this file says how to set it up.

Everybody has an account on the host, a home with a copy of the hand-out, and servers of their own. The course and its
engine are installed once, and nobody but root may change them.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

COURSE = Path(os.environ.get("TRITONLAB_COURSE", "/opt/tritonlab"))  # the checkout, set up with `make setup`
ENGINE = os.environ.get("TRITONLAB_ENGINE", "/opt/tritonlab-engine")
HANDOUT = Path(os.environ.get("TRITONLAB_HANDOUT", "/opt/tritonlab-handout"))
IDLE_S = 1800
THREADS = 2  # of a person's engine; times the people, about the host's cores

c = get_config()  # noqa: F821  JupyterHub gives it

# On loopback: put a web server with TLS before it. Not JupyterHub's usual 8000 and 8001, which are Triton's too.
c.JupyterHub.bind_url = "http://127.0.0.1:8890"
c.JupyterHub.hub_port = 8891
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8892"
c.JupyterHub.concurrent_spawn_limit = 10
c.PAMAuthenticator.allowed_groups = {"workshop"}

c.Spawner.cmd = [str(COURSE / ".venv" / "bin" / "jupyterhub-singleuser")]
c.Spawner.notebook_dir = "~/course"
c.Spawner.default_url = "/lab/tree/notebooks/00-start-here.ipynb"
c.Spawner.start_timeout = 120
# Nothing of root's own environment, such as a token.
c.Spawner.env_keep = ["LANG", "LC_ALL"]
c.Spawner.environment = {
    "PATH": f"{COURSE / '.venv' / 'bin'}:{os.defpath}",
    "TRITONLAB_ENGINE": ENGINE,
    # Left alone, every engine would bind its threads to the same cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": str(THREADS),
}
# A kernel that nobody uses ends, and with it the Triton server that it started: 3 GB are free again.
c.Spawner.args = [
    f"--MappingKernelManager.cull_idle_timeout={IDLE_S}",
    "--MappingKernelManager.cull_interval=60",
    "--MappingKernelManager.cull_connected=True",
]


def give_handout(spawner: Any) -> None:
    """Copy the hand-out into a home that has none; as its owner, so that no link in it leads root astray."""
    person = pwd.getpwnam(spawner.user.name)
    course = Path(person.pw_dir) / "course"
    subprocess.run(
        ["runuser", "-u", person.pw_name, "--", "sh", "-c", 'test -e "$2" || cp -R "$1" "$2"', "sh", HANDOUT, course],
        check=True,
    )


c.Spawner.pre_spawn_hook = give_handout
