"""Alibaba Cloud AI Search: what we send, what we make of the reply."""

from typing import Any

import msgspec
import pytest

from inferd.actions.infer import check_input_type
from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.service import Ask
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.services.alibabacloud_ai_search import SERVICE
from inferd.upstream.client import rate_group

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, SPARSE = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING
RERANK, COMPLETION = TaskType.RERANK, TaskType.COMPLETION

SETTINGS = {
    "api_key": "ali-very-secret",
    "service_id": "ops-text-embedding-001",
    "host": "default-j01.platform-cn-shanghai.opensearch.aliyuncs.com",
    "workspace": "default",
}
SHOWN = {key: SETTINGS[key] for key in ("service_id", "host", "workspace")}
BEARER = {"authorization": "Bearer ali-very-secret"}
RATE = {"rate_limit": {"requests_per_minute": 1000}}
ROOT = "/v3/openapi/workspaces/default"


def result(**members: Any) -> dict[str, Any]:
    return {"request_id": "r", "latency": 38, "usage": {"token_count": 7}, "result": members}


def unreadable(task: TaskType, what: str, body: Any, cause: str) -> Refusal:
    return Refusal(
        task=task,
        status=200,
        body=body,
        reason=f"Failed to send AlibabaCloud Search {what} request. Cause: {cause}",
        becomes=500,
        attempts=3,
    )


def lacks(task: TaskType, what: str, field: str, body: Any) -> Refusal:
    answer = what.removeprefix("text ")
    return unreadable(
        task, what, body, f"Failed to find required field [{field}] in AlibabaCloud Search {answer} response"
    )


