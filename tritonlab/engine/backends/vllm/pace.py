"""How long a stream waits before it sends more, so that sending never keeps vLLM's outputs from being fetched."""

import asyncio
import math
import os

# How much of this process' time sending the pieces of streams may take. Beyond that pieces wait for each other and go
# out together. The fewer cores there are, the less: what a piece costs Triton and the client then costs vLLM as well.
SENDING_SHARE = min(0.03 * len(os.sched_getaffinity(0)), 0.25)
# A wait shorter than this costs more in switching than it saves in sending.
SHORTEST_WAIT_S = 0.002


class Pace:
    """The pace of all streams of a model. `streams` is how many there are; whoever begins or ends one counts it."""

    def __init__(self):
        self.streams = 0
        self._send_s = 0.0002  # a running mean

    def sent(self, seconds):
        """A response went out, in so many seconds."""
        # A send that was held up counts as two at the most: the mean must not remember it for long.
        self._send_s += (min(seconds, 2 * self._send_s) - self._send_s) / 64

    async def wait(self, came, seconds, limit):
        """Wait until a stream's next response is due.

        `came` tokens came in `seconds` since the first; `limit` is how many there will be at the most.
        """
        if self.streams < 2:  # one alone never waits
            return
        end = (limit - came) * seconds / (came - 1) if came > 1 and seconds else math.inf
        wait = min(self.streams * self._send_s / SENDING_SHARE, end)
        if wait > SHORTEST_WAIT_S:
            await asyncio.sleep(wait)
