"""The house that the dialects' tests ask: local models under ``dense``, ``sparse`` and ``rank``, a provider's under ``chat`` and
``complete``, keys of different rights."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from served import until

from inferd.actions.house import House
from inferd.api.app import application, guarding, open_house
from inferd.api.http import Application
from inferd.api.server import Options, Server
from inferd.config import Api, Config, Security
from inferd.core.secrets import Secret
from inferd.testing import FakeUpstream

LOCAL = {
    "dense": ("text_embedding", ".all-minilm-l6-v2"),
    "sparse": ("sparse_embedding", ".minilm-sparse"),
    "rank": ("rerank", ".rerank-v1"),
}
PASSWORD = "a password of the tests"
CHAT = "/provider/chat/completions"
WHOLE = {
    "id": "c-1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


@dataclass
class Served:
    url: str
    server: Server
    app: Application
    house: House
    fake: FakeUpstream
    http: httpx.AsyncClient
    """Speaks as the superuser."""
    key: str
    """An API key that may do everything."""
    narrow: str
    """An API key that may use ``rank`` only."""

    @property
    def upstream(self) -> Any:
        """The body of the request that the provider got last."""
        return self.fake.requests[-1].json

    def answers(self, json: Any = None, **more: Any) -> None:
        """What the provider will answer, and nothing of before."""
        self.fake.forget()
        self.fake.left.clear()
        self.fake.answer(json, path=CHAT, **more)

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return await self.http.post(path, json=body, headers=headers)


def piece(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One chunk of a provider's stream."""
    given = delta if content is None else {"content": content, **delta}
    return {
        "id": "c-1",
        "model": "m",
        "choices": [{"index": 0, "delta": given, "finish_reason": finish}],
    }


def usage_piece() -> dict[str, Any]:
    return {"id": "c-1", "model": "m", "choices": [], "usage": WHOLE["usage"]}


DONE = "data: [DONE]\n\n"


@asynccontextmanager
async def serving(
    folder: Path, *, local: bool = True, secure: bool = True, **more: Any
) -> AsyncIterator[Served]:
    more = {"api": Api(stream_heartbeat=0.6), **more}
    config = Config(
        data_dir=str(folder),
        security=Security(enabled=secure),
        elastic_password=Secret(PASSWORD) if secure else None,
        **more,
    )
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(config))
        guard = await stack.enter_async_context(guarding(house))
        app = application(house, guard)
        server = Server(app, Options(port=0, drain=2))
        running = asyncio.create_task(server.serve())
        await until(lambda: server.ready or running.done())
        stack.push_async_callback(_stop, server, app, running)
        url = f"http://127.0.0.1:{server.port}"
        fake = await stack.enter_async_context(FakeUpstream())
        http = httpx.AsyncClient(
            base_url=url, auth=("elastic", PASSWORD) if secure else None, timeout=60, trust_env=False
        )
        await stack.enter_async_context(http)
        house.upstream = fake.client()
        found = Served(url, server, app, house, fake, http, "", "")
        if secure:
            found.key = await make_key(http, "all", {"cluster": ["all"]})
            found.narrow = await make_key(
                http, "narrow", {"inference": [{"names": ["rank"], "privileges": ["monitor_inference"]}]}
            )
        await make_endpoints(found, local)
        yield found


async def _stop(server: Server, app: Application, running: "asyncio.Task[None]") -> None:
    if not app.draining:
        server.stop()
    await running


async def make_key(http: httpx.AsyncClient, name: str, role: dict[str, Any]) -> str:
    answer = await http.post("/_security/api_key", json={"name": name, "role_descriptors": {"role": role}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["encoded"])


async def make_endpoints(served: Served, local: bool) -> None:
    for id, (task, model) in LOCAL.items() if local else ():
        settings = {"model_id": model, "num_allocations": 1, "num_threads": 1}
        await put(served.http, task, id, "elasticsearch", settings)
    settings = {"url": served.fake.url + CHAT, "model_id": "m", "api_key": "provider-key"}
    served.answers(sse=[piece("x"), DONE])
    await put(served.http, "chat_completion", "chat", "openai", settings)
    served.answers(WHOLE)
    await put(served.http, "completion", "complete", "openai", settings)


async def put(http: httpx.AsyncClient, task: str, id: str, service: str, settings: dict[str, Any]) -> None:
    body = {"service": service, "service_settings": settings}
    answer = await http.put(f"/_inference/{task}/{id}", json=body)
    assert answer.status_code == 200, answer.text
