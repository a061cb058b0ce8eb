"""Voyage AI: what we send, what we make of the reply."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from inferd.actions.infer import check_input_type
from inferd.core.inputs import Contents, InputType, Item, RankQuery, Texts
from inferd.core.service import Ask
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.services.voyageai import SERVICE
from inferd.upstream.client import rate_group

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, EMBEDDING, RERANK = TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING, TaskType.RERANK

SETTINGS = {"api_key": "voyage-very-secret", "model_id": "voyage-3.5"}
MULTIMODAL = {**SETTINGS, "model_id": "voyage-multimodal-3"}
HEADERS = {"authorization": "Bearer voyage-very-secret", "request-source": "unspecified:elasticsearch"}
RATE = {"rate_limit": {"requests_per_minute": 2000}}
PIXEL = "data:image/png;base64,AAAA"


class TestVoyageai(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 500})
    cases = (
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "dimensions": 2, "similarity": "l2_norm", "max_input_tokens": 100},
            task_settings={"input_type": "ingest", "truncation": True},
            options={"truncation": False},
            inputs=Texts(("how big", "how small"), InputType.SEARCH),
            path="/v1/embeddings",
            headers=HEADERS,
            request={
                "input": ["how big", "how small"],
                "model": "voyage-3.5",
                "input_type": "query",
                "truncation": False,
                "output_dimension": 2,
                "output_dtype": "float",
            },
            reply={
                "object": "list",
                "data": [
                    {"object": "embedding", "embedding": [0.5, -0.25], "index": 0},
                    {"object": "embedding", "embedding": [1, 0], "index": 1},
                ],
                "model": "voyage-3.5",
                "usage": {"total_tokens": 10},
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                "model_id": "voyage-3.5",
                "similarity": "l2_norm",
                "dimensions": 2,
                "embedding_type": "float",
                "max_input_tokens": 100,
                **RATE,
            },
            shown_task={"input_type": "ingest", "truncation": True},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "embedding_type": "int8"},
            task_settings={"input_type": "ingest"},
            inputs=Texts(("how big",)),
            path="/v1/embeddings",
            headers=HEADERS,
            request={
                "input": ["how big"],
                "model": "voyage-3.5",
                "input_type": "document",
                "output_dtype": "int8",
            },
            reply={"data": [{"embedding": [127, -128, 0]}], "usage": {"total_tokens": 1}},
            answer={"text_embedding_bytes": [{"embedding": [127, -128, 0]}]},
            shown={
                "model_id": "voyage-3.5",
                "similarity": "dot_product",
                "dimensions": 3,
                "embedding_type": "int8",
                **RATE,
            },
            shown_task={"input_type": "ingest"},
        ),
        Case(
            task=EMBEDDING,
            service_settings=MULTIMODAL,
            inputs=Contents(
                ((Item("how big"), Item(PIXEL, "image")), (Item("data:video/mp4;base64,AA==", "video"),)),
                InputType.INTERNAL_SEARCH,
            ),
            path="/v1/multimodalembeddings",
            headers=HEADERS,
            request={
                "inputs": [
                    {
                        "content": [
                            {"type": "text", "text": "how big"},
                            {"type": "image_base64", "image_base64": PIXEL},
                        ]
                    },
                    {"content": [{"type": "video_base64", "video_base64": "data:video/mp4;base64,AA=="}]},
                ],
                "model": "voyage-multimodal-3",
                "input_type": "query",
                "output_dtype": "float",
            },
            reply={
                "data": [{"embedding": [0.5], "index": 0}, {"embedding": [0.25], "index": 1}],
                "usage": {"text_tokens": 5, "image_pixels": 2000, "total_tokens": 8},
            },
            answer={"embeddings": [{"embedding": [0.5]}, {"embedding": [0.25]}]},
            shown={
                "model_id": "voyage-multimodal-3",
                "similarity": "dot_product",
                "dimensions": 1,
                "embedding_type": "float",
                **RATE,
            },
        ),
        Case(
            task=EMBEDDING,
            service_settings={**SETTINGS, "embedding_type": "Binary", "dimensions": 16},
            inputs=Contents(((Item("how big"),),)),
            path="/v1/embeddings",
            headers=HEADERS,
            request={
                "input": ["how big"],
                "model": "voyage-3.5",
                "output_dimension": 16,
                "output_dtype": "binary",
            },
            reply={"data": [{"embedding": [-1, 1]}]},
            answer={"embeddings_bits": [{"embedding": [-1, 1]}]},
            shown={
                "model_id": "voyage-3.5",
                "similarity": "dot_product",
                "dimensions": 16,
                "embedding_type": "binary",
                **RATE,
            },
        ),
        Case(
            task=RERANK,
            service_settings={**SETTINGS, "model_id": "rerank-2"},
            task_settings={"top_k": 3, "return_documents": True, "truncation": False},
            inputs=RankQuery(query="star wars", documents=("luke", "like")),
            path="/v1/rerank",
            headers=HEADERS,
            request={
                "model": "rerank-2",
                "query": "star wars",
                "documents": ["luke", "like"],
                "return_documents": True,
                "top_k": 3,
                "truncation": False,
            },
            reply={
                "object": "list",
                "data": [
                    {"relevance_score": 0.75, "index": 1, "document": "like"},
                    {"relevance_score": 0.25, "index": 0},
                ],
                "usage": {"total_tokens": 26},
            },
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.75, "text": "like"},
                    {"index": 0, "relevance_score": 0.25},
                ]
            },
            shown={"model_id": "rerank-2", **RATE},
            shown_task={"return_documents": True, "top_k": 3, "truncation": False},
        ),
        Case(
            task=RERANK,
            service_settings={**SETTINGS, "model_id": "rerank-2"},
            task_settings={"top_k": 3},
            inputs=RankQuery(query="q", documents=("a",), top_n=1, return_documents=False),
            path="/v1/rerank",
            headers=HEADERS,
            request={
                "model": "rerank-2",
                "query": "q",
                "documents": ["a"],
                "return_documents": False,
                "top_k": 1,
            },
            reply={"data": [{"relevance_score": 1, "index": 0}]},
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
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
            TEXT,
            {
                **SETTINGS,
                "similarity": "dot",
                "dimensions": -3,
                "embedding_type": "half",
                "max_input_tokens": 0,
                "rate_limit": {"requests_per_minute": -1},
            },
            {"input_type": "clustering", "truncation": "no"},
            faults=(
                "[service_settings] Invalid value [dot] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [-3]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [half] received. [embedding_type] must be one of "
                "[binary, bit, byte, float, int8]",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[rate_limit] Invalid value [-1]. [requests_per_minute] must be a positive long",
                "[task_settings] Invalid value [clustering] received. [input_type] must be one of [ingest, search]",
                "field [truncation] is not of the expected type. The value [no] cannot be converted to a [Boolean]",
            ),
        ),
        Bad(
            RERANK,
            SETTINGS,
            {"top_k": -1, "return_documents": 1},
            faults=(
                "field [return_documents] is not of the expected type. The value [1] cannot be converted to a [Boolean]",
                "[task_settings] Invalid value [-1]. [top_k] must be a positive integer",
            ),
        ),
        Bad(
            RERANK,
            SETTINGS,
            {"top_n": 1},
            reason="Configuration contains settings [{top_n=1}] unknown to the [voyageai] service",
        ),
    )
    changes = (
        Change(
            task=RERANK,
            stored=SETTINGS,
            stored_task={"top_k": 1},
            service_settings={"api_key": "another", "rate_limit": {"requests_per_minute": 9}},
            task_settings={"truncation": True},
            shown={"model_id": "voyage-3.5", "rate_limit": {"requests_per_minute": 9}},
            shown_task={"top_k": 1, "truncation": True},
            secrets={"api_key": "another"},
        ),
    )
    refusals = tuple(
        Refusal(
            task=RERANK,
            status=status,
            body={"detail": "not that"},
            reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. Error message: [not that]",
            attempts=attempts,
        )
        for status, prefix, attempts in (
            (400, "Received an input validation error response", 1),
            (401, "Received an authentication error status code", 1),
            (402, "Payment required", 1),
            (422, "Received an input validation error response", 1),
            (429, "Received a rate limit status code", 3),
            (500, "Received a server error status code", 3),
            (502, "Received a server error status code", 1),
        )
    )

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"detail": message})


def embedding_body(settings: dict[str, Any], inputs: Contents) -> Any:
    call = SERVICE.calls[EMBEDDING]
    assert call.body is not None
    return call.body(Ask(endpoint=TestVoyageai().endpoint(EMBEDDING, settings), inputs=inputs))


def test_text_only_models_refuse_images() -> None:
    """An image for a model that reads text is refused before anything is sent."""
    with pytest.raises(StatusError) as caught:
        embedding_body(SETTINGS, Contents(((Item("a"),), (Item(PIXEL, "image"),))))
    assert (caught.value.status, caught.value.reason) == (400, "Non-text input provided for text-only model")


def test_kinds_that_nobody_reads() -> None:
    """Sound and documents have no place in the provider's format."""
    with pytest.raises(StatusError) as caught:
        embedding_body(MULTIMODAL, Contents(((Item("data:audio/wav;base64,AA==", "audio"),),)))
    assert caught.value.reason == "The [voyageai] service does not support inputs of type [audio]"


