"""Amazon Bedrock: what we send, what we make of the reply."""

import hashlib
import hmac
from typing import Any
from unittest.mock import ANY
from urllib.parse import quote

import msgspec
import pytest

from inferd.actions.house import Deadline
from inferd.actions.put import verify
from inferd.actions.update import merge
from inferd.core.inputs import (
    Chat,
    Function,
    FunctionCall,
    InputType,
    Message,
    TextPart,
    Texts,
    Tool,
    ToolCall,
)
from inferd.core.tasks import TaskType
from inferd.errors import StatusError, UpstreamError, UpstreamFailure
from inferd.services.amazonbedrock import SERVICE
from inferd.testing import FakeUpstream, Received, aws_frame

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT = TaskType.TEXT_EMBEDDING
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

KEYS = {"access_key": "AKIAEXAMPLE", "secret_key": "wJalrXUtnFEMI"}
PLACE = {"region": "eu-west-1", "model": "a.model-v1:0"}
CLAUDE = {**KEYS, **PLACE, "provider": "anthropic"}
TITAN = {**KEYS, **PLACE, "provider": "AmazonTitan"}
COHERE = {**KEYS, **PLACE, "provider": "cohere"}
SIGNED = {"x-amz-date": ANY, "authorization": ANY}
MODEL = "/model/a.model-v1%3A0"
QUESTION = Chat(messages=(Message(role="user", content="how big"),))


def shown(provider: str, **more: Any) -> dict[str, Any]:
    return {**PLACE, "provider": provider, "rate_limit": {"requests_per_minute": 240}, **more}


def event(name: str, payload: Any) -> bytes:
    body = msgspec.json.encode(payload)
    return aws_frame(body, message_type="event", event_type=name, content_type="application/json")


def exception(name: str, message: str) -> bytes:
    body = msgspec.json.encode({"message": message})
    return aws_frame(body, message_type="exception", exception_type=name, content_type="application/json")


STREAM = b"".join(
    (
        event("messageStart", {"role": "assistant"}),
        event("contentBlockDelta", {"delta": {"text": "Größe"}, "contentBlockIndex": 0}),
        event("contentBlockDelta", {"delta": {"text": " 🔎"}, "contentBlockIndex": 0}),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        event("somethingNew", {"p": "abc"}),
        event("messageStop", {"stopReason": "end_turn"}),
        event(
            "metadata",
            {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 1}},
        ),
    )
)
TOOL_STREAM = b"".join(
    (
        event("messageStart", {"role": "assistant"}),
        event("contentBlockDelta", {"delta": {"text": "Hm"}, "contentBlockIndex": 0}),
        event(
            "contentBlockStart",
            {"start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}, "contentBlockIndex": 1},
        ),
        event(
            "contentBlockDelta", {"delta": {"toolUse": {"input": '{"city":"Köln"}'}}, "contentBlockIndex": 1}
        ),
        event("messageStop", {"stopReason": "tool_use"}),
        event(
            "metadata",
            {
                "usage": {
                    "inputTokens": 3,
                    "outputTokens": 4,
                    "totalTokens": 17,
                    "cacheReadInputTokens": 8,
                    "cacheWriteInputTokens": 2,
                }
            },
        ),
    )
)


def chunk(delta: dict[str, Any] | None, index: int = 0, **more: Any) -> dict[str, Any]:
    finish = {"finish_reason": more.pop("finish")} if "finish" in more else {}
    choices = [] if delta is None else [{"delta": delta, **finish, "index": index}]
    return {
        "id": ANY,
        "choices": choices,
        "model": "a.model-v1:0",
        "object": "chat.completion.chunk",
        **more,
    }


CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Größe"}, {"text": "!"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
    "metrics": {"latencyMs": 1},
}


def signature(got: Received, secret: str, service: str, region: str = "eu-west-1") -> str:
    """The signature that Amazon would compute, by its public description, of the request as it came."""
    names = got.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    lines = "".join(f"{name}:{got.headers[name]}\n" for name in names.split(";"))
    body = hashlib.sha256(got.body).hexdigest()
    canonical = f"POST\n{quote(got.path, safe='/')}\n\n{lines}\n{names}\n{body}"
    stamp = got.headers["x-amz-date"]
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


