"""Jina AI: what we send, what we make of the reply."""

from typing import Any

import msgspec
import pytest

from inferd.core.inputs import Contents, InputType, Item, RankQuery, Texts
from inferd.core.service import Ask
from inferd.core.tasks import TaskType
from inferd.services.jinaai import LATE_CHUNKING_WORDS, SERVICE

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, EMBEDDING, RERANK = TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING, TaskType.RERANK

SETTINGS = {"api_key": "jina-very-secret", "model_id": "jina-embeddings-v3"}
HEADERS = {"authorization": "Bearer jina-very-secret", "request-source": "unspecified:elasticsearch"}
RATE = {"rate_limit": {"requests_per_minute": 2000}}
PIXEL = "data:image/png;base64,AAAA"


class TestJinaai(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 500})
    cases = (
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "dimensions": 2, "similarity": "COSINE", "max_input_tokens": 100},
            task_settings={"input_type": "search", "late_chunking": False},
            options={"late_chunking": True},
            inputs=Texts(("how big", "how small"), InputType.INGEST),
            path="/v1/embeddings",
            headers=HEADERS,
            request={
                "input": ["how big", "how small"],
                "model": "jina-embeddings-v3",
                "embedding_type": "float",
                "task": "retrieval.passage",
                "late_chunking": True,
                "dimensions": 2,
            },
            reply={
                "model": "jina-embeddings-v3",
                "object": "list",
                "usage": {"total_tokens": 6, "prompt_tokens": 6},
                "data": [
                    {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
                    {"object": "embedding", "index": 1, "embedding": [1, 0]},
                ],
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                "model_id": "jina-embeddings-v3",
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
                "embedding_type": "float",
                **RATE,
            },
            shown_task={"input_type": "search", "late_chunking": False},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "embedding_type": "BIT"},
            inputs=Texts(("how big",)),
            path="/v1/embeddings",
            headers=HEADERS,
            request={"input": ["how big"], "model": "jina-embeddings-v3", "embedding_type": "binary"},
            reply={"data": [{"index": 0, "embedding": [127, -128, 0]}], "usage": {"total_tokens": 3}},
            answer={"text_embedding_bits": [{"embedding": [127, -128, 0]}]},
            shown={
                "model_id": "jina-embeddings-v3",
                "similarity": "l2_norm",
                "dimensions": 24,
                "embedding_type": "bit",
                **RATE,
            },
        ),
        Case(
            task=EMBEDDING,
            service_settings={"api_key": "jina-very-secret", "model_id": "jina-clip-v2"},
            task_settings={"late_chunking": True},
            inputs=Contents(
                ((Item("how big"),), (Item(PIXEL, "image"),), (Item("a"), Item(PIXEL, "image"))),
                InputType.SEARCH,
            ),
            path="/v1/embeddings",
            headers=HEADERS,
            request={
                "input": [
                    {"text": "how big"},
                    {"image": PIXEL},
                    {"content": [{"text": "a"}, {"image": PIXEL}]},
                ],
                "model": "jina-clip-v2",
                "embedding_type": "float",
                "task": "retrieval.query",
                "late_chunking": False,
            },
            reply={"data": [{"embedding": [0.5]}, {"embedding": [0.25]}, {"embedding": [0.125]}]},
            answer={"embeddings": [{"embedding": [0.5]}, {"embedding": [0.25]}, {"embedding": [0.125]}]},
            shown={
                "model_id": "jina-clip-v2",
                "similarity": "dot_product",
                "dimensions": 1,
                "embedding_type": "float",
                **RATE,
                "multimodal_model": True,
            },
            shown_task={"late_chunking": True},
        ),
        Case(
            task=EMBEDDING,
            service_settings={**SETTINGS, "multimodal_model": False, "embedding_type": "binary"},
            inputs=Contents(((Item("how big"),),), InputType.CLUSTERING),
            path="/v1/embeddings",
            headers=HEADERS,
            request={
                "input": ["how big"],
                "model": "jina-embeddings-v3",
                "embedding_type": "binary",
                "task": "separation",
            },
            reply={"data": [{"embedding": [1]}]},
            answer={"embeddings_bits": [{"embedding": [1]}]},
            shown={
                "model_id": "jina-embeddings-v3",
                "similarity": "l2_norm",
                "dimensions": 8,
                "embedding_type": "binary",
                **RATE,
                "multimodal_model": False,
            },
        ),
        Case(
            task=RERANK,
            service_settings={"api_key": "jina-very-secret", "model_id": "jina-reranker-v2"},
            task_settings={"top_n": 3, "return_documents": False},
            inputs=RankQuery(query="star wars", documents=("luke", "like"), top_n=2, return_documents=True),
            path="/v1/rerank",
            headers=HEADERS,
            request={
                "model": "jina-reranker-v2",
                "query": "star wars",
                "documents": ["luke", "like"],
                "return_documents": True,
                "top_n": 2,
            },
            reply={
                "model": "jina-reranker-v2",
                "usage": {"total_tokens": 15},
                "results": [
                    {"index": 0, "relevance_score": 0.75, "document": {"text": "luke"}},
                    {"index": 1, "relevance_score": 0.25, "document": "like"},
                ],
            },
            answer={
                "rerank": [
                    {"index": 0, "relevance_score": 0.75, "text": "luke"},
                    {"index": 1, "relevance_score": 0.25, "text": "like"},
                ]
            },
            shown={"model_id": "jina-reranker-v2", **RATE},
            shown_task={"return_documents": False, "top_n": 3},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery(query="q", documents=("a",)),
            path="/v1/rerank",
            headers=HEADERS,
            request={"model": "jina-embeddings-v3", "query": "q", "documents": ["a"]},
            reply={"results": [{"index": 0, "relevance_score": -1}]},
            answer={"rerank": [{"index": 0, "relevance_score": -1.0}]},
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
            ),
        ),
        Bad(
            EMBEDDING,
            {
                **SETTINGS,
                "dimensions": 0,
                "similarity": "jaccard",
                "max_input_tokens": -1,
                "embedding_type": "int8",
                "rate_limit": {"requests_per_minute": 0},
                "multimodal_model": "yes",
            },
            {"input_type": "query", "late_chunking": 1},
            faults=(
                "[service_settings] Invalid value [jaccard] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [-1]. [max_input_tokens] must be a positive integer",
                "[service_settings] Invalid value [int8] received. [embedding_type] must be one of [binary, bit, float]",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "field [multimodal_model] is not of the expected type. The value [yes] cannot be converted to a [Boolean]",
                "[task_settings] Invalid value [query] received. [input_type] must be one of "
                "[classification, clustering, ingest, search]",
                "field [late_chunking] is not of the expected type. The value [1] cannot be converted to a [Boolean]",
            ),
        ),
        Bad(
            RERANK,
            SETTINGS,
            {"top_n": 0},
            faults=("[task_settings] Invalid value [0]. [top_n] must be a positive integer",),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "multimodal_model": True},
            reason="Configuration contains settings [{multimodal_model=true}] unknown to the [jinaai] service",
        ),
        Bad(
            RERANK,
            {**SETTINGS, "dimensions": 3},
            reason="Configuration contains settings [{dimensions=3}] unknown to the [jinaai] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            stored_task={"input_type": "ingest"},
            service_settings={
                "api_key": "another",
                "max_input_tokens": 5,
                "rate_limit": {"requests_per_minute": 3},
            },
            task_settings={"late_chunking": True},
            shown={
                "model_id": "jina-embeddings-v3",
                "max_input_tokens": 5,
                "embedding_type": "float",
                "rate_limit": {"requests_per_minute": 3},
            },
            shown_task={"input_type": "ingest", "late_chunking": True},
            secrets={"api_key": "another"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"model_id": "another"},
            faults=("[service_settings] does not allow the setting [model_id]",),
        ),
    )
    refusals = (
        *(
            Refusal(
                task=TEXT,
                status=status,
                body={"detail": "not that"},
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for status, prefix, attempts in (
                (400, "Received an input validation error response", 1),
                (401, "Received an authentication error status code", 1),
                (402, "Payment required", 1),
                (413, "Received an unsuccessful status code", 1),
                (422, "Received an input validation error response", 1),
                (429, "Received a rate limit status code", 3),
                (500, "Received a server error status code", 3),
                (503, "Received a server error status code", 1),
            )
        ),
        Refusal(
            task=RERANK,
            status=404,
            body={"detail": [{"loc": ["body"], "msg": "no"}]},
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [404]",
        ),
    )

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"detail": message})


