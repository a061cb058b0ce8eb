"""Contextual AI: what we send, what we make of the reply."""

from inferd.core.inputs import RankQuery
from inferd.core.tasks import TaskType
from inferd.services.contextualai import SERVICE

from .base import Bad, Case, Change, Refusal, ServiceTest

RERANK = TaskType.RERANK
SETTINGS = {"api_key": "key-very-secret", "model_id": "ctxl-rerank-v2"}
BEARER = {"authorization": "Bearer key-very-secret"}
RATE = {"rate_limit": {"requests_per_minute": 1000}}


class TestContextualai(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            task_settings={"instruction": "newest first", "top_n": 3, "return_documents": True},
            options={"top_k": 2},
            inputs=RankQuery(query="star wars", documents=("luke", "like"), return_documents=True),
            path="/v1/rerank",
            headers=BEARER,
            request={
                "query": "star wars",
                "documents": ["luke", "like"],
                "model": "ctxl-rerank-v2",
                "top_n": 2,
                "instruction": "newest first",
            },
            reply={
                "results": [
                    {"index": 1, "relevance_score": 0.75, "document": "like"},
                    {"index": 0, "relevance_score": 0.875},
                ]
            },
            answer={
                "rerank": [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.875}]
            },
            shown={"model_id": "ctxl-rerank-v2", **RATE},
            shown_task={"instruction": "newest first", "top_n": 3, "return_documents": True},
        ),
        Case(
            task=RERANK,
            service_settings={**SETTINGS, "rate_limit": {"requests_per_minute": 6000}},
            task_settings={"top_k": 5},
            inputs=RankQuery(query="q", documents=("a",), top_n=1),
            path="/v1/rerank",
            headers=BEARER,
            request={"query": "q", "documents": ["a"], "model": "ctxl-rerank-v2", "top_n": 1},
            reply={"results": [{"index": 0, "relevance_score": 1}]},
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
            shown={"model_id": "ctxl-rerank-v2", "rate_limit": {"requests_per_minute": 6000}},
            shown_task={"top_n": 5},
        ),
    )
    bad = (
        Bad(
            RERANK,
            {"rate_limit": {"requests_per_minute": 0}},
            {"instruction": "", "top_n": 0, "return_documents": "yes"},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "[task_settings] Invalid value empty string. [instruction] must be a non-empty string",
                "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
                "field [return_documents] is not of the expected type. The value [yes] cannot be converted to a [Boolean]",
            ),
        ),
        Bad(
            RERANK,
            {**SETTINGS, "url": "http://elsewhere.test"},
            reason="Configuration contains settings [{url=http://elsewhere.test}] unknown to the [contextualai] service",
        ),
    )
    changes = (
        Change(
            task=RERANK,
            stored=SETTINGS,
            stored_task={"instruction": "newest first", "top_n": 3},
            service_settings={"api_key": "another", "rate_limit": {"requests_per_minute": 5}},
            task_settings={"top_n": 4},
            shown={"model_id": "ctxl-rerank-v2", "rate_limit": {"requests_per_minute": 5}},
            shown_task={"top_n": 4},
            secrets={"api_key": "another"},
        ),
        Change(
            task=RERANK,
            stored=SETTINGS,
            stored_task={"instruction": "newest first"},
            service_settings={"rate_limit": {"requests_per_minute": 5}},
            shown_task={"instruction": "newest first"},
        ),
    )
    refusals = (
        *(
            Refusal(
                task=RERANK,
                status=status,
                body={"error": {"message": "not that"}},
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for status, prefix, attempts in (
                (400, "Received an unsuccessful status code", 1),
                (401, "Received an authentication error status code", 1),
                (413, "Received an unsuccessful status code", 1),
                (422, "Received an unsuccessful status code", 1),
                (429, "Received a rate limit status code", 3),
                (500, "Received a server error status code", 3),
                (502, "Received a server error status code", 1),
                (503, "Received a server error status code", 3),
            )
        ),
        Refusal(
            task=RERANK,
            status=422,
            body={"detail": "another shape"},
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [422]",
        ),
    )
