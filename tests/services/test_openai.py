"""OpenAI: what we send, what we make of the reply."""

import base64
import struct
from urllib.parse import parse_qs

import pytest
from msgspec.structs import replace

from inferd.core.inputs import Contents, Item, Reasoning, Texts
from inferd.core.results import Embeddings, Usage
from inferd.core.service import Ask, Reply
from inferd.core.settings import wrong_type
from inferd.core.tasks import TaskType
from inferd.services.openai import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

TEXT, EMBEDDING = TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

SETTINGS = {"api_key": "sk-very-secret", "model_id": "the-model"}
BEARER = {"authorization": "Bearer sk-very-secret"}
PACKED = base64.b64encode(struct.pack("<3f", 0.5, -0.25, 0.125)).decode()

OAUTH2 = {
    "client_secret": "very-secret",
    "client_id": "an-app",
    "scopes": ["a", "b"],
    "token_url": "{fake}/token",
    "model_id": "the-model",
}
LIMITS = {
    "x-ratelimit-limit-tokens": "1000",
    "x-ratelimit-remaining-tokens": "0",
    "X-RateLimit-Limit-Requests": "60",
    "x-ratelimit-remaining-requests": "59",
}
WHERE = "[EmbeddingFloatResult] failed to parse field [data]"
LACKS = "Failed to find required field"
IN_CHAT = "in OpenAI chat completions response"
FOR = "for request from inference entity id [my-endpoint]"
POSITIVE = "must be a positive integer"
REQUIRED = "[service_settings] does not contain the required setting [model_id]"
ONE_SECRET = "[service_settings] must have exactly one of [api_key] or [client_secret] field set"
TOGETHER = "[service_settings] all OpenAI OAuth2 fields must be provided together; missing: "
NOT_OAUTH2 = (
    "Cannot update OAuth2 fields as the service was not configured with OAuth2 settings. "
    "Please create a new Inference Endpoint with the OAuth2 settings instead."
)


