"""The whole application on a free port of this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from contract.house import Client
from inferd.api.server import Options, Server


@asynccontextmanager
async def listening(root: Client, **options: Any) -> AsyncIterator[str]:
    server = Server(root.app, Options(port=0, drain=1, **options))
    task = asyncio.create_task(server.serve())
    while not server.ready:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.005)
    try:
        yield f"{'https' if 'cert' in options else 'http'}://127.0.0.1:{server.port}"
    finally:
        server.stop()
        await task