def body(inputs: Any, settings: dict[str, Any] = SETTINGS, **options: Any) -> dict[str, Any]:
    endpoint = TestJinaai().endpoint(TEXT, settings)
    call = SERVICE.calls[TEXT]
    assert call.body is not None
    made: dict[str, Any] = call.body(Ask(endpoint=endpoint, inputs=inputs, options=options))
    return made


@pytest.mark.parametrize(
    ("given", "kept", "task", "clip"),
    [
        (InputType.INGEST, "search", "retrieval.passage", None),
        (InputType.INTERNAL_INGEST, "search", "retrieval.passage", None),
        (InputType.INTERNAL_SEARCH, None, "retrieval.query", "retrieval.query"),
        (InputType.CLASSIFICATION, None, "classification", None),
        (InputType.UNSPECIFIED, "clustering", "separation", None),
        (InputType.UNSPECIFIED, None, None, None),
        (None, "search", "retrieval.query", "retrieval.query"),
        (None, None, None, None),
    ],
)
def test_task(given: InputType | None, kept: str | None, task: str | None, clip: str | None) -> None:
    """The request's input type wins over the stored one; jina-clip-v2 only hears of queries."""
    inputs = Texts(("a",), given)
    options = {"input_type": kept} if kept else {}
    assert body(inputs, **options).get("task") == task
    assert body(inputs, {**SETTINGS, "model_id": "jina-clip-v2"}, **options).get("task") == clip


def test_late_chunking_has_a_limit() -> None:
    """Late chunking is asked for as long as all words together fit the model's window."""
    half = "word " * (LATE_CHUNKING_WORDS // 2)
    assert body(Texts((half, half)), late_chunking=True)["late_chunking"] is True
    assert body(Texts((half, half, "more")), late_chunking=True)["late_chunking"] is False
    assert body(Texts((half,)), late_chunking=False)["late_chunking"] is False
    assert "late_chunking" not in body(Texts((half,)))


def test_detected_dimensions_stay_here() -> None:
    """Dimensions that PUT found are not sent; only those that the user asked for."""
    assert "dimensions" not in body(Texts(("a",)))
    assert body(Texts(("a",)), {**SETTINGS, "dimensions": 7})["dimensions"] == 7
