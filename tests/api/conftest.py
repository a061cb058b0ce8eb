"""A whole server on loopback, one for all: local models, a fake provider, security on."""

import pytest_asyncio
from dialects import Served, serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(tmp_path_factory) -> Served:
    async with serving(tmp_path_factory.mktemp("data")) as found:
        yield found
