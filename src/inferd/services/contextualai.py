"""Contextual AI. https://docs.contextual.ai/api-reference/rerank/rerank (contract: services/contextualai.md)"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from inferd.core.results import Ranked, Ranking, Result
from inferd.core.service import Ask, Call, Reply, Service
from inferd.core.settings import API_KEY, MODEL_ID, RETURN_DOCUMENTS, TOP_N, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import CONTEXTUAL_RULES, openai_fault
from inferd.wire.replies import decode, float32, missing
from inferd.wire.texts import documents, query, top_n


def _body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "query": query(ask),
        "documents": documents(ask),
        "model": ask.settings["model_id"],
    }
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    if ask.options.get("instruction") is not None:
        body["instruction"] = ask.options["instruction"]
    return body


class _Score(Struct):
    index: int
    relevance_score: float


class _Reply(Struct):
    results: list[_Score] | UnsetType = UNSET


_reply = msgspec.json.Decoder(_Reply)


def _ranking(ask: Ask, reply: Reply) -> Result:
    """In the given order, never with a text."""
    results = decode(_reply, reply.body).results
    if results is UNSET:
        raise missing("results", "Contextual AI rerank")
    return Ranking(
        items=tuple(Ranked(index=score.index, score=float32(score.relevance_score)) for score in results)
    )


SERVICE = Service(
    name="contextualai",
    title="Contextual AI",
    settings=(API_KEY, MODEL_ID, rate_limit(1000)),
    auth=bearer,
    fault=openai_fault,
    rules=CONTEXTUAL_RULES,
    replaces_task_settings=True,
    calls={
        TaskType.RERANK: Call(
            post="https://api.contextual.ai/v1/rerank",
            body=_body,
            reply=_ranking,
            options=(
                Setting(key="instruction", label="Instruction"),
                replace(TOP_N, aliases=("top_k",)),
                RETURN_DOCUMENTS,
            ),
            verb="rerank",
        ),
    },
)