def test_stored_dimensions_are_sent() -> None:
    """Dimensions go out once they are stored, also those that PUT found."""
    endpoint = TestVoyageai().endpoint(TEXT, SETTINGS)
    call = SERVICE.calls[TEXT]
    assert call.body is not None
    assert "output_dimension" not in call.body(Ask(endpoint=endpoint, inputs=Texts(("a",))))
    found = replace(endpoint, settings={**endpoint.settings, "dimensions": 5})
    assert call.body(Ask(endpoint=found, inputs=Texts(("a",))))["output_dimension"] == 5


@pytest.mark.parametrize("kind", [InputType.CLASSIFICATION, InputType.CLUSTERING, InputType.UNSPECIFIED])
def test_input_types(kind: InputType) -> None:
    """Only documents and queries are told apart."""
    with pytest.raises(StatusError) as caught:
        check_input_type(SERVICE, Texts(("a",), kind))
    assert caught.value.reason == f"Input type [{kind}] is not supported for [Voyage AI]"
    check_input_type(SERVICE, Texts(("a",)))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("voyage-3", 10),
        ("voyage-4", 10),
        ("voyage-3-lite", 30),
        ("voyage-4-lite", 30),
        ("voyage-2", 72),
        ("voyage-02", 72),
        ("voyage-code-3", 7),
    ],
)
def test_batches(model: str, size: int) -> None:
    """How many chunks go into one request depends on the model."""
    assert callable(SERVICE.embedding_batch)
    endpoint = TestVoyageai().endpoint(TEXT, {**SETTINGS, "model_id": model})
    assert SERVICE.embedding_batch(endpoint) == size


def test_one_rate_for_a_family() -> None:
    """Models of one family and one key share a limit; another key or family has its own."""

    def group(**settings: Any) -> Any:
        return rate_group(SERVICE, TestVoyageai().endpoint(TEXT, {**SETTINGS, **settings}))

    assert group(model_id="voyage-3") == group(model_id="voyage-3-lite")
    assert group(model_id="voyage-3") != group(model_id="voyage-multimodal-3")
    assert group(api_key="one") != group(api_key="two")
