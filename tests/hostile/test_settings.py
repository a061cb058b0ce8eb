"""Any settings of any service: an endpoint, or a 4xx that says why; at PUT, at ``_update`` and in questions."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.house import Client, serving
from hostile.test_fuzz import BY_CONTRACT, VALUES, fuzz
from inferd.config import Config, Security
from inferd.core.service import Service
from inferd.core.settings import Kind, Setting
from inferd.services import services

SERVICES = [service for service in services().values() if service.calls]
LIKELY = st.one_of(
    VALUES,
    st.sampled_from(
        (
            *(
                "m",
                "k" * 40,
                "http://127.0.0.1:1/x",
                "https://{a}.example/${b}",
                "us-east-1",
                "2024-01-01",
                "float",
            ),
            *(1, 2, 384, 0.5, True, {}, [], {"requests_per_minute": 60}, {"enabled": True}, [["a", "b"]]),
        )
    ),
)


CHUNKING = st.one_of(
    VALUES,
    st.just({"strategy": "none"}),
    st.fixed_dictionaries(
        {"strategy": st.sampled_from(("word", "sentence", "recursive"))},
        optional={
            key: st.one_of(st.integers(-1, 300), VALUES)
            for key in ("max_chunk_size", "overlap", "sentence_overlap", "separators", "separator_group")
        },
    ),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[tuple[asyncio.Runner, Client]]:
    """A house whose PUT makes no trial calls."""

    async def opened(stack: AsyncExitStack, folder: Any) -> Client:
        base = Config(data_dir=str(folder), security=Security(enabled=False))
        config = replace(base, api=replace(base.api, skip_validate=True))
        return await stack.enter_async_context(serving(folder, "http://127.0.0.1:1", config=config))

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as loop:
        stack = AsyncExitStack()
        client = loop.run(opened(stack, Path(folder)))
        yield loop, client
        loop.run(stack.aclose())


@st.composite
def endpoints(draw: st.DrawFn) -> tuple[Service, str, dict[str, Any]]:
    """A service, one of its tasks, and a body made of the settings that it knows."""
    service = draw(st.sampled_from(SERVICES))
    task = draw(st.sampled_from(sorted(service.calls)))
    return service, task, {"service": service.name, **draw(parts(service, task))}


def parts(service: Service, task: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"service_settings": _some(service.settings, task)},
        optional={"task_settings": _some(service.calls[task].options, task), "chunking_settings": CHUNKING},
    )


def _some(rows: Sequence[Setting], task: Any) -> st.SearchStrategy[dict[str, Any]]:
    """What is required and some of the rest, as it should be; now and then something that should not."""
    own = [row for row in rows if row.serves(task) and not row.refused and row.read is None]
    needed = {row.key: _fitting(row) for row in own if _needed(row, task)}
    rest = {row.key: _fitting(row) for row in own if row.key not in needed}
    keys = sorted({row.key.partition(".")[0] for row in rows} | {"odd"})
    odd = st.dictionaries(st.sampled_from(keys), LIKELY, max_size=2)
    good = st.fixed_dictionaries(needed, optional=rest).map(_nested)
    return st.one_of(good, st.builds(lambda a, b: {**a, **b}, good, odd))


def _needed(row: Setting, task: Any) -> bool:
    return row.required if isinstance(row.required, bool) else task in row.required


def _fitting(row: Setting) -> st.SearchStrategy[Any]:
    if row.choices:
        return st.sampled_from(row.choices)
    match row.kind:
        case Kind.INTEGER | Kind.LONG:
            return st.sampled_from((1, 2, 4, 384))
        case Kind.DOUBLE:
            return st.sampled_from((0.0, 0.5, 1.0))
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.MAP:
            return st.sampled_from(({}, {"a": "b"}))
        case Kind.LIST:
            return st.sampled_from(([], ["a"]))
    return st.sampled_from(("http://127.0.0.1:1/x",) if row.url else ("m", "k" * 40, "us-east-1", "{a}"))


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """``a.b`` into ``{"a": {"b": …}}``."""
    made: dict[str, Any] = {}
    for key, value in flat.items():
        group, _, name = key.partition(".")
        if name:
            made.setdefault(group, {})[name] = value
        else:
            made[key] = value
    return made


@settings(parent=fuzz, max_examples=60)
@given(drawn=endpoints(), data=st.data())
def test_any_settings(runner: tuple[asyncio.Runner, Client], drawn: Any, data: st.DataObject) -> None:
    """PUT; what was stored is shown, changed by anything, and asked; then deleted."""
    loop, client = runner
    service, task, body = drawn
    path = f"/_inference/{task}/fuzzed"
    loop.run(ask(client, "DELETE", "/_inference/fuzzed"))
    made = loop.run(ask(client, "PUT", path, body))
    if made != 200:
        return
    loop.run(ask(client, "GET", path))
    for _ in range(3):
        change = data.draw(parts(service, task))
        loop.run(ask(client, "PUT", f"{path}/_update", change))
        loop.run(ask(client, "GET", path))
    assert loop.run(ask(client, "DELETE", path)) == 200


async def ask(client: Client, method: str, path: str, body: Any = None) -> int:
    answer = await client(method, path, None if body is None else json.dumps(body).encode())
    if answer.status >= 500:
        assert any(text in answer.body.decode() for text in BY_CONTRACT), (method, path, body, answer.body)
    return answer.status
