"""What is cleaned up after a server; after real ones that are killed: tests/integration/test_lifecycle.py."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

from tritonlab.servers import leftovers


def test_a_region_that_is_made_while_its_server_is_cleaned_up_goes_too() -> None:
    server_id = secrets.token_hex(4)
    region = Path("/dev/shm", f"{leftovers.shm_prefix(server_id)}late")
    late = threading.Timer(leftovers.DYING_S / 2, region.touch)
    late.start()
    leftovers.clean(server_id)
    late.join()
    try:
        assert not region.exists()
    finally:
        region.unlink(missing_ok=True)
