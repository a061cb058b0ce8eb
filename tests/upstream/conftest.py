"""Acme and its fake, for every test of this layer."""

from collections.abc import AsyncIterator, Iterator

import pytest
from acme import Provider
from blockbuster import blockbuster_ctx

from inferd.testing import FakeUpstream


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with FakeUpstream() as fake:
        yield Provider(fake, fake.client("acme"))


@pytest.fixture(autouse=True)
def no_blocking() -> Iterator[None]:
    """A call of ours that blocks the event loop fails the test."""
    with blockbuster_ctx("inferd.upstream"):
        yield
