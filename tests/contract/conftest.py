"""A house before a provider, without endpoints and with those of api.md section 15."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .house import Client, create_endpoints, serving
from .model_server import running


@pytest.fixture
async def provider() -> AsyncIterator[str]:
    async with running() as url:
        yield url


@pytest.fixture
async def empty(tmp_path: Path, provider: str) -> AsyncIterator[Client]:
    async with serving(tmp_path, provider) as client:
        yield client


@pytest.fixture
async def full(empty: Client) -> Client:
    await create_endpoints(empty)
    return empty
