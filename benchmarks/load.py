"""A light closed-loop load: N connections, each sending its next request when the last is answered.

Raw asyncio streams, since a client library on the same cores would be measured along with the server.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Measured:
    """Tokens a second, and of streams the medians of time to first token and inter-token latency in ms."""

    tokens_per_s: float
    ttft_ms: float
    itl_ms: float


def measure(url: str, bodies: list[dict], concurrency: int, tokens: int) -> Measured:
    """Send every body, `concurrency` at a time; each answer has `tokens` tokens. Any status but 200 ends the run."""
    return asyncio.run(_measure(urlsplit(url), bodies, concurrency, tokens))


async def _measure(url, bodies, concurrency, tokens):
    payloads = iter([_request(url, body) for body in bodies])
    timings = []

    async def connection():
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        for payload in payloads:
            started = time.perf_counter()
            writer.write(payload)
            try:
                first, last = await _answer(reader)
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                # A server may close a connection between two requests, and any client then asks again.
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
                writer.write(payload)
                first, last = await _answer(reader)
            timings.append((first - started, last - first))
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(concurrency)))
    seconds = time.perf_counter() - started
    first = statistics.median(first for first, _ in timings)
    gap = statistics.median(rest / (tokens - 1) for _, rest in timings)
    return Measured(len(timings) * tokens / seconds, 1e3 * first, 1e3 * gap)


def _request(url, body):
    data = json.dumps(body).encode()
    head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def _answer(reader):
    """When the first and the last byte of an answer's text came."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if " 200 " not in head.splitlines()[0]:
        raise SystemExit(f"the server refused a request: {head} {await reader.read(500)!r}")
    if "transfer-encoding: chunked" not in head:
        length = int(head.split("content-length:")[1].split()[0])
        await reader.readexactly(length)
        now = time.perf_counter()
        return now, now
    first = last = None
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunk = await reader.readexactly(size + 2)
        if b'"text' in chunk:
            last = time.perf_counter()
            first = first or last
    await reader.readexactly(2)
    return first, last
