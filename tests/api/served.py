"""A server on a free port of this machine, for tests that need a real connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from inferd.api.elastic import media, problems
from inferd.api.http import Application, Dialect, Route, Router
from inferd.api.server import Options, Server

DIALECT = Dialect(name="elastic", problem=problems.problem, check=media.check, check_body=media.check_body)


def application(*routes: Route, **more) -> Application:
    return Application(Router([(DIALECT, routes)]), **more)


async def until(true: Callable[[], object]) -> None:
    """Wait for what no event tells of; five seconds at most."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - polled from outside
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(app: Application, **options) -> AsyncIterator[Server]:
    server = Server(app, Options(port=0, **options))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.ready or task.done())
    try:
        yield server
    finally:
        if not app.draining:
            server.stop()
        await task


class Peer:
    """A client that writes bytes and reads them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of the next response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status_line.split()[1]), headers, body

    async def ask(
        self, method: str, path: str, body: bytes = b"", *headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
            if not any(line.lower().startswith("content-type") for line in headers):
                lines.append("Content-Type: application/json")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await self.response()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        await asyncio.wait((asyncio.ensure_future(writer.wait_closed()),))
