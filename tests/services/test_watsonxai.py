"""IBM watsonx: what we send, what we make of the reply."""

from typing import Any

from inferd.core.inputs import Chat, Function, Message, RankQuery, Texts, Tool
from inferd.core.tasks import TaskType
from inferd.services.watsonxai import SERVICE
from inferd.testing import FakeUpstream
from inferd.upstream.client import rate_group

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, RERANK = TaskType.TEXT_EMBEDDING, TaskType.RERANK
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

SETTINGS = {
    "api_key": "ibm-very-secret+/=",
    "url": "us-south.ml.cloud.ibm.com",
    "api_version": "2024-05-02",
    "model_id": "ibm/slate",
    "project_id": "a-project",
}
SHOWN = {key: SETTINGS[key] for key in ("url", "api_version", "model_id", "project_id")}
RATE = {"rate_limit": {"requests_per_minute": 120}}
BEARER = {"authorization": "Bearer a-token"}
TOKEN = {"/identity/token": {"access_token": "a-token", "expires_in": 3600}}
QUERY = "version=2024-05-02"


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "model_id": "m", "model": "m", "choices": [choice], "created": 1}


STREAM = (chunk({"role": "assistant", "content": "Elás"}), chunk({"content": "tic"}, "stop"))


class TestWatsonxai(ServiceTest):
    service = SERVICE
    retried = frozenset({500})
    cases = (
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "dimensions": 2, "max_input_tokens": 3, "similarity": "cosine"},
            inputs=Texts(("how very big", "how small")),
            path="/ml/v1/text/embeddings",
            query=QUERY,
            headers=BEARER,
            others=TOKEN,
            request={
                "inputs": ["how very ", "how small"],
                "model_id": "ibm/slate",
                "project_id": "a-project",
            },
            reply={
                "model_id": "ibm/slate",
                "created_at": "2024-05-02T16:22:38Z",
                "results": [{"embedding": [0.5, -0.25], "input": "a"}, {"embedding": [1, 0]}],
                "input_token_count": 10,
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={**SHOWN, "max_input_tokens": 3, "dimensions": 2, "similarity": "cosine", **RATE},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "url": "{fake}/gateway/", "api_version": "a&b"},
            inputs=Texts(("how big",)),
            path="/gateway/ml/v1/text/embeddings",
            query="version=a%26b",
            headers=BEARER,
            others=TOKEN,
            request={"inputs": ["how big"], "model_id": "ibm/slate", "project_id": "a-project"},
            reply={"results": [{"embedding": [0.5]}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                **SHOWN,
                "url": "{fake}/gateway/",
                "api_version": "a&b",
                "dimensions": 1,
                "similarity": "dot_product",
                **RATE,
            },
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            task_settings={"top_n": 3, "return_documents": False, "truncate_input_tokens": 50},
            inputs=RankQuery(query="star wars", documents=("luke", "like"), top_n=2, return_documents=True),
            path="/ml/v1/text/reranks",
            query=QUERY,
            headers=BEARER,
            others=TOKEN,
            request={
                "model_id": "ibm/slate",
                "query": "star wars",
                "inputs": [{"text": "luke"}, {"text": "like"}],
                "project_id": "a-project",
                "parameters": {
                    "truncate_input_tokens": 50,
                    "return_options": {"inputs": True, "top_n": 2},
                },
            },
            reply={
                "model_id": "ibm/slate",
                "results": [
                    {"index": 1, "score": 0.25, "input": {"text": "like"}},
                    {"index": 0, "score": 0.75},
                    {},
                ],
                "input_token_count": 318,
            },
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.25, "text": "like"},
                    {"index": 0, "relevance_score": 0.75},
                    {"index": -1, "relevance_score": -1.0},
                ]
            },
            shown={**SHOWN, **RATE},
            shown_task={"top_n": 3, "return_documents": False, "truncate_input_tokens": 50},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery(query="q", documents=("a",)),
            path="/ml/v1/text/reranks",
            query=QUERY,
            headers=BEARER,
            others=TOKEN,
            request={
                "model_id": "ibm/slate",
                "query": "q",
                "inputs": [{"text": "a"}],
                "project_id": "a-project",
                "parameters": {"return_options": {}},
            },
            reply={"results": [{"index": 0, "score": 1}]},
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path="/ml/v1/text/chat",
            query=QUERY,
            headers=BEARER,
            others=TOKEN,
            request={
                "project_id": "a-project",
                "messages": [{"content": "how big", "role": "user"}],
                "model": "ibm/slate",
                "n": 1,
                "stream": False,
            },
            reply={"choices": [{"message": {"content": "Elastic"}}]},
            answer={"completion": [{"result": "Elastic"}]},
            shown={**SHOWN, **RATE},
            stream=STREAM,
            stream_request={
                "project_id": "a-project",
                "messages": [{"content": "how big", "role": "user"}],
                "model": "ibm/slate",
                "n": 1,
                "stream": True,
            },
            chunks=[{"completion": [{"delta": "Elás"}]}, {"completion": [{"delta": "tic"}]}],
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=Chat(
                messages=(Message(role="user", content="how big"),),
                max_completion_tokens=7,
                stop=("end",),
                temperature=0.5,
                top_p=0.25,
                tools=(Tool(Function("f")),),
                tool_choice="auto",
            ),
            path="/ml/v1/text/chat",
            query=QUERY,
            headers=BEARER,
            others=TOKEN,
            request={
                "project_id": "a-project",
                "messages": [{"content": "how big", "role": "user"}],
                "stop": ["end"],
                "temperature": 0.5,
                "tool_choice": "auto",
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "top_p": 0.25,
                "max_tokens": 7,
                "model": "ibm/slate",
                "n": 1,
                "stream": False,
            },
            reply={
                "id": "c1",
                "model": "m",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "E"}, "finish_reason": "stop"}
                ],
            },
            answer={
                "id": "c1",
                "choices": [
                    {"message": {"content": "E", "role": "assistant"}, "finish_reason": "stop", "index": 0}
                ],
                "model": "m",
                "object": "chat.completion",
            },
            shown={**SHOWN, **RATE},
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=Chat(messages=(Message(role="user", content="how big"),)),
            path="/ml/v1/text/chat",
            query=QUERY,
            headers=BEARER,
            others=TOKEN,
            stream=STREAM,
            stream_request={
                "project_id": "a-project",
                "messages": [{"content": "how big", "role": "user"}],
                "model": "ibm/slate",
                "n": 1,
                "stream": True,
            },
            chunks=[
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "Elás", "role": "assistant"}, "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "tic"}, "finish_reason": "stop", "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
            ],
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [url]",
                "[service_settings] does not contain the required setting [api_version]",
                "[service_settings] does not contain the required setting [model_id]",
                "[service_settings] does not contain the required setting [project_id]",
            ),
        ),
        Bad(
            TEXT,
            {
                **SETTINGS,
                "url": "a host",
                "dimensions": 0,
                "similarity": "x",
                "max_input_tokens": 0,
                "rate_limit": {"requests_per_minute": 0},
            },
            faults=(
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [x] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "[service_settings] Invalid url [a host] received for field [url]. Error: unable to parse url [a host]. "
                "Reason: Illegal character in url",
            ),
        ),
        *(
            Bad(
                TEXT,
                {**SETTINGS, "url": url},
                faults=(
                    f"[service_settings] Invalid url [{shown}] received for field [url]. Error: unable to parse url [{shown}]. "
                    "Reason: a url is shown to everyone who may read the endpoint and holds no user and no password",
                ),
            )
            for url, shown in (
                ("luke:sesame@host", "******@host"),
                ("https://luke:sesame@host/a", "https://******@host/a"),
            )
        ),
        Bad(
            RERANK,
            SETTINGS,
            {"top_n": 0, "truncate_input_tokens": -1, "return_documents": 1},
            faults=(
                "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
                "field [return_documents] is not of the expected type. The value [1] cannot be converted to a [Boolean]",
                "[task_settings] Invalid value [-1]. [truncate_input_tokens] must be a positive integer",
            ),
        ),
    )
    changes = (
        Change(
            task=RERANK,
            stored=SETTINGS,
            stored_task={"top_n": 1},
            service_settings={"api_key": "another", "rate_limit": {"requests_per_minute": 5}},
            task_settings={"truncate_input_tokens": 5},
            shown={**SHOWN, "rate_limit": {"requests_per_minute": 5}},
            shown_task={"top_n": 1, "truncate_input_tokens": 5},
            secrets={"api_key": "another"},
        ),
    )
    refusals = (
        *(
            Refusal(
                task=TEXT,
                status=status,
                body={"error": {"message": "not that"}},
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for status, prefix, attempts in (
                (400, "Received a bad request status code", 1),
                (401, "Received an authentication error status code", 1),
                (403, "Received a permission denied error status code", 1),
                (413, "Received an unsuccessful status code", 1),
                (429, "Received an unsuccessful status code", 1),
                (500, "Received a server error status code", 3),
                (503, "Received an unsuccessful status code", 1),
            )
        ),
        Refusal(
            task=RERANK,
            status=404,
            body={"errors": [{"code": "model_not_supported", "message": "no"}], "trace": "t"},
            reason="Resource not found at [{url}] for request from inference entity id [my-endpoint] status [404]",
        ),
        Refusal(
            task=COMPLETION,
            status=400,
            body={"error": {}},
            reason="Received a bad request status code for request from inference entity id [my-endpoint] status [400]. "
            "Error message: []",
        ),
        Refusal(
            task=CHAT,
            status=401,
            body={"error": {"message": "not that"}},
            reason="Received an authentication error status code for request from inference entity id [my-endpoint] "
            "status [401]. Error message: [not that]",
            kind="watsonx_error",
            code="unauthorized",
        ),
        Refusal(
            task=RERANK,
            status=200,
            body={"model_id": "m"},
            reason="Failed to send IBM Watsonx rerank request. Cause: Failed to find required field [results] in "
            "Watsonx rerank response",
            becomes=500,
            attempts=3,
        ),
        Refusal(
            task=RERANK,
            status=200,
            body={"results": [{"index": 0, "score": 1, "more": 1}]},
            reason="Failed to send IBM Watsonx rerank request. Cause: Failed to parse the response: "
            "Object contains unknown field `more` - at `$.results[0]`",
            becomes=500,
            attempts=3,
        ),
    )

    async def test_token_exchange(self, fake: FakeUpstream) -> None:
        """The key is exchanged for a token in the documented form."""
        case = self.cases[0]
        self.answer(case, fake)
        await self.ask(case, fake)
        (exchange,) = (request for request in fake.requests if request.path == "/identity/token")
        assert exchange.method == "POST"
        assert exchange.headers["content-type"] == "application/x-www-form-urlencoded"
        assert exchange.body == (
            b"grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey=ibm-very-secret+/="
        )

    async def test_refused_exchange(self, fake: FakeUpstream) -> None:
        """A refused exchange is told in words of its own and ends the call."""
        case = self.cases[2]
        fake.answer(status=400, json={"errorCode": "BXNIM0415E"}, path="/identity/token")
        error = await self.refused(case, fake)
        assert error.status == 400
        assert error.reason.startswith(
            "Received a bad request status code for request to generate Bearer Token from inference entity id "
            "[my-endpoint] status [400]"
        )
        assert not self.asked(case, fake)


def test_one_rate_for_a_project() -> None:
    """Model, address and project decide who shares a limit."""

    def group(**settings: Any) -> Any:
        return rate_group(SERVICE, TestWatsonxai().endpoint(TEXT, {**SETTINGS, **settings}))

    assert group(api_key="one") == group(api_key="two")
    assert group(project_id="a") != group(project_id="b")