class TestAlibaba(ServiceTest):
    service = SERVICE
    retried = frozenset({429})
    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "http_schema": "http",
                "dimensions": 2,
                "similarity": "cosine",
                "max_input_tokens": 100,
            },
            task_settings={"input_type": "ingest"},
            inputs=Texts(("how big", "how small"), InputType.SEARCH),
            path=f"{ROOT}/text-embedding/ops-text-embedding-001",
            headers=BEARER,
            request={"input": ["how big", "how small"], "input_type": "query"},
            reply=result(
                embeddings=[{"index": 1, "embedding": [0.5, -0.25]}, {"index": 0, "embedding": [1, 0]}]
            ),
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                **SHOWN,
                "http_schema": "http",
                **RATE,
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
            },
            shown_task={"input_type": "ingest"},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "workspace": "a/b", "service_id": "ä?"},
            inputs=Texts(("how big",)),
            path="/v3/openapi/workspaces/a%2Fb/text-embedding/%C3%A4%3F",
            headers=BEARER,
            request={"input": ["how big"]},
            reply=result(embeddings=[{"embedding": [0.5]}]),
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                **SHOWN,
                "workspace": "a/b",
                "service_id": "ä?",
                **RATE,
                "similarity": "dot_product",
                "dimensions": 1,
            },
        ),
        Case(
            task=SPARSE,
            service_settings=SETTINGS,
            task_settings={"input_type": "ingest", "return_token": True},
            inputs=Texts(("how big", "how small")),
            path=f"{ROOT}/text-sparse-embedding/ops-text-embedding-001",
            headers=BEARER,
            request={"input": ["how big", "how small"], "input_type": "document", "return_token": True},
            reply=result(
                sparse_embeddings=[
                    {
                        "index": 0,
                        "embedding": [
                            {"token_id": 6, "weight": 0.25, "token": "how"},
                            {"token_id": 163040, "weight": 0.5, "token": "big"},
                            {"token_id": 7, "weight": 0.5, "token": "a.b"},
                            {"token_id": 8, "weight": 0, "token": "zero"},
                            {"token_id": 9, "weight": -1, "token": "negative"},
                            {"token_id": 10, "weight": 1, "token": None},
                            {"token_id": 11, "weight": 1, "token": ""},
                        ],
                    },
                    {
                        "embedding": [
                            {"token_id": 6, "weight": 0.25},
                            {"token_id": 6, "weight": 0.75},
                            {"weight": 1},
                        ]
                    },
                ]
            ),
            answer={
                "sparse_embedding": [
                    {"is_truncated": False, "embedding": {"big": 0.5, "how": 0.25}},
                    {"is_truncated": False, "embedding": {"6": 0.75}},
                ]
            },
            shown={**SHOWN, **RATE},
            shown_task={"input_type": "ingest", "return_token": True},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery(query="star wars", documents=("luke", "like"), top_n=1, return_documents=True),
            path=f"{ROOT}/ranker/ops-text-embedding-001",
            headers=BEARER,
            request={"query": "star wars", "docs": ["luke", "like"]},
            reply={
                "request_id": "r",
                "latency": 38,
                "usage": {"doc_count": 2},
                "result": {"scores": [{"index": 1, "score": 0.25}, {"index": 0, "score": 0.75}]},
            },
            answer={"rerank": [{"index": 1, "relevance_score": 0.25}, {"index": 0, "relevance_score": 0.75}]},
            shown={**SHOWN, **RATE},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            task_settings={"parameters": {"top_p": 0.5, "seed": 1}},
            options={"parameters": {"seed": 2, "nested": {"a": [1]}}},
            inputs=Texts(("hello", "hi there", "how big")),
            path=f"{ROOT}/text-generation/ops-text-embedding-001",
            headers=BEARER,
            request={
                "messages": [
                    {"role": "user", "content": "hello"},
                    {"role": "assistant", "content": "hi there"},
                    {"role": "user", "content": "how big"},
                ],
                "parameters": {"top_p": 0.5, "seed": 2, "nested": {"a": [1]}},
            },
            reply={
                "request_id": "r",
                "latency": 564.9,
                "result": {"text": "Elastic"},
                "usage": {"output_tokens": 3, "input_tokens": 9, "total_tokens": 12},
            },
            answer={"completion": [{"result": "Elastic"}]},
            shown={**SHOWN, **RATE},
            shown_task={"parameters": {"top_p": 0.5, "seed": 1}},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path=f"{ROOT}/text-generation/ops-text-embedding-001",
            headers=BEARER,
            request={"messages": [{"role": "user", "content": "how big"}]},
            reply=result(text="Elastic"),
            answer={"completion": [{"result": "Elastic"}]},
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [service_id]",
                "[service_settings] does not contain the required setting [host]",
                "[service_settings] does not contain the required setting [workspace]",
            ),
        ),
        Bad(
            TEXT,
            {
                **SETTINGS,
                "host": "a b",
                "http_schema": "ftp",
                "dimensions": 0,
                "similarity": "x",
                "max_input_tokens": 0,
                "rate_limit": {"requests_per_minute": 0},
            },
            {"input_type": "clustering"},
            faults=(
                "Invalid value for [http_schema]. Must be one of [https, http]",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "[service_settings] Invalid value [x] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[task_settings] Invalid value [clustering] received. [input_type] must be one of [ingest, search]",
                "[service_settings] Invalid url [a b] received for field [host]. Error: unable to parse url [a b]. "
                "Reason: Illegal character in url",
            ),
        ),
        Bad(
            SPARSE,
            {**SETTINGS, "host": "luke:sesame@host"},
            faults=(
                "[service_settings] Invalid url [******@host] received for field [host]. Error: unable to parse url "
                "[******@host]. Reason: a url is shown to everyone who may read the endpoint and holds no user and no "
                "password",
            ),
        ),
        Bad(
            SPARSE,
            {**SETTINGS, "http_schema": 5},
            {"return_token": "yes"},
            faults=(
                "field [http_schema] is not of the expected type. The value [5] cannot be converted to a [String]",
                "field [return_token] is not of the expected type. The value [yes] cannot be converted to a [Boolean]",
            ),
        ),
        Bad(
            COMPLETION,
            SETTINGS,
            {"parameters": "fast"},
            faults=(
                "field [parameters] is not of the expected type. The value [fast] cannot be converted to a [Map]",
            ),
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"api_key": "another", "max_input_tokens": 5},
            task_settings={"input_type": "search"},
            shown={**SHOWN, **RATE, "max_input_tokens": 5},
            shown_task={"input_type": "search"},
            secrets={"api_key": "another"},
        ),
    )
    refusals = (
        *(
            Refusal(
                task=TEXT,
                status=status,
                body={"request_id": "r", "latency": 0, "code": "InvalidParameter", "message": "not that"},
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for status, prefix, attempts in (
                (400, "Received an unsuccessful status code", 1),
                (401, "Received an authentication error status code", 1),
                (413, "Received an unsuccessful status code", 1),
                (429, "Received a rate limit status code", 3),
                (500, "Received a server error status code", 1),
                (503, "Received a server error status code", 1),
            )
        ),
        lacks(TEXT, "text embeddings", "result", {"request_id": "r"}),
        lacks(TEXT, "text embeddings", "embeddings", {"result": {}}),
        lacks(TEXT, "text embeddings", "embedding", {"result": {"embeddings": [{"index": 0}]}}),
        lacks(SPARSE, "sparse embeddings", "result", {}),
        lacks(SPARSE, "sparse embeddings", "sparse_embeddings", {"result": {}}),
        lacks(SPARSE, "sparse embeddings", "embedding", {"result": {"sparse_embeddings": [{}]}}),
        lacks(RERANK, "rerank", "result", {}),
        lacks(RERANK, "rerank", "scores", {"result": {}}),
        lacks(COMPLETION, "completion", "result", {}),
        lacks(COMPLETION, "completion", "text", {"result": {}}),
        unreadable(
            RERANK,
            "rerank",
            {"result": {"scores": [{"index": 0, "score": 1, "more": 1}]}},
            "Failed to parse the response: Object contains unknown field `more` - at `$.result.scores[0]`",
        ),
    )

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"request_id": "r", "latency": 0, "code": "X", "message": message})


