"""Mixedbread: what we send, what we make of the reply."""

from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.tasks import TaskType
from inferd.services.mixedbread import SERVICE

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, RERANK = TaskType.TEXT_EMBEDDING, TaskType.RERANK
SETTINGS = {"api_key": "mxb-very-secret", "model_id": "mxbai-rerank-large-v2"}
BEARER = {"authorization": "Bearer mxb-very-secret"}
RATE = {"rate_limit": {"requests_per_minute": 100}}


class TestMixedbread(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 500})
    cases = (
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            task_settings={"return_documents": False, "top_n": 3},
            inputs=RankQuery(query="star wars", documents=("luke", "like"), top_n=2, return_documents=True),
            path="/v1/reranking",
            headers=BEARER,
            request={
                "model": "mxbai-rerank-large-v2",
                "query": "star wars",
                "input": ["luke", "like"],
                "top_k": 2,
                "return_input": True,
            },
            reply={
                "usage": {"prompt_tokens": 5, "total_tokens": 5},
                "model": "mxbai-rerank-large-v2",
                "data": [
                    {"index": 1, "score": 0.75, "input": "like", "object": "rank_result"},
                    {"index": 0, "score": 0.25, "input": None, "object": "rank_result"},
                ],
                "object": "list",
                "top_k": 2,
                "return_input": True,
            },
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.75, "text": "like"},
                    {"index": 0, "relevance_score": 0.25},
                ]
            },
            shown={
                "model_id": "mxbai-rerank-large-v2",
                "url": "https://api.mixedbread.com/v1/reranking",
                **RATE,
            },
            shown_task={"return_documents": False, "top_n": 3},
        ),
        Case(
            task=RERANK,
            service_settings={**SETTINGS, "url": "{fake}/mine"},
            inputs=RankQuery(query="q", documents=("a",)),
            path="/mine",
            headers=BEARER,
            request={"model": "mxbai-rerank-large-v2", "query": "q", "input": ["a"]},
            reply={"data": [{"index": 0, "score": 1, "input": None}]},
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
            shown={"model_id": "mxbai-rerank-large-v2", "url": "{fake}/mine", **RATE},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "dimensions": 2},
            task_settings={"prompt": "stored"},
            options={"prompt": "asked", "normalized": False},
            inputs=Texts(("how big",), InputType.CLUSTERING),
            path="/v1/embeddings",
            headers=BEARER,
            request={
                "input": ["how big"],
                "model": "mxbai-rerank-large-v2",
                "dimensions": 2,
                "prompt": "asked",
                "normalized": False,
            },
            reply={
                "usage": {"prompt_tokens": 3, "total_tokens": 3},
                "data": [{"embedding": [0.5, 0.25], "index": 0, "object": "embedding"}],
            },
            answer={"text_embedding": [{"embedding": [0.5, 0.25]}]},
            shown={
                "model_id": "mxbai-rerank-large-v2",
                "url": "https://api.mixedbread.com/v1/embeddings",
                "similarity": "cosine",
                "dimensions": 2,
                **RATE,
            },
            shown_task={"prompt": "stored"},
        ),
        Case(
            task=TEXT,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path="/v1/embeddings",
            headers=BEARER,
            request={"input": ["how big"], "model": "mxbai-rerank-large-v2"},
            reply={"data": [{"embedding": [0.5]}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
        ),
    )
    bad = (
        Bad(
            RERANK,
            {"url": "nowhere", "rate_limit": {"requests_per_minute": 0}},
            {"top_n": 0, "return_documents": 1},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
                "[service_settings] Invalid url [nowhere] received for field [url]. Error: unable to parse url [nowhere]. "
                "Reason: the url has no scheme",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "field [return_documents] is not of the expected type. The value [1] cannot be converted to a [Boolean]",
                "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
            ),
        ),
    )
    changes = (
        Change(
            task=RERANK,
            stored=SETTINGS,
            stored_task={"top_n": 3},
            service_settings={"api_key": "another", "rate_limit": {"requests_per_minute": 5}},
            task_settings={"return_documents": True},
            shown={
                "model_id": "mxbai-rerank-large-v2",
                "url": "https://api.mixedbread.com/v1/reranking",
                "rate_limit": {"requests_per_minute": 5},
            },
            shown_task={"top_n": 3, "return_documents": True},
            secrets={"api_key": "another"},
        ),
    )
    refusals = (
        *(
            Refusal(
                task=RERANK,
                status=status,
                body=body,
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for status, body, prefix, attempts in (
                (401, {"message": "not that"}, "Received an authentication error status code", 1),
                (422, {"detail": "not that"}, "Received an unsuccessful status code", 1),
                (429, {"error": {"message": "not that"}}, "Received a rate limit status code", 3),
            )
        ),
        Refusal(
            task=RERANK,
            status=200,
            body={"data": [{"index": 0, "score": 1}]},
            reason="Failed to send Mixedbread rerank request from inference entity id [my-endpoint]. Cause: Failed to parse "
            "the response: Object missing required field `input` - at `$.data[0]`",
            becomes=500,
            attempts=3,
        ),
    )