class TestOpenai(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "organization_id": "org-1",
                "dimensions": 3,
                "similarity": "COSINE",
                "max_input_tokens": 100,
                "rate_limit": {"requests_per_minute": 60000},
            },
            task_settings={"user": "stored", "headers": {"X-Stored": "1"}},
            options={"user": "asked", "headers": {"authorization": "Bearer other", "X-Asked": "2"}},
            inputs=Texts(("how big", "how small")),
            path="/v1/embeddings",
            headers={"authorization": "Bearer other", "openai-organization": "org-1", "x-asked": "2"},
            request={
                "input": ["how big", "how small"],
                "model": "the-model",
                "user": "asked",
                "dimensions": 3,
                "encoding_format": "base64",
            },
            reply={
                "object": "list",
                "data": [
                    {"object": "embedding", "index": 1, "embedding": PACKED},
                    {"object": "embedding", "index": 0, "embedding": [1, 2.0, 0.25]},
                ],
                "model": "m",
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25, 0.125]}, {"embedding": [1.0, 2.0, 0.25]}]},
            shown={
                "model_id": "the-model",
                "organization_id": "org-1",
                "similarity": "cosine",
                "dimensions": 3,
                "max_input_tokens": 100,
                "rate_limit": {"requests_per_minute": 60000},
            },
            shown_task={"user": "stored", "headers": {"X-Stored": "1"}},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "url": "{fake}/elsewhere?x=1"},
            inputs=Texts(("how big",)),
            path="/elsewhere",
            query="x=1",
            headers=BEARER,
            request={"input": ["how big"], "model": "the-model", "encoding_format": "base64"},
            reply={"data": [{"embedding": [0.5, 0.25]}]},
            answer={"text_embedding": [{"embedding": [0.5, 0.25]}]},
            shown={
                "model_id": "the-model",
                "url": "{fake}/elsewhere?x=1",
                "similarity": "dot_product",
                "dimensions": 2,
                "rate_limit": {"requests_per_minute": 3000},
            },
        ),
        Case(
            task=EMBEDDING,
            service_settings=SETTINGS,
            inputs=Contents(((Item("how big"),), (Item("how small"),))),
            path="/v1/embeddings",
            headers=BEARER,
            request={"input": ["how big", "how small"], "model": "the-model", "encoding_format": "base64"},
            reply={"data": [{"embedding": [0.5]}, {"embedding": [0.25]}]},
            answer={"embeddings": [{"embedding": [0.5]}, {"embedding": [0.25]}]},
            shown={
                "model_id": "the-model",
                "similarity": "dot_product",
                "dimensions": 1,
                "rate_limit": {"requests_per_minute": 3000},
            },
        ),
        Case(
            task=COMPLETION,
            service_settings={"api_key": "sk-very-secret", "max_input_tokens": 1},
            task_settings={"model": "the-model", "user": "me"},
            inputs=chat.PROMPT,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.prompt(model="the-model", user="me"),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={
                "model_id": "the-model",
                "max_input_tokens": 1,
                "rate_limit": {"requests_per_minute": 500},
            },
            shown_task={"user": "me"},
            stream=chat.STREAM,
            stream_request=chat.prompt(model="the-model", user="me", stream=True, stream_options=chat.USAGE),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=OAUTH2,
            inputs=replace(
                chat.QUESTION,
                reasoning=Reasoning(effort="low", summary="auto", exclude=True, enabled=True),
                cache_control={"type": "ephemeral"},
                session_id="s",
            ),
            path="/v1/chat/completions",
            headers={"authorization": "Bearer a-token"},
            others={"/token": {"access_token": "a-token", "expires_in": 3600}},
            request=chat.question(tokens="max_completion_tokens", model="the-model", reasoning_effort="low"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={
                "model_id": "the-model",
                "rate_limit": {"requests_per_minute": 500},
                "client_id": "an-app",
                "scopes": ["a", "b"],
                "token_url": "{fake}/token",
            },
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.SHORT,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            stream=chat.STREAM,
            stream_request=chat.short(stream=True, stream_options=chat.USAGE),
            chunks=chat.CHUNKS,
        ),
    )
    bad = (
        Bad(COMPLETION, {}, faults=(REQUIRED, ONE_SECRET)),
        Bad(COMPLETION, {**OAUTH2, "api_key": "sk-1"}, faults=(ONE_SECRET,)),
        Bad(COMPLETION, {"api_key": "sk-1", "model_id": 5}, faults=(wrong_type("model_id", 5, "String"),)),
        Bad(COMPLETION, {**SETTINGS, "client_id": "a"}, faults=(f"{TOGETHER}[scopes, token_url]",)),
        Bad(
            COMPLETION,
            {"client_secret": "s", "model_id": "m"},
            faults=(f"{TOGETHER}[client_id, scopes, token_url]",),
        ),
        Bad(
            COMPLETION,
            {"client_secret": "s", "model_id": "m", "client_id": "a", "scopes": ["b"]},
            faults=(f"{TOGETHER}[token_url]",),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "api_key": "", "dimensions": 0, "max_input_tokens": -1, "similarity": "euclid"},
            faults=(
                "[secret_settings] Invalid value empty string. [api_key] must be a non-empty string",
                "[service_settings] Invalid value [euclid] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                f"[service_settings] Invalid value [0]. [dimensions] {POSITIVE}",
                f"[service_settings] Invalid value [-1]. [max_input_tokens] {POSITIVE}",
                ONE_SECRET,
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions": "5", "rate_limit": {"requests_per_minute": 0}},
            faults=(
                wrong_type("dimensions", "5", "Integer"),
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 5.0, "foo": "bar"}},
            faults=(
                "Rate limit settings contain unknown entries [{foo=bar}]",
                "field [requests_per_minute] is not of one of the expected types. The value [5.0] cannot be "
                "converted to one of [Integer, Long]",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "url": "not a url"},
            faults=(
                "[service_settings] Invalid url [not a url] received for field [url]. Error: unable to parse "
                "url [not a url]. Reason: Illegal character in url",
            ),
        ),
        Bad(
            COMPLETION,
            SETTINGS,
            {"user": "", "headers": {"a": 1}},
            faults=(
                "[task_settings] Invalid value empty string. [user] must be a non-empty string",
                "Map field [headers] has an entry that is not valid, [a => 1]. Value type of [1] is not one "
                "of [String].",
            ),
        ),
        Bad(
            COMPLETION,
            {**SETTINGS, "dimensions": 3},
            reason="Configuration contains settings [{dimensions=3}] unknown to the [openai] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            stored_task={"user": "me", "headers": {"a": "1", "b": "2"}},
            service_settings={
                "api_key": "sk-new",
                "organization_id": "org-2",
                "max_input_tokens": 5,
                "rate_limit": {"requests_per_minute": 7},
                "model_id": "the-model",
            },
            task_settings={"headers": {"c": "3"}},
            shown={
                "model_id": "the-model",
                "organization_id": "org-2",
                "max_input_tokens": 5,
                "rate_limit": {"requests_per_minute": 7},
            },
            shown_task={"user": "me", "headers": {"c": "3"}},
            secrets={"api_key": "sk-new"},
        ),
        Change(
            task=COMPLETION,
            stored=SETTINGS,
            service_settings={"model_id": "another"},
            faults=("[service_settings] does not allow the setting [model_id]",),
        ),
        Change(
            task=COMPLETION,
            stored=SETTINGS,
            task_settings={"model": "another"},
            faults=("[task_settings] does not allow the setting [model_id]",),
        ),
        Change(task=COMPLETION, stored=SETTINGS, service_settings={"client_id": "a"}, faults=(NOT_OAUTH2,)),
        Change(
            task=COMPLETION,
            stored=OAUTH2,
            service_settings={"client_secret": "new", "scopes": ["c"]},
            shown={
                "model_id": "the-model",
                "rate_limit": {"requests_per_minute": 500},
                "client_id": "an-app",
                "scopes": ["c"],
                "token_url": "{fake}/token",
            },
            secrets={"client_secret": "new"},
        ),
        Change(
            task=COMPLETION,
            stored=OAUTH2,
            service_settings={"api_key": "sk-new"},
            secrets={"api_key": "sk-new", "client_secret": None},
        ),
        Change(
            task=COMPLETION,
            stored=SETTINGS,
            service_settings={"nonsense": 1},
            reason="Configuration contains settings [{nonsense=1}] unknown to the [openai] service",
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=400,
            body={"error": {"message": "no"}},
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [no]",
        ),
        Refusal(
            task=TEXT,
            status=400,
            body={"error": {"message": "Too long. Please reduce your prompt; or completion length."}},
            reason=f"Received a content too large status code {FOR} status [400]. "
            "Error message: [Too long. Please reduce your prompt; or completion length.]",
            attempts=3,
        ),
        Refusal(
            task=TEXT,
            status=401,
            body={"error": "no"},
            reason=f"Received an authentication error status code {FOR} status [401]",
        ),
        Refusal(
            task=TEXT,
            status=404,
            body={"error": {"message": "no model"}},
            reason=f"Resource not found at [{{url}}] {FOR} status [404]. Error message: [no model]",
        ),
        Refusal(
            task=TEXT,
            status=413,
            body=b"<html>",
            reason=f"Received a content too large status code {FOR} status [413]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=413,
            reason=f"Received a content too large status code {FOR} status [413]",
        ),
        Refusal(
            task=TEXT,
            status=422,
            reason=f"Received an input validation error response {FOR} status [422]",
        ),
        Refusal(
            task=TEXT,
            status=429,
            headers=LIMITS,
            reason="Received a rate limit status code. Token limit [1000], remaining tokens [0]. "
            f"Request limit [60], remaining requests [59] {FOR} status [429]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=429,
            reason="Received a rate limit status code. Token limit [unknown], remaining tokens [unknown]. "
            f"Request limit [unknown], remaining requests [unknown] {FOR} status [429]",
            attempts=3,
        ),
        Refusal(
            task=TEXT,
            status=500,
            reason=f"Received a server error status code {FOR} status [500]",
            becomes=400,
            attempts=3,
        ),
        Refusal(
            task=TEXT,
            status=502,
            reason=f"Received a server error status code {FOR} status [502]",
            becomes=400,
        ),
        Refusal(
            task=TEXT,
            status=503,
            reason=f"Received a server busy error status code {FOR} status [503]",
            becomes=400,
            attempts=3,
        ),
        Refusal(task=TEXT, status=307, reason=f"Unhandled redirection {FOR} status [307]"),
        Refusal(
            task=TEXT,
            status=418,
            reason=f"Received an unsuccessful status code {FOR} status [418]",
            becomes=400,
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "c"}},
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [no]",
            kind="invalid_request_error",
            code="c",
            param="n",
        ),
        Refusal(
            task=CHAT,
            status=429,
            body={"message": "no"},
            reason="Received a rate limit status code. Token limit [unknown], remaining tokens [unknown]. "
            f"Request limit [unknown], remaining requests [unknown] {FOR} status [429]",
            attempts=3,
            kind="ErrorResponse",
            code="too_many_requests",
        ),
    )
    replies = (
        Broken(TEXT, b"{}", "Required [data]"),
        Broken(TEXT, b'{"usage": 5}', "Required [data]"),
        Broken(TEXT, b'{"data": 5}', "Expected `array`, got `int`"),
        Broken(TEXT, b'{"data": [{"embedding": true}]}', "got token [VALUE_TRUE]"),
        Broken(TEXT, b'{"data": [{"embedding": {}}]}', "got token [START_OBJECT]"),
        Broken(TEXT, b'{"data": [{"embedding": [[1]]}]}', "got token [START_ARRAY]"),
        Broken(TEXT, b'{"data": [{"embedding": null}]}', "got token [VALUE_NULL]"),
        Broken(TEXT, b'{"data": [{}]}', f"{WHERE}: Required [embedding]"),
        Broken(
            TEXT,
            b'{"data": [{"embedding": 5}]}',
            f"{WHERE}: [embedding] expected base64 string or float array, got token [VALUE_NUMBER]",
        ),
        Broken(
            TEXT,
            b'{"data": [{"embedding": [1.0, "2"]}]}',
            f"{WHERE}: [embedding] expected base64 string or float array, got token [VALUE_STRING]",
        ),
        Broken(
            TEXT,
            b'{"data": [{"embedding": "AAAA"}]}',
            f"{WHERE}: [embedding] base64-decoded length [3] is not a multiple of 4",
        ),
        Broken(TEXT, b'{"data": [{"embedding": "AAA"}]}', f"{WHERE}: [embedding] is not valid base64: "),
        Broken(
            TEXT, b'{"data": [{"embedding": "AAA\\nAA=="}]}', f"{WHERE}: [embedding] is not valid base64: "
        ),
        Broken(TEXT, b'{"data": [{"embedding": [1e39]}]}', "not finite"),
        Broken(TEXT, b'{"data": [{"embedding": "AADAfw=="}]}', "not finite"),
        Broken(TEXT, b'{"data": [{"embedding": [1]}, {"embedding": [1, 2]}]}', "differ in length"),
        Broken(COMPLETION, b"{}", f"{LACKS} [choices] {IN_CHAT}"),
        Broken(COMPLETION, b'{"choices": [{}]}', f"{LACKS} [message] {IN_CHAT}"),
        Broken(COMPLETION, b'{"choices": [{"message": {"role": "x"}}]}', f"{LACKS} [content] {IN_CHAT}"),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        case = next(case for case in self.cases if case.task is COMPLETION)
        error = await self.refused(case, fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "OpenAI chat completions only accepts 1 input")
        assert fake.requests == []

    async def test_effort_is_what_reasoning_means_here(self, fake: FakeUpstream) -> None:
        """Reasoning without an effort cannot be asked for."""
        case = next(case for case in self.cases if case.task is CHAT)
        error = await self.refused(case, fake, inputs=replace(chat.SHORT, reasoning=Reasoning(enabled=True)))
        text = "OpenAI chat completion requires [reasoning.effort] to map to [reasoning_effort]"
        assert (error.status, error.reason) == (400, text)

    async def test_only_text_is_embedded(self, fake: FakeUpstream) -> None:
        """The embedding task takes text, one piece to a vector."""
        case = next(case for case in self.cases if case.task is EMBEDDING)
        for group in ((Item("data:image/png;base64,AA==", "image"),), (Item("a"), Item("b"))):
            error = await self.refused(case, fake, inputs=Contents((group,)))
            assert error.status == 400
        assert fake.requests == []

    async def test_many_inputs_are_split(self, fake: FakeUpstream) -> None:
        """More inputs than a request may hold go out in several, and come back in order."""
        case = self.cases[1]
        fake.answer(json={"data": [{"embedding": [0.5]}] * 2048})
        fake.answer(json={"data": [{"embedding": [0.25]}]})
        case = replace(
            case, service_settings={**case.service_settings, "rate_limit": {"requests_per_minute": 10**9}}
        )
        result = await self.ask(case, fake, inputs=Texts(tuple(f"text {n}" for n in range(2049))))
        assert isinstance(result, Embeddings)
        assert result.vectors[:, 0].tolist() == [0.5] * 2048 + [0.25]
        assert sorted(len(request.json["input"]) for request in fake.requests) == [1, 2048]

    async def test_inputs_are_cut_to_the_token_limit(self, fake: FakeUpstream) -> None:
        """Three characters a token leave, and the result says which inputs were cut."""
        case = self.cases[0]
        self.answer(case, fake)
        result = await self.ask(case, fake, inputs=Texts(("a" * 301, "b" * 300)))
        assert isinstance(result, Embeddings)
        assert result.truncated == (0,)
        assert fake.requests[0].json["input"] == ["a" * 300, "b" * 300]

    @pytest.mark.parametrize(
        "name",
        ["Content-Length", "transfer-ENCODING", "Connection", "Expect", "", "a b", "a:b", "ä", "a\r\nb"],
    )
    async def test_headers_of_the_connection(self, fake: FakeUpstream, name: str) -> None:
        """A custom header can not say where a request ends: connections are shared between users."""
        case = self.cases[2]
        self.answer(case, fake)
        error = await self.refused(replace(case, task_settings={"headers": {name: "5"}}), fake)
        assert error.status == 400
        assert f"[{name}]" in error.reason
        assert fake.requests == []

    async def test_token_is_fetched_with_the_client_credentials(self, fake: FakeUpstream) -> None:
        """The token request is a form with the grant, the client and its scopes."""
        case = next(case for case in self.cases if case.others)
        self.answer(case, fake)
        await self.ask(case, fake)
        token = fake.requests[0]
        assert (token.path, token.headers["content-type"]) == ("/token", "application/x-www-form-urlencoded")
        assert parse_qs(token.body.decode()) == {
            "grant_type": ["client_credentials"],
            "client_id": ["an-app"],
            "client_secret": ["very-secret"],
            "scope": ["a b"],
        }

    async def test_strange_usage_does_not_spoil_the_vectors(self, fake: FakeUpstream) -> None:
        """What a provider says about usage in a shape of its own is left out."""
        for vector in ([0.5], "AAAAPw=="):
            fake.forget()
            fake.answer(json={"data": [{"embedding": vector}], "usage": "none"})
            result = await self.ask(self.cases[1], fake)
            assert isinstance(result, Embeddings)
            assert (result.vectors.tolist(), result.usage) == ([[0.5]], None)

    def test_usage_is_read(self) -> None:
        """What the provider counted is part of the result."""
        call = SERVICE.calls[TEXT]
        assert call.reply is not None
        endpoint = self.endpoint(TEXT, SETTINGS)
        body = b'{"data": [{"embedding": [1]}], "usage": {"prompt_tokens": 4, "total_tokens": 5}}'
        result = call.reply(
            Ask(endpoint=endpoint, inputs=chat.PROMPT), Reply(status=200, headers={}, body=body)
        )
        assert result.usage == Usage(given=4, used=4)