@pytest.mark.parametrize("count", [2, 4])
def test_history_comes_in_pairs(count: int) -> None:
    """A conversation ends with the user's question, so its parts are an odd number."""
    call = SERVICE.calls[COMPLETION]
    assert call.body is not None
    endpoint = TestAlibaba().endpoint(COMPLETION, SETTINGS)
    with pytest.raises(StatusError) as caught:
        call.body(Ask(endpoint=endpoint, inputs=Texts(("a",) * count)))
    assert caught.value.status == 400
    assert caught.value.reason == (
        "Alibaba Completion's inputs must be an odd number. The last input is the current query, all preceding "
        "inputs are the completion history as pairs of user input and the assistant's response."
    )


@pytest.mark.parametrize("kind", [InputType.CLASSIFICATION, InputType.CLUSTERING, InputType.UNSPECIFIED])
def test_input_types(kind: InputType) -> None:
    """Only documents and queries are told apart."""
    with pytest.raises(StatusError) as caught:
        check_input_type(SERVICE, Texts(("a",), kind))
    assert caught.value.reason == f"Input type [{kind}] is not supported for [AlibabaCloud AI Search]"


def test_scheme() -> None:
    """Requests leave over https unless the endpoint says otherwise."""

    def url(**settings: Any) -> str:
        post = SERVICE.calls[RERANK].post
        assert callable(post)
        endpoint = TestAlibaba().endpoint(RERANK, {**SETTINGS, **settings})
        return post(Ask(endpoint=endpoint, inputs=RankQuery(query="q", documents=("a",))))

    assert url().startswith("https://default-j01.")
    assert url(http_schema="http").startswith("http://default-j01.")


def test_one_rate_for_a_model() -> None:
    """Host, workspace, model and key decide who shares a limit."""

    def group(**settings: Any) -> Any:
        return rate_group(SERVICE, TestAlibaba().endpoint(TEXT, {**SETTINGS, **settings}))

    assert group() == group(max_input_tokens=4)
    for key in ("api_key", "host", "workspace", "service_id"):
        assert group() != group(**{key: "another"})
