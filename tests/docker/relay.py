"""Pass connections from a TCP port on loopback on to a unix socket; prints the port."""

import asyncio
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    other_reader, other_writer = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
    for one in (writer, other_writer):
        one.close()


async def main() -> None:
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