class TestAmazonBedrock(ServiceTest):
    service = SERVICE
    refusal_texts = False
    statuses = dict.fromkeys((302, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 502, 503, 529), 500)

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"message": message})

    cases = (
        Case(
            task=TEXT,
            service_settings={**TITAN, "max_input_tokens": 2},
            inputs=Texts(("how big",), input_type=InputType.CLUSTERING),
            path=f"{MODEL}/invoke",
            headers=SIGNED,
            request={"inputText": "how bi"},
            reply={"embedding": [0.5, -0.25], "inputTextTokenCount": 3},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}]},
            shown=shown("AMAZONTITAN", dimensions=2, max_input_tokens=2, similarity="cosine"),
        ),
        Case(
            task=TEXT,
            service_settings=COHERE,
            task_settings={"truncate": "end"},
            inputs=Texts(("how big", "is it"), input_type=InputType.SEARCH),
            path=f"{MODEL}/invoke",
            headers=SIGNED,
            request={"texts": ["how big", "is it"], "input_type": "search_query", "truncate": "END"},
            reply={
                "embeddings": [[0.5, -0.25], [1, 0.0]],
                "id": "x",
                "response_type": "embeddings_floats",
                "texts": ["how big", "is it"],
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown=shown("COHERE", dimensions=2, similarity="dot_product"),
            shown_task={"truncate": "END"},
        ),
        Case(
            task=TEXT,
            service_settings={**COHERE, "similarity": "l2_norm", "model": "arn:aws:bedrock:eu:1:model/x"},
            inputs=Texts(("how big",)),
            path="/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Amodel%2Fx/invoke",
            headers=SIGNED,
            request={"texts": ["how big"], "input_type": "search_document"},
            reply={"embeddings": [[0.5]]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={**shown("COHERE", dimensions=1, similarity="l2_norm"), "model": "arn:aws:bedrock:eu:1:model/x"},
        ),
        Case(
            task=COMPLETION,
            service_settings=CLAUDE,
            task_settings={"temperature": 0.5, "top_p": 1, "top_k": 0.5, "max_new_tokens": 128},
            options={"temperature": 0.25},
            inputs=Texts(("how big", "is it")),
            path=f"{MODEL}/converse",
            headers=SIGNED,
            request={
                "messages": [
                    {"role": "user", "content": [{"text": "how big"}]},
                    {"role": "user", "content": [{"text": "is it"}]},
                ],
                "inferenceConfig": {"temperature": 0.25, "topP": 1.0, "maxTokens": 128},
                "additionalModelResponseFieldPaths": ['{"top_k":0.500000}'],
            },
            reply=CONVERSED,
            answer={"completion": [{"result": "Größe"}, {"result": "!"}]},
            shown=shown("ANTHROPIC"),
            shown_task={"max_new_tokens": 128, "temperature": 0.5, "top_p": 1.0, "top_k": 0.5},
        ),
        Case(
            task=COMPLETION,
            service_settings={**CLAUDE, "provider": "meta", "region": "cn-north-1"},
            inputs=Texts(("how big",)),
            path=f"{MODEL}/converse",
            stream_path=f"{MODEL}/converse-stream",
            headers=SIGNED,
            request={
                "messages": [{"role": "user", "content": [{"text": "how big"}]}],
                "inferenceConfig": {"maxTokens": 64},
            },
            reply=CONVERSED,
            answer={"completion": [{"result": "Größe"}, {"result": "!"}]},
            stream=STREAM,
            stream_request={
                "messages": [{"role": "user", "content": [{"text": "how big"}]}],
                "inferenceConfig": {"maxTokens": 64},
            },
            chunks=[{"completion": [{"delta": "Größe"}]}, {"completion": [{"delta": " 🔎"}]}],
        ),
        Case(
            task=CHAT,
            service_settings=CLAUDE,
            inputs=Chat(
                messages=(
                    Message(role="system", content="Be brief."),
                    Message(role="user", content=(TextPart("how"), TextPart(""), TextPart("big"))),
                    Message(role="assistant", content="Hm", tool_calls=(ToolCall("t1", FunctionCall("f", '{"a":1}')),)),
                    Message(role="tool", content="42", tool_call_id="t1"),
                ),
                max_completion_tokens=100,
                stop=("end",),
                temperature=0.25,
                top_p=0.75,
                tools=(Tool(Function("f", description="d", parameters={"type": "object"}, strict=True)), Tool(Function("g"))),
                tool_choice="required",
            ),
            path=f"{MODEL}/converse",
            headers=SIGNED,
            request={
                "messages": [
                    {"role": "user", "content": [{"text": "how"}, {"text": "big"}]},
                    {
                        "role": "assistant",
                        "content": [{"text": "Hm"}, {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}}],
                    },
                    {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "42"}]}}]},
                ],
                "system": [{"text": "Be brief."}],
                "toolConfig": {
                    "tools": [
                        {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object"}}}},
                        {"toolSpec": {"name": "g", "inputSchema": {"json": {}}}},
                    ],
                    "toolChoice": {"any": {}},
                },
                "inferenceConfig": {
                    "temperature": 0.25,
                    "topP": 0.75,
                    "maxTokens": 100,
                    "stopSequences": ["end"],
                },
            },
            reply=CONVERSED,
            answer={
                "id": ANY,
                "choices": [{"message": {"content": "Größe!", "role": "assistant"}, "finish_reason": "stop", "index": 0}],
                "model": "a.model-v1:0",
                "object": "chat.completion",
                "usage": {"completion_tokens": 4, "prompt_tokens": 3, "total_tokens": 7},
            },
            shown=shown("ANTHROPIC"),
        ),
        Case(
            task=CHAT,
            service_settings=CLAUDE,
            inputs=QUESTION,
            path=f"{MODEL}/converse-stream",
            headers=SIGNED,
            stream=TOOL_STREAM,
            stream_request={"messages": [{"role": "user", "content": [{"text": "how big"}]}]},
            chunks=[
                chunk({"role": "assistant"}),
                chunk({"content": "Hm"}),
                chunk({"role": "assistant", "tool_calls": [{"index": 0, "id": "t1", "function": {"name": "weather"}, "type": "function"}]}, 1),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":"Köln"}'}, "type": "function"}]}, 1),
                chunk({}, finish="tool_calls"),
                chunk(None, usage={"completion_tokens": 4, "prompt_tokens": 13, "total_tokens": 17, "prompt_tokens_details": {"cached_tokens": 8}}),
            ],
        ),
    )  # fmt: skip
    bad = (
        Bad(TEXT, {"secret_key": "s", **PLACE, "provider": "cohere"}, faults=("[secret_settings] does not contain the required setting [access_key]",)),
        Bad(TEXT, {"access_key": "a", **PLACE, "provider": "cohere"}, faults=("[secret_settings] does not contain the required setting [secret_key]",)),
        Bad(
            TEXT,
            KEYS,
            faults=(
                "[service_settings] does not contain the required setting [region]",
                "[service_settings] does not contain the required setting [model]",
                "[service_settings] does not contain the required setting [provider]",
            ),
        ),
        Bad(CHAT, {**CLAUDE, "provider": "acme"}, faults=("[service_settings] Invalid value [acme] received. [provider] must be one of [ai21labs, amazontitan, anthropic, cohere, meta, mistral]",)),
        Bad(TEXT, {**COHERE, "dimensions": 3}, faults=("[service_settings] does not allow the setting [dimensions]",)),
        Bad(TEXT, {**COHERE, "dimensions_set_by_user": False}, faults=("[service_settings] does not allow the setting [dimensions_set_by_user]",)),
        Bad(COMPLETION, CLAUDE, {"max_new_tokens": 0}, faults=("[task_settings] Invalid value [0]. [max_new_tokens] must be a positive integer",)),
        Bad(
            COMPLETION,
            CLAUDE,
            {"temperature": 1.5, "top_p": -0.5, "top_k": 2},
            faults=(
                "[task_settings] Invalid value [1.5]. [temperature] must be a less than or equal to [1.0]",
                "[task_settings] Invalid value [-0.5]. [top_p] must be a greater than or equal to [0.0]",
                "[task_settings] Invalid value [2.0]. [top_k] must be a less than or equal to [1.0]",
            ),
        ),
        Bad(TEXT, CLAUDE, reason="The [text_embedding] task type for provider [ANTHROPIC] is not available"),
        Bad(TEXT, {**COHERE, "provider": "mistral"}, reason="The [text_embedding] task type for provider [MISTRAL] is not available"),
        Bad(CHAT, TITAN, reason="The [chat_completion] task type for provider [AMAZONTITAN] is not available"),
        Bad(COMPLETION, {**CLAUDE, "provider": "meta"}, {"top_k": 0.5}, reason="The [top_k] task parameter is not available for provider [META]"),
        Bad(TEXT, TITAN, {"truncate": "NONE"}, reason="The [text_embedding] task type for provider [AMAZONTITAN] does not allow [truncate] field"),
        Bad(TEXT, COHERE, {"truncate": "middle"}, faults=("[task_settings] Invalid value [middle] received. [truncate] must be one of [end, none, start]",)),
    )  # fmt: skip
    changes = (
        Change(
            task=TEXT,
            stored=COHERE,
            service_settings={
                "access_key": "AKIANEW",
                "secret_key": "new",
                "region": "us-east-1",
                "model": "other",
                "provider": "amazontitan",
                "similarity": "cosine",
                "max_input_tokens": 5,
                "rate_limit": {"requests_per_minute": 9},
            },
            shown={
                "region": "us-east-1",
                "model": "other",
                "provider": "AMAZONTITAN",
                "rate_limit": {"requests_per_minute": 9},
                "max_input_tokens": 5,
                "similarity": "cosine",
            },
            secrets={"access_key": "AKIANEW", "secret_key": "new"},
        ),
        Change(
            task=TEXT,
            stored=COHERE,
            service_settings={"access_key": "AKIANEW"},
            faults=(
                "[service_settings] [access_key] and [secret_key] must be updated together; missing: [secret_key]",
            ),
        ),
        Change(
            task=CHAT,
            stored=CLAUDE,
            service_settings={"secret_key": "new"},
            faults=(
                "[service_settings] [access_key] and [secret_key] must be updated together; missing: [access_key]",
            ),
        ),
        Change(
            task=TEXT,
            stored=COHERE,
            service_settings={"dimensions": 3},
            shown=shown("COHERE", dimensions=3),
        ),
        Change(
            task=TEXT,
            stored=COHERE,
            service_settings={"dimensions": 0},
            faults=("[service_settings] Invalid value [0]. [dimensions] must be a positive integer",),
        ),
        Change(
            task=TEXT,
            stored=COHERE,
            service_settings={"dimensions_set_by_user": True},
            faults=("[service_settings] does not allow the setting [dimensions_set_by_user]",),
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=429,
            body={"message": "Too many requests"},
            headers={"x-amzn-ErrorType": "ThrottlingException", "x-amzn-RequestId": "r-1"},
            reason="AmazonBedrock invoke model failure: [Too many requests (Service: BedrockRuntime, Status Code: 429, Request ID: r-1)]",
            becomes=500,
        ),
        Refusal(
            task=COMPLETION,
            status=403,
            headers={
                "x-amzn-ErrorType": "AccessDeniedException:http://internal.amazon.com/",
                "x-amzn-RequestId": "r-1",
            },
            reason="AmazonBedrock converse failure: [AccessDeniedException (Service: BedrockRuntime, Status Code: 403, Request ID: r-1)]",
            becomes=500,
        ),
        Refusal(
            task=CHAT,
            status=424,
            body={"message": "model error"},
            reason="AmazonBedrock converse failure: [model error (Service: BedrockRuntime, Status Code: 424, Request ID: null)]",
            becomes=500,
            kind="ErrorResponse",
            code="internal_server_error",
        ),
    )

    async def test_signature(self, fake: FakeUpstream) -> None:
        """The signature is Amazon's, for the signing name bedrock and the path as it is sent, encoded once more."""
        self.answer(self.cases[2], fake)
        await self.ask(self.cases[2], fake)
        (got,) = fake.requests
        date = got.headers["x-amz-date"][:8]
        start = (
            f"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/{date}/eu-west-1/bedrock/aws4_request, SignedHeaders="
        )
        assert got.headers["authorization"].startswith(start)
        assert got.headers["authorization"].endswith(
            f"Signature={signature(got, 'wJalrXUtnFEMI', 'bedrock')}"
        )
        assert "x-amz-security-token" not in got.headers

    async def test_ambient_keys(self, fake: FakeUpstream) -> None:
        """An endpoint without keys signs with those of the server's own place."""
        settings = {key: value for key, value in TITAN.items() if key not in KEYS}
        case = msgspec.structs.replace(
            self.cases[0],
            service_settings=settings,
            environment={
                "AWS_ACCESS_KEY_ID": "AKIAHERE",
                "AWS_SECRET_ACCESS_KEY": "here",
                "AWS_SESSION_TOKEN": "tok",
            },
        )
        self.answer(case, fake)
        await self.ask(case, fake)
        (got,) = fake.requests
        assert "Credential=AKIAHERE/" in got.headers["authorization"]
        assert got.headers["x-amz-security-token"] == "tok"
        assert got.headers["authorization"].endswith(signature(got, "here", "bedrock"))

    def test_address(self) -> None:
        """The region is part of the host, China has its own domain, and no region leads elsewhere."""
        for region, host in (
            ("eu-west-1", "bedrock-runtime.eu-west-1.amazonaws.com"),
            ("cn-north-1", "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
            ("evil.test/x#", "bedrock-runtime.evil.test%2Fx%23.amazonaws.com"),
        ):
            endpoint = self.endpoint(TEXT, {**TITAN, "region": region})
            post = self.call(endpoint).post
            assert callable(post)
            case = msgspec.structs.replace(self.cases[0], options={})
            assert post(self.question(case, endpoint)) == f"https://{host}/model/a.model-v1%3A0/invoke"

    async def test_titan_takes_one(self, fake: FakeUpstream) -> None:
        """Several inputs for Titan become several requests and one answer in order."""
        fake.answer(json={"embedding": [1.0]})
        settings = {**TITAN, "rate_limit": {"requests_per_minute": 10**9}}
        case = msgspec.structs.replace(self.cases[0], service_settings=settings)
        result: Any = await self.ask(case, fake, inputs=Texts(("a", "b", "c")))
        assert sorted(request.json["inputText"] for request in fake.requests) == ["a", "b", "c"]
        assert result.vectors.shape == (3, 1)

    async def test_claimed_dimensions(self, fake: FakeUpstream) -> None:
        """Dimensions that an _update names must be those of the vectors; they are never sent."""
        case = next(c for c in self.cases if c.task is TEXT and c.service_settings["provider"] == "cohere")
        call = self.service.calls[TEXT]
        stored = self.of(case, fake)
        for claimed, more in ((1, {}), (2, {"model": "other"})):
            changed = merge(self.service, call, stored, {"dimensions": claimed, **more}, {})
            fake.answer(json={"embeddings": [[0.5, 0.25]]})
            client = self.client(case, fake)
            done = verify(self.house(client), self.service, changed, Deadline.after(5))
            if claimed == 2:
                assert (await done).settings["dimensions"] == 2
            else:
                with pytest.raises(StatusError, match=r"embeddings size \[2\] does not match .* \[1\]"):
                    await done
        assert all("dimensions" not in request.json for request in fake.requests)
        later = merge(self.service, call, changed, {"model": "third"}, {})
        assert not later.hidden["dimensions_set_by_user"]

    @pytest.mark.parametrize("place", [0, 1])
    async def test_missing_vectors(self, fake: FakeUpstream, place: int) -> None:
        """An answer without vectors is a failed call, and the cause says what is missing."""
        fake.answer(json={"other": 1})
        error = await self.refused(self.cases[place], fake)
        assert (error.status, error.reason) == (500, "Amazon Bedrock invoke model call failed")
        field = ("embedding", "embeddings")[place]
        assert str(error.__cause__) == (
            f"Failed to find required field [{field}] in Amazon Bedrock embeddings response"
        )

    async def test_failed_type(self, fake: FakeUpstream) -> None:
        """A refusal has the plain type of an exception."""
        fake.answer(status=400, json={"message": "no"})
        assert (await self.refused(self.cases[0], fake)).type == "exception"

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (None, "search_document"),
            (InputType.INGEST, "search_document"),
            (InputType.INTERNAL_INGEST, "search_document"),
            (InputType.UNSPECIFIED, "search_document"),
            (InputType.INTERNAL_SEARCH, "search_query"),
            (InputType.CLASSIFICATION, "classification"),
            (InputType.CLUSTERING, "clustering"),
        ],
    )
    async def test_input_types(self, fake: FakeUpstream, given: InputType | None, sent: str) -> None:
        """Each input type has a word of Cohere's, and there is always one."""
        fake.answer(json={"embeddings": [[1.0]]})
        await self.ask(self.cases[1], fake, inputs=Texts(("a",), input_type=given))
        assert fake.requests[0].json["input_type"] == sent

    async def test_top_k_of_a_request(self, fake: FakeUpstream) -> None:
        """A request's top_k is refused where the provider has none, too."""
        case = msgspec.structs.replace(self.cases[4], options={"top_k": 0.5})
        error = await self.refused(case, fake)
        assert (error.status, error.reason) == (
            400,
            "The [top_k] task parameter is not available for provider [META]",
        )

    @pytest.mark.parametrize(
        "name",
        [
            "internalServerException",
            "modelStreamErrorException",
            "validationException",
            "throttlingException",
            "serviceUnavailableException",
        ],
    )
    @pytest.mark.parametrize("place", [4, 6])
    async def test_exception_frame(self, fake: FakeUpstream, name: str, place: int) -> None:
        """An exception inside a stream is its error, without the secrets it quotes."""
        frames = event("messageStart", {"role": "assistant"}) + exception(name, "busy, wJalrXUtnFEMI")
        fake.answer(chunks=(frames,))
        error = await self.refused_stream(self.cases[place], fake)
        assert isinstance(error, UpstreamFailure)
        assert (error.status, error.type) == (500, "exception")
        assert error.reason == "AmazonBedrock StreamingChatProcessor failure: [busy, ******]"
        assert (error.kind, error.code) == ("ErrorResponse", "internal_server_error")

    @pytest.mark.parametrize(
        "payload",
        [
            {"delta": {"reasoningContent": {"text": "hm"}}, "contentBlockIndex": 0},
            {"delta": {"citation": {}}, "contentBlockIndex": 0},
            {"delta": {"toolUse": {}}, "contentBlockIndex": 0},
        ],
    )
    async def test_unknown_delta(self, fake: FakeUpstream, payload: Any) -> None:
        """A piece of another kind is an error of a chat."""
        fake.answer(chunks=(event("messageStart", {"role": "a"}) + event("contentBlockDelta", payload),))
        error = await self.refused_stream(self.cases[6], fake)
        assert isinstance(error, UpstreamError)
        assert error.status == 500

    async def test_unknown_start(self, fake: FakeUpstream) -> None:
        """A block of another kind than a tool's is an error of a chat."""
        frame = event("contentBlockStart", {"start": {"image": {}}, "contentBlockIndex": 0})
        fake.answer(chunks=(event("messageStart", {"role": "a"}) + frame,))
        assert (await self.refused_stream(self.cases[6], fake)).status == 500

    async def test_one_id_a_stream(self, fake: FakeUpstream) -> None:
        """All chunks of a stream have one id, and no two streams the same."""
        ids = []
        for _ in range(2):
            self.answer_stream(self.cases[6], fake)
            found = await self.chunks(self.cases[6], fake)
            assert len({piece.id for piece in found}) == 1
            ids.append(found[0].id)
        assert ids[0] != ids[1]
        assert all(id.startswith("unified-") for id in ids)

    async def test_corrupt_frame(self, fake: FakeUpstream) -> None:
        """One wrong bit in a frame ends the stream with an error."""
        for place in (1, 9, 20, len(STREAM) // 2):
            fake.forget()
            wrong = bytearray(STREAM)
            wrong[place] ^= 1
            fake.answer(chunks=(bytes(wrong),))
            assert (await self.refused_stream(self.cases[4], fake)).status >= 400
