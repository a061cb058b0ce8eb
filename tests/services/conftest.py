"""One loopback server a class, and the rows of a class of values as parameters."""

import inspect
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from inferd.testing import FakeUpstream

pytest.register_assert_rewrite("services.base")


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def server() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def fake(server: FakeUpstream) -> FakeUpstream:
    """The server of the class, with nothing left of the test before."""
    server.forget()
    server.left.clear()
    return server


def pytest_itemcollected(item: pytest.Item) -> None:
    """The tests of a class share one event loop, that of its server."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.add_marker(pytest.mark.asyncio(loop_scope="class"), append=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A class without rows of a kind has no test of that kind."""
    empty = [item for item in items if item.name.endswith("[NOTSET]")]
    config.hook.pytest_deselected(items=empty)
    items[:] = [item for item in items if item not in empty]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Rows of values come from the test's class."""
    for name in ("case", "whole", "streamed", "stored", "bad", "change", "refusal", "broken"):
        if name in metafunc.fixturenames:
            rows = metafunc.cls.rows(name)
            metafunc.parametrize(name, rows, ids=[f"{row.task}-{n}" for n, row in enumerate(rows)])
