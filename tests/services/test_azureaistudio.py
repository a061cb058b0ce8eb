"""Azure AI Studio: what we send, what we make of the reply."""

from typing import Any

import pytest

from inferd.actions.infer import check_input_type
from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.service import Ask, BadReply, Reply
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.services.azureaistudio import SERVICE
from inferd.upstream.client import rate_group

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, COMPLETION, RERANK = TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.RERANK

KEY = {"api_key": "azure-very-secret"}
RATE = {"rate_limit": {"requests_per_minute": 240}}
TARGET = "https://mine.eastus2.inference.ai.azure.com"


def settings(provider: str, kind: str = "token", target: str = "{fake}", **more: Any) -> dict[str, Any]:
    return {**KEY, "target": target, "provider": provider, "endpoint_type": kind, **more}


def shown(provider: str, kind: str = "token", target: str = "{fake}", **more: Any) -> dict[str, Any]:
    return {"target": target, "provider": provider, "endpoint_type": kind, **more, **RATE}


def chunk(text: str) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": 0, "delta": {"content": text}}]}


STREAM = (chunk("Elás"), chunk("tic"), "[DONE]")
CHUNKS: list[Any] = [{"completion": [{"delta": "Elás"}]}, {"completion": [{"delta": "tic"}]}]


class TestAzureaistudio(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings=settings(
                "openai",
                target="{fake}/mine?api-version=1",
                dimensions=2,
                similarity="cosine",
                max_input_tokens=100,
            ),
            task_settings={"user": "me"},
            inputs=Texts(("how big", "how small"), InputType.SEARCH),
            path="/mine",
            query="api-version=1",
            headers={"api-key": "azure-very-secret"},
            request={
                "input": ["how big", "how small"],
                "user": "me",
                "dimensions": 2,
                "input_type": "query",
            },
            reply={
                "data": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 0]}],
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown=shown(
                "openai",
                target="{fake}/mine?api-version=1",
                dimensions=2,
                similarity="cosine",
                max_input_tokens=100,
            ),
            shown_task={"user": "me"},
        ),
        Case(
            task=TEXT,
            service_settings=settings("Cohere", "TOKEN", "{fake}/"),
            inputs=Texts(("how big",), InputType.INTERNAL_INGEST),
            path="/v1/embeddings",
            headers={"authorization": "azure-very-secret"},
            request={"input": ["how big"], "input_type": "document"},
            reply={"data": [{"embedding": [0.5]}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown=shown("cohere", target="{fake}/", dimensions=1, similarity="dot_product"),
        ),
        Case(
            task=TEXT,
            service_settings=settings("cohere"),
            options={"user": "asked"},
            inputs=Texts(("how big",), InputType.UNSPECIFIED),
            path="/v1/embeddings",
            headers={"authorization": "azure-very-secret"},
            request={"input": ["how big"], "user": "asked"},
            reply={"data": [{"embedding": [0.5]}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
        ),
        Case(
            task=COMPLETION,
            service_settings=settings("meta"),
            task_settings={"temperature": 0.5, "max_new_tokens": 10},
            options={"top_p": 1, "do_sample": True},
            inputs=Texts(("how big",)),
            path="/v1/chat/completions",
            headers={"authorization": "azure-very-secret"},
            request={
                "messages": [{"content": "how big", "role": "user"}],
                "parameters": {"temperature": 0.5, "top_p": 1.0, "do_sample": True, "max_new_tokens": 10},
            },
            reply={"choices": [{"index": 0, "message": {"content": "Elastic", "role": "assistant"}}]},
            answer={"completion": [{"result": "Elastic"}]},
            shown=shown("meta"),
            shown_task={"temperature": 0.5, "max_new_tokens": 10},
            stream=STREAM,
            stream_request={
                "messages": [{"content": "how big", "role": "user"}],
                "parameters": {"temperature": 0.5, "top_p": 1.0, "do_sample": True, "max_new_tokens": 10},
                "stream": True,
            },
            chunks=CHUNKS,
        ),
        Case(
            task=COMPLETION,
            service_settings=settings("mistral", "realtime", "{fake}/score"),
            inputs=Texts(("how big",)),
            path="/score",
            headers={"authorization": "Bearer azure-very-secret"},
            request={
                "input_data": {
                    "input_string": [{"content": "how big", "role": "user"}],
                    "parameters": {"max_new_tokens": 64},
                }
            },
            reply={"more": 1, "Output": "Elastic", "output": "second"},
            answer={"completion": [{"result": "Elastic"}]},
            shown=shown("mistral", "realtime", "{fake}/score"),
            shown_task={"max_new_tokens": 64},
            stream=STREAM,
            stream_request={
                "input_data": {
                    "input_string": [{"content": "how big", "role": "user"}],
                    "parameters": {"max_new_tokens": 64},
                },
                "stream": True,
            },
            chunks=CHUNKS,
        ),
        Case(
            task=COMPLETION,
            service_settings=settings("openai", target="{fake}/whole/address"),
            inputs=Texts(("how big",)),
            path="/whole/address",
            headers={"api-key": "azure-very-secret"},
            request={
                "messages": [{"content": "how big", "role": "user"}],
                "parameters": {"max_new_tokens": 64},
            },
            reply={"choices": [{"message": {"content": "Elastic"}}]},
            answer={"completion": [{"result": "Elastic"}]},
        ),
        Case(
            task=RERANK,
            service_settings=settings("cohere"),
            task_settings={"return_documents": False, "top_n": 3},
            inputs=RankQuery(query="star wars", documents=("luke", "like"), top_n=2, return_documents=True),
            path="/v1/rerank",
            headers={"authorization": "azure-very-secret"},
            request={
                "documents": ["luke", "like"],
                "query": "star wars",
                "return_documents": True,
                "top_n": 2,
            },
            reply={
                "id": "r",
                "results": [
                    {"relevance_score": 0.25, "index": 1, "document": {"text": "like"}},
                    {"relevance_score": 0.75, "index": 0},
                ],
                "meta": {"billed_units": {"search_units": 1}},
            },
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.25, "text": "like"},
                    {"index": 0, "relevance_score": 0.75},
                ]
            },
            shown=shown("cohere"),
            shown_task={"return_documents": False, "top_n": 3},
        ),
        Case(
            task=RERANK,
            service_settings=settings("cohere"),
            inputs=RankQuery(query="q", documents=("a",)),
            path="/v1/rerank",
            headers={"authorization": "azure-very-secret"},
            request={"documents": ["a"], "query": "q"},
            reply={"results": [{"relevance_score": 1, "index": 0}]},
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [target]",
                "[service_settings] does not contain the required setting [provider]",
                "[service_settings] does not contain the required setting [endpoint_type]",
            ),
        ),
        Bad(
            TEXT,
            settings(
                "google",
                "batch",
                "nowhere",
                dimensions=0,
                dimensions_set_by_user=True,
                similarity="x",
                max_input_tokens=0,
                rate_limit={"requests_per_minute": 0},
            ),
            {"user": 5},
            faults=(
                "[service_settings] Invalid url [nowhere] received for field [target]. Error: unable to parse url [nowhere]. "
                "Reason: the url has no scheme",
                "[service_settings] Invalid value [google] received. [provider] must be one of "
                "[cohere, databricks, meta, microsoft_phi, mistral, openai]",
                "[service_settings] Invalid value [batch] received. [endpoint_type] must be one of [realtime, token]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] does not allow the setting [dimensions_set_by_user]",
                "[service_settings] Invalid value [x] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "field [user] is not of the expected type. The value [5] cannot be converted to a [String]",
            ),
        ),
        Bad(
            COMPLETION,
            settings("meta"),
            {"temperature": -0.5, "top_p": 2.5, "do_sample": 1, "max_new_tokens": 0},
            faults=(
                "[task_settings] Invalid value [-0.5]. [temperature] must be a greater than or equal to [0.0]",
                "[task_settings] Invalid value [2.5]. [top_p] must be a less than or equal to [2.0]",
                "field [do_sample] is not of the expected type. The value [1] cannot be converted to a [Boolean]",
                "[task_settings] Invalid value [0]. [max_new_tokens] must be a positive integer",
            ),
        ),
        Bad(
            RERANK,
            settings("openai"),
            reason="The [rerank] task type for provider [openai] is not available",
        ),
        Bad(
            RERANK,
            settings("cohere", "realtime"),
            reason="The [realtime] endpoint type with [rerank] task type for provider [cohere] is not available",
        ),
    )
    changes = (
        Change(
            task=COMPLETION,
            stored=settings("meta", target=TARGET),
            stored_task={"temperature": 0.5},
            service_settings={"api_key": "another", "rate_limit": {"requests_per_minute": 5}},
            task_settings={"top_p": 0.5},
            shown={
                "target": TARGET,
                "provider": "meta",
                "endpoint_type": "token",
                "rate_limit": {"requests_per_minute": 5},
            },
            shown_task={"temperature": 0.5, "max_new_tokens": 64, "top_p": 0.5},
            secrets={"api_key": "another"},
        ),
        Change(
            task=COMPLETION,
            stored=settings("Meta", target=TARGET),
            service_settings={"provider": "META", "endpoint_type": "Token"},
            shown={
                "target": TARGET,
                "provider": "meta",
                "endpoint_type": "token",
                "rate_limit": {"requests_per_minute": 240},
            },
        ),
    )
    refusals = (
        *(
            Refusal(
                task=COMPLETION,
                status=status,
                body={"error": {"message": "not that"}},
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for status, prefix, attempts in (
                (400, "Received a bad request status code", 1),
                (401, "Received an authentication error status code", 1),
                (500, "Received a server error status code", 3),
                (503, "Received a server busy error status code", 3),
            )
        ),
        *(
            Refusal(
                task=RERANK,
                status=200,
                body=body,
                reason=f"Failed to send Azure AI Studio rerank request. Cause: {cause}",
                becomes=500,
                attempts=3,
            )
            for body, cause in (
                ({"id": "r"}, "Failed to find required field [results] in Azure AI Studio rerank response"),
                (
                    {"results": [{"index": 0}]},
                    "Failed to parse the response: Object missing required field `relevance_score` - at `$.results[0]`",
                ),
                (
                    {"results": [{"index": 0, "relevance_score": 1, "document": {"text": "a", "more": 1}}]},
                    "Failed to parse the response: Object contains unknown field `more` - at `$.results[0].document`",
                ),
            )
        ),
    )


def offered(task: TaskType, provider: str, kind: str) -> str:
    try:
        TestAzureaistudio().endpoint(task, settings(provider, kind))
    except StatusError as refused:
        return f"{refused.status}: {refused.reason}"
    return "yes"


PROVIDERS = ("openai", "cohere", "mistral", "meta", "microsoft_phi", "databricks")
OFFERED = {
    (TEXT, "token"): {"openai", "cohere"},
    (TEXT, "realtime"): set(),
    (COMPLETION, "token"): {"openai", "meta", "cohere"},
    (COMPLETION, "realtime"): {"mistral", "meta", "microsoft_phi", "databricks"},
    (RERANK, "token"): {"cohere"},
    (RERANK, "realtime"): set(),
}


@pytest.mark.parametrize(("task", "kind"), OFFERED)
def test_offers(task: TaskType, kind: str) -> None:
    """Which provider does what on which kind of endpoint is known before anything is stored."""
    for provider in PROVIDERS:
        if provider in OFFERED[task, kind]:
            expected = "yes"
        elif any(provider in OFFERED[task, other] for other in ("token", "realtime")):
            expected = f"400: The [{kind}] endpoint type with [{task}] task type for provider [{provider}] is not available"
        else:
            expected = f"400: The [{task}] task type for provider [{provider}] is not available"
        assert offered(task, provider, kind) == expected


def test_no_output() -> None:
    """A realtime answer without output is a parse failure."""
    call = SERVICE.calls[COMPLETION]
    assert call.reply is not None
    endpoint = TestAzureaistudio().endpoint(COMPLETION, settings("mistral", "realtime"))
    ask = Ask(endpoint=endpoint, inputs=Texts(("a",)))
    for body in (b"{}", b'{"output": 5}', b'{"out": "a"}'):
        with pytest.raises(BadReply) as caught:
            call.reply(ask, Reply(status=200, headers={}, body=body))
        assert (
            str(caught.value)
            == "Reached an invalid state while parsing the Azure AI Studio completion response"
        )


def test_input_types() -> None:
    """Only documents and queries are told apart."""
    with pytest.raises(StatusError) as caught:
        check_input_type(SERVICE, Texts(("a",), InputType.CLASSIFICATION))
    assert caught.value.reason == "Input type [classification] is not supported for [Azure AI Studio]"


def test_one_rate_for_a_deployment() -> None:
    """Target, provider, endpoint type and key decide who shares a limit."""

    def group(*args: Any, **more: Any) -> Any:
        return rate_group(SERVICE, TestAzureaistudio().endpoint(COMPLETION, settings(*args, **more)))

    assert group("meta") == group("meta")
    assert len({group("meta"), group("cohere"), group("meta", "realtime"), group("meta", target=TARGET)}) == 4
    assert group("meta") != group("meta", api_key="another")
