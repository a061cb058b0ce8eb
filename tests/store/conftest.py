"""A store in a fresh directory, opened as often as a test likes and closed after it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.store import SecretBox, Store


@pytest.fixture(scope="session")
def endpoint() -> Callable[..., Endpoint]:
    def make(id: str, **members: Any) -> Endpoint:
        defaults = {
            "task": TaskType.TEXT_EMBEDDING,
            "service": "openai",
            "settings": {"model_id": "m"},
            "secrets": {"api_key": Secret(f"key of {id}")},
        }
        return Endpoint(id=id, **(defaults | members))

    return make


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """A blocking call of the store's own on the event loop fails the test."""
    with blockbuster_ctx("inferd.store") as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def url(home: Path) -> str:
    return f"sqlite:///{home / 'inferd.db'}"


@pytest.fixture
async def open_store(home: Path, url: str) -> AsyncIterator[Callable[..., Awaitable[Store]]]:
    opened: list[Store] = []

    async def open(box: SecretBox | None = None, **options: Any) -> Store:
        store = await Store.open(url, box or SecretBox.at(home / "secret.key"), **options)
        opened.append(store)
        return store

    yield open
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Callable[..., Awaitable[Store]]) -> Store:
    return await open_store()
