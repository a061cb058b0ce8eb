"""A whole server in this process, spoken to over ASGI: the real store, actions and dialect over two services of the tests' own."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from inferd import services
from inferd.actions.house import House
from inferd.api.app import application, guarding, open_house
from inferd.api.guard import Guard, Open
from inferd.api.http import Application
from inferd.config import Config, Security
from inferd.core.secrets import Secret
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import API_KEY, DIMENSIONS, MODEL_ID, SIMILARITY, TOP_N, Kind, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import OPENAI_RULES, chat_fault, openai_fault
from inferd.wire import cohere, openai

PASSWORD = "elastic-password"
"""Of the superuser, where security is on."""

TEMPERATURE = Setting(key="temperature", kind=Kind.INTEGER)


def _sparse_body(ask: Ask) -> dict[str, Any]:
    return {"inputs": list(ask.inputs.texts)}


def test_services(url: str) -> tuple[Service, Service]:
    """``S1`` embeds and cannot stream; ``S2`` does the rest and streams completion and chat_completion."""
    rows = (API_KEY, MODEL_ID, SIMILARITY, DIMENSIONS, rate_limit(1_000_000))
    embed = Call(post=f"{url}/embeddings", body=openai.embeddings_body, reply=openai.embeddings)
    chat = openai.chat_body()
    hugging_face = services.find("hugging_face")
    assert hugging_face is not None
    shared = {
        "settings": rows,
        "auth": bearer,
        "fault": openai_fault,
        "rules": OPENAI_RULES,
        "similarity": "cosine",
        "input_types": frozenset({"search", "ingest", "classification", "clustering"}),
    }
    s1 = Service(
        name="S1", title="S1", calls={TaskType.TEXT_EMBEDDING: embed, TaskType.EMBEDDING: embed}, **shared
    )
    s2 = Service(
        name="S2",
        title="S2",
        calls={
            TaskType.SPARSE_EMBEDDING: Call(
                post=f"{url}/sparse",
                body=_sparse_body,
                reply=hugging_face.calls[TaskType.SPARSE_EMBEDDING].reply,
                options=(TEMPERATURE,),
            ),
            TaskType.RERANK: Call(
                post=f"{url}/rerank", body=cohere.rerank_body, reply=cohere.ranking(), options=(TOP_N,)
            ),
            TaskType.COMPLETION: Call(
                post=f"{url}/chat", body=chat, reply=openai.completion(), chunks=openai.lenient_chunks
            ),
            TaskType.CHAT_COMPLETION: Call(
                post=f"{url}/chat", body=chat, reply=openai.answer, chunks=openai.chunks, fault=chat_fault
            ),
        },
        **shared,
    )
    return s1, s2


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    challenges: list[str] = field(default_factory=list)
    """``WWW-Authenticate``, in order."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """(name, data) of each server-sent event; [DONE] as text."""
        found = []
        for block in self.body.decode().split("\n\n"):
            if block:
                name, data = block.split("\n")
                raw = data.removeprefix("data: ")
                found.append((name.removeprefix("event: "), raw if raw == "[DONE]" else json.loads(raw)))
        return found


@dataclass
class Client:
    """Requests straight into the ASGI application."""

    app: Application
    house: House
    headers: dict[str, str]

    async def __call__(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        path, _, query = target.partition("?")
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {**self.headers, **(headers or {})}
        if raw and "content-type" not in {name.lower() for name in sent}:
            sent["Content-Type"] = "application/json"
        if raw:
            sent["Content-Length"] = str(len(raw))
        return await call(self.app, method, path, query, raw, sent)

    def as_(self, authorization: str | None) -> "Client":
        """The same server for somebody else."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return Client(self.app, self.house, headers)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def call(
    app: Application,
    method: str,
    path: str,
    query: str,
    raw: bytes,
    headers: dict[str, str] | list[tuple[bytes, bytes]],
    **scoped: Any,
) -> Answer:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": quote(path, safe="/%").encode(),
        "query_string": query.encode(),
        "headers": headers
        if isinstance(headers, list)
        else [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        **scoped,
    }
    pending = [{"type": "http.request", "body": raw, "more_body": False}]
    answer = Answer(0, {}, b"")

    async def receive() -> dict[str, Any]:
        if pending:
            return pending.pop(0)
        return await asyncio.get_running_loop().create_future()  # the client stays

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]}
            answer.challenges = [v.decode() for k, v in message["headers"] if k == b"www-authenticate"]
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)  # type: ignore[arg-type]
    return answer


@asynccontextmanager
async def serving(
    folder: Path, model_server: str, *, guard: Guard | None = None, config: Config | None = None
) -> AsyncIterator[Client]:
    config = config or Config(data_dir=str(folder), security=Security(enabled=False))
    async with open_house(config) as house:
        extra = {service.name: service for service in test_services(model_server)}
        house.services = {**services.services(), **extra}
        yield Client(application(house, guard or Open()), house, {})


@asynccontextmanager
async def secured(
    folder: Path, model_server: str = "http://127.0.0.1:9", **more: Any
) -> AsyncIterator[Client]:
    """The same with security on; the client is the superuser. ``more`` goes to the configuration."""
    config = Config(data_dir=str(folder), elastic_password=Secret(PASSWORD), **more)
    async with open_house(config) as house, guarding(house) as guard:
        extra = {service.name: service for service in test_services(model_server)}
        house.services = {**services.services(), **extra}
        yield Client(application(house, guard), house, {"Authorization": basic("elastic", PASSWORD)})


def put_body(service: str, **more: Any) -> dict[str, Any]:
    return {"service": service, "service_settings": {"api_key": "key-1", "model_id": "m"}, **more}


async def create_endpoints(client: Client) -> None:
    """``dense``, ``sparse``, ``rr``, ``comp``, ``chat`` and ``mm``."""
    for task, id, service in (
        ("text_embedding", "dense", "S1"),
        ("sparse_embedding", "sparse", "S2"),
        ("rerank", "rr", "S2"),
        ("completion", "comp", "S2"),
        ("chat_completion", "chat", "S2"),
        ("embedding", "mm", "S1"),
    ):
        answer = await client("PUT", f"/_inference/{task}/{id}", put_body(service))
        assert answer.status == 200, answer.body
