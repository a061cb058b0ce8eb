"""A small provider called Acme: its service, its fake, and a client that reaches it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, Inputs, Message, RankQuery, Texts
from inferd.core.results import (
    Choice,
    Chunk,
    Completion,
    Delta,
    Embeddings,
    Ranked,
    Ranking,
    Result,
    Sparse,
    SparseVector,
    Usage,
)
from inferd.core.secrets import Secret
from inferd.core.service import Ask, BadReply, Call, Event, Reply, Service
from inferd.core.tasks import TaskType
from inferd.testing import FakeUpstream
from inferd.upstream.auth import bearer
from inferd.upstream.client import Upstream
from inferd.upstream.faults import OPENAI_RULES, chat_fault, openai_fault

KEY = "sk-planted-secret-0123456789"


def _texts(ask: Ask) -> dict[str, Any]:
    assert isinstance(ask.inputs, Texts)
    return {"input": list(ask.inputs.texts)}


def _query(ask: Ask) -> dict[str, Any]:
    assert isinstance(ask.inputs, RankQuery)
    return {"query": ask.inputs.query, "documents": list(ask.inputs.documents)}


def _vectors(ask: Ask, reply: Reply) -> Result:
    body = msgspec.json.decode(reply.body)
    if "vectors" not in body:
        raise BadReply("Required [vectors]")
    tokens = len(body["vectors"])
    return Embeddings(
        vectors=np.array(body["vectors"], dtype=np.float32), usage=Usage(given=tokens, used=tokens)
    )


def _sparse(ask: Ask, reply: Reply) -> Result:
    body = msgspec.json.decode(reply.body)
    return Sparse(
        vectors=tuple(
            SparseVector(tuple(v), np.array(list(v.values()), dtype=np.float32)) for v in body["vectors"]
        )
    )


def _ranking(ask: Ask, reply: Reply) -> Result:
    body = msgspec.json.decode(reply.body)
    return Ranking(items=tuple(Ranked(item["index"], item["score"]) for item in body["results"]))


def _texts_back(ask: Ask, reply: Reply) -> Result:
    return Completion(texts=(msgspec.json.decode(reply.body)["text"],))


def _messages(ask: Ask) -> dict[str, Any]:
    assert isinstance(ask.inputs, Chat)
    return {"messages": [m.content for m in ask.inputs.messages], "stream": ask.stream}


def _chunks(ask: Ask) -> Any:
    def read(event: Event) -> Iterable[Chunk]:
        body = msgspec.json.decode(event.data)
        if "text" not in body:
            raise BadReply("Required [text]")
        delta = Delta(content=body["text"])
        return (Chunk(id="c1", choices=(Choice(delta=delta, finish_reason=body.get("end")),)),)

    return read


SERVICE = Service(
    name="acme",
    title="Acme",
    auth=bearer,
    fault=openai_fault,
    rules=OPENAI_RULES,
    truncates=True,
    calls={
        TaskType.TEXT_EMBEDDING: Call(post="https://api.acme.example/v1/embed", body=_texts, reply=_vectors),
        TaskType.SPARSE_EMBEDDING: Call(
            post="https://api.acme.example/v1/sparse", body=_texts, reply=_sparse
        ),
        TaskType.RERANK: Call(post="https://api.acme.example/v1/rerank", body=_query, reply=_ranking),
        TaskType.COMPLETION: Call(
            post="https://api.acme.example/v1/complete",
            body=_texts,
            reply=_texts_back,
            chunks=_chunks,
            one_input="Acme completion",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post="https://api.acme.example/v1/chat", body=_messages, chunks=_chunks, fault=chat_fault
        ),
    },
)

CHAT = Chat(messages=(Message(role="user", content="hi"),))


@dataclass
class Provider:
    """The provider, as a test sees it."""

    fake: FakeUpstream
    upstream: Upstream
    service: Service = SERVICE
    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, Any] = field(default_factory=lambda: {"api_key": Secret(KEY)})

    def changed(self, **changes: Any) -> None:
        self.service = replace(self.service, **changes)

    def changed_call(self, task: TaskType, **changes: Any) -> None:
        self.changed(calls={**self.service.calls, task: replace(self.service.calls[task], **changes)})

    def ask(self, inputs: Inputs | None = None, task: TaskType = TaskType.TEXT_EMBEDDING, **more: Any) -> Ask:
        endpoint = Endpoint(
            id="e1", task=task, service=self.service.name, settings=dict(self.settings), secrets=self.secrets
        )
        return Ask(endpoint=endpoint, inputs=inputs or Texts(("how big",)), **more)

    async def call(
        self,
        inputs: Inputs | None = None,
        task: TaskType = TaskType.TEXT_EMBEDDING,
        timeout: float = 5.0,
        **more: Any,
    ) -> Any:
        deadline = asyncio.get_running_loop().time() + timeout
        ask = self.ask(inputs, task, **more)
        return await self.upstream.call(self.service, self.service.calls[task], ask, deadline, "5s")

    async def stream(
        self,
        inputs: Inputs | None = None,
        task: TaskType = TaskType.CHAT_COMPLETION,
        timeout: float = 5.0,
    ) -> Any:
        deadline = asyncio.get_running_loop().time() + timeout
        ask = self.ask(inputs or CHAT, task)
        return await self.upstream.stream(self.service, self.service.calls[task], ask, deadline, "5s")
