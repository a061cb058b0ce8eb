"""Amazon SageMaker: what we send, what we make of the reply."""

from typing import Any
from unittest.mock import ANY

import msgspec
import pytest

from inferd.actions import infer, stream
from inferd.core.inputs import Chat, InputType, Message, RankQuery, Texts
from inferd.core.service import Event
from inferd.core.tasks import TaskType
from inferd.errors import InferdError, UpstreamError
from inferd.services.amazon_sagemaker import SERVICE
from inferd.testing import FakeUpstream, aws_frame

from .base import Bad, Case, Change, ServiceTest, shown

TEXT, SPARSE, RERANK = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.RERANK
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

KEYS = {"access_key": "AKIAEXAMPLE", "secret_key": "wJalrXUtnFEMI"}
PLACE = {"endpoint_name": "my endpoint", "region": "eu-west-1"}
OPENAI = {**KEYS, **PLACE, "api": "openai"}
ELASTIC = {**KEYS, **PLACE, "api": "elastic"}
FLOATS = {**ELASTIC, "element_type": "float"}
PATH = "/endpoints/my%20endpoint/invocations"
STREAMED = f"{PATH}-response-stream"
SIGNED = {"x-amz-date": ANY, "authorization": ANY}
HEADERS = {"accept": "application/json", **SIGNED}
STREAM_HEADERS = {"x-amzn-sagemaker-accept": "application/json", **SIGNED}
QUESTION = Chat(messages=(Message(role="user", content="how big"),))
ASKED = {"messages": [{"role": "user", "content": "how big"}], "n": 1}


def part(payload: bytes | str) -> bytes:
    raw = payload.encode() if isinstance(payload, str) else payload
    return aws_frame(raw, message_type="event", event_type="PayloadPart")


def data(value: Any, end: str = "\n\n") -> bytes:
    return b"data: " + msgspec.json.encode(value) + end.encode()


def delta(text: str) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}


EVENTS = data(delta("Größe"), "\r\n\r\n") + b": comment\n\n" + data(delta(" 🔎")) + b"data: [DONE]\n\n"
OPENAI_STREAM = part(EVENTS[:150]) + part(EVENTS[150:])
CHUNKS = [
    {
        "id": "c1",
        "choices": [{"delta": {"content": text}, "index": 0}],
        "model": "m",
        "object": "chat.completion.chunk",
    }
    for text in ("Größe", " 🔎")
]
DELTAS = [{"completion": [{"delta": "Größe"}]}, {"completion": [{"delta": " 🔎"}]}]
OTHER_FRAME = aws_frame(b"{}", message_type="event", event_type="SomethingNew")
REPLY_HEADERS = {
    "X-Amzn-SageMaker-Custom-Attributes": "c",
    "X-Amzn-SageMaker-New-Session-Id": "s; Expires=x",
    "X-Amzn-SageMaker-Closed-Session-Id": "o",
    "X-Amzn-SageMaker-Other": "no",
}


class TestAmazonSageMaker(ServiceTest):
    service = SERVICE
    refusal_texts = False
    late = 408
    unreadable_attempts = 1
    retried = frozenset({429, 500, 502, 503, 529})
    statuses = {
        302: 500, 401: 500, 403: 500, 404: 500, 405: 500, 409: 500, 413: 500, 422: 500,
        500: 500, 502: 500, 503: 503, 529: 500,
    }  # fmt: skip

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"Message": message})

    cases = (
        Case(
            task=TEXT,
            service_settings={**OPENAI, "dimensions": 2, "batch_size": 5},
            task_settings={"user": "a-user"},
            inputs=Texts(("how big",), input_type=InputType.SEARCH),
            path=PATH,
            headers=HEADERS,
            request={"input": "how big", "user": "a-user", "dimensions": 2},
            reply={"data": [{"embedding": [0.5, -0.25]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}]},
            shown={**PLACE, "api": "openai", "batch_size": 5, "dimensions": 2},
            shown_task={"user": "a-user"},
        ),
        Case(
            task=TEXT,
            service_settings={
                **FLOATS,
                "similarity": "cosine",
                "target_model": "tm",
                "target_container_hostname": "tch",
                "inference_component_name": "icn",
            },
            task_settings={
                "custom_attributes": "ca",
                "enable_explanations": "ee",
                "inference_id": "ii",
                "session_id": "si",
                "target_variant": "tv",
            },
            options={"session_id": "another", "anything": {"a": 1}, "user": "u"},
            inputs=Texts(("how big", "is it"), input_type=InputType.INTERNAL_INGEST),
            path=PATH,
            headers={
                **HEADERS,
                "x-amzn-sagemaker-target-model": "tm",
                "x-amzn-sagemaker-target-container-hostname": "tch",
                "x-amzn-sagemaker-inference-component": "icn",
                "x-amzn-sagemaker-custom-attributes": "ca",
                "x-amzn-sagemaker-enable-explanations": "ee",
                "x-amzn-sagemaker-inference-id": "ii",
                "x-amzn-sagemaker-session-id": "another",
                "x-amzn-sagemaker-target-variant": "tv",
            },
            request={
                "input": ["how big", "is it"],
                "input_type": "ingest",
                "task_settings": {"anything": {"a": 1}, "user": "u"},
            },
            reply={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 0.0]}]},
            reply_headers=REPLY_HEADERS,
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                **PLACE,
                "api": "elastic",
                "target_model": "tm",
                "target_container_hostname": "tch",
                "inference_component_name": "icn",
                "dimensions": 2,
                "dimensions_set_by_user": False,
                "similarity": "cosine",
                "element_type": "float",
            },
            shown_task={
                "custom_attributes": "ca",
                "enable_explanations": "ee",
                "inference_id": "ii",
                "session_id": "si",
                "target_variant": "tv",
            },
        ),
        Case(
            task=TEXT,
            service_settings={**ELASTIC, "element_type": "BYTE", "dimensions": 3},
            inputs=Texts(("how big",)),
            path=PATH,
            headers=HEADERS,
            request={"input": "how big"},
            reply={"text_embedding_bytes": [{"embedding": [1, -128, 127]}]},
            answer={"text_embedding_bytes": [{"embedding": [1, -128, 127]}]},
            shown={**PLACE, "api": "elastic", "dimensions": 3, "dimensions_set_by_user": True, "element_type": "byte"},
        ),
        Case(
            task=TEXT,
            service_settings={**ELASTIC, "element_type": "bit"},
            inputs=Texts(("how big",)),
            path=PATH,
            headers=HEADERS,
            request={"input": "how big"},
            reply={"text_embedding_bits": [{"embedding": [1, -128]}]},
            answer={"text_embedding_bits": [{"embedding": [1, -128]}]},
            shown={**PLACE, "api": "elastic", "dimensions": 16, "dimensions_set_by_user": False, "element_type": "bit"},
        ),
        Case(
            task=SPARSE,
            service_settings=ELASTIC,
            inputs=Texts(("how big",), input_type=InputType.SEARCH),
            path=PATH,
            headers=HEADERS,
            request={"input": "how big", "input_type": "search"},
            reply={"sparse_embedding": [{"is_truncated": True, "embedding": {"a": 0.25, "b": 0.5}}]},
            answer={"sparse_embedding": [{"is_truncated": True, "embedding": {"b": 0.5, "a": 0.25}}]},
            shown={**PLACE, "api": "elastic"},
        ),
        Case(
            task=RERANK,
            service_settings=ELASTIC,
            options={"deep": True},
            inputs=RankQuery("luke", ("leia", "han"), top_n=2, return_documents=True),
            path=PATH,
            headers=HEADERS,
            request={
                "input": ["leia", "han"],
                "query": "luke",
                "return_documents": True,
                "top_n": 2,
                "task_settings": {"deep": True},
            },
            reply={"rerank": [{"index": 1, "relevance_score": 0.5, "text": "han"}, {"index": 0, "relevance_score": 0.25}]},
            answer={"rerank": [{"index": 1, "relevance_score": 0.5, "text": "han"}, {"index": 0, "relevance_score": 0.25}]},
            shown={**PLACE, "api": "elastic"},
        ),
        Case(
            task=COMPLETION,
            service_settings=OPENAI,
            task_settings={"user": "a-user"},
            inputs=Texts(("how big", "is it")),
            path=PATH,
            headers=HEADERS,
            request={
                "messages": [{"role": "user", "content": "how big"}, {"role": "user", "content": "is it"}],
                "n": 1,
                "stream": False,
                "user": "a-user",
            },
            reply={"choices": [{"message": {"content": "Elastic"}}]},
            answer={"completion": [{"result": "Elastic"}]},
            shown={**PLACE, "api": "openai"},
            shown_task={"user": "a-user"},
        ),
        Case(
            task=COMPLETION,
            service_settings={**OPENAI, "target_model": "tm"},
            task_settings={"enable_explanations": "ee", "session_id": "si"},
            inputs=Texts(("how big",)),
            path=STREAMED,
            headers={**STREAM_HEADERS, "x-amzn-sagemaker-session-id": "si"},
            stream=OPENAI_STREAM,
            stream_request={**ASKED, "stream": True, "stream_options": {"include_usage": True}},
            chunks=DELTAS,
        ),
        Case(
            task=COMPLETION,
            service_settings=ELASTIC,
            inputs=Texts(("how big",)),
            path=PATH,
            stream_path=STREAMED,
            headers=HEADERS,
            request={"input": "how big"},
            reply={"completion": [{"result": "Elastic"}, {"result": "search"}]},
            answer={"completion": [{"result": "Elastic"}, {"result": "search"}]},
            shown={**PLACE, "api": "elastic"},
        ),
        Case(
            task=COMPLETION,
            service_settings=ELASTIC,
            inputs=Texts(("how big",)),
            path=STREAMED,
            headers=STREAM_HEADERS,
            stream=part('{"completion":[{"delta":"Größe"}]}') + OTHER_FRAME + part('{"completion":{"delta":" 🔎"}}'),
            stream_request={"input": "how big"},
            chunks=DELTAS,
        ),
        Case(
            task=CHAT,
            service_settings=OPENAI,
            task_settings={"user": "a-user"},
            inputs=Chat(messages=QUESTION.messages, max_completion_tokens=5, model="asked"),
            path=STREAMED,
            headers=STREAM_HEADERS,
            stream=OPENAI_STREAM,
            stream_request={
                **ASKED,
                "stream": True,
                "stream_options": {"include_usage": True},
                "user": "a-user",
                "max_completion_tokens": 5,
            },
            chunks=CHUNKS,
            shown={**PLACE, "api": "openai"},
            shown_task={"user": "a-user"},
        ),
        Case(
            task=CHAT,
            service_settings=ELASTIC,
            inputs=Chat(messages=QUESTION.messages, model="asked"),
            path=STREAMED,
            headers=STREAM_HEADERS,
            stream=b"".join(part(msgspec.json.encode(delta(text))) for text in ("Größe", " 🔎")),
            stream_request={
                **ASKED,
                "model": "asked",
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            chunks=CHUNKS,
        ),
    )  # fmt: skip
    bad = (
        Bad(TEXT, {**PLACE, "api": "openai", "access_key": "a"}, faults=("[secret_settings] does not contain the required setting [secret_key]",)),
        Bad(
            RERANK,
            {**KEYS, "batch_size": 0},
            faults=(
                "[service_settings] does not contain the required setting [endpoint_name]",
                "[service_settings] does not contain the required setting [region]",
                "[service_settings] does not contain the required setting [api]",
                "[service_settings] Invalid value [0]. [batch_size] must be a positive integer",
            ),
        ),
        Bad(TEXT, ELASTIC, faults=("[service_settings] does not contain the required setting [element_type]",)),
        Bad(TEXT, {**ELASTIC, "element_type": "word"}, faults=("[service_settings] Invalid value [word] received. [element_type] must be one of [bit, byte, float]",)),
        Bad(TEXT, {**FLOATS, "similarity": "near", "dimensions": 0}, faults=(
            "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
            "[service_settings] Invalid value [near] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
        )),
        Bad(TEXT, {**OPENAI, "element_type": "float"}, reason="Configuration contains settings [{element_type=float}] unknown to the [amazon_sagemaker] service"),
        Bad(TEXT, {**OPENAI, "similarity": "cosine"}, reason="Configuration contains settings [{similarity=cosine}] unknown to the [amazon_sagemaker] service"),
        Bad(COMPLETION, {**OPENAI, "rate_limit": {"requests_per_minute": 1}}, reason="Configuration contains settings [{rate_limit={requests_per_minute=1}}] unknown to the [amazon_sagemaker] service"),
        Bad(
            RERANK,
            OPENAI,
            status=405,
            reason="Task [openai] is not compatible for service [sagemaker] and api [rerank]. Supported tasks: [[text_embedding, completion, chat_completion]]",
        ),
        Bad(TEXT, {**OPENAI, "api": "tei"}, status=405, reason="Task [tei] is not compatible for service [sagemaker] and api [text_embedding]. Supported tasks: [[]]"),
        Bad(SPARSE, ELASTIC, {"anything": 1}, faults=("task_settings is only supported during the inference request and cannot be stored in the inference endpoint.",)),
        Bad(COMPLETION, ELASTIC, {"user": "u"}, faults=("task_settings is only supported during the inference request and cannot be stored in the inference endpoint.",)),
    )  # fmt: skip
    changes = (
        Change(
            task=TEXT,
            stored=OPENAI,
            service_settings={"access_key": "AKIANEW", "secret_key": "new"},
            task_settings={"user": "u"},
            shown={**PLACE, "api": "openai"},
            shown_task={"user": "u"},
            secrets={"access_key": "AKIANEW", "secret_key": "new"},
        ),
        Change(
            task=TEXT,
            stored=OPENAI,
            service_settings={"secret_key": "new"},
            faults=(
                "[service_settings] [access_key] and [secret_key] must be updated together; missing: [access_key]",
            ),
        ),
        Change(
            task=SPARSE,
            stored=ELASTIC,
            task_settings={"anything": 1},
            faults=(
                "task_settings is only supported during the inference request and cannot be stored in the inference endpoint.",
            ),
        ),
    )

    def test_unknown_settings(self, case: Case) -> None:
        """A member that nobody reads is named; of task settings the elastic API says why it is refused."""
        with pytest.raises(InferdError) as caught:
            self.endpoint(case.task, {**case.service_settings, "nonsense": 1})
        text = "Configuration contains settings [{nonsense=1}] unknown to the [amazon_sagemaker] service"
        assert (caught.value.status, caught.value.reason) == (400, text)
        with pytest.raises(InferdError) as caught:
            self.endpoint(case.task, case.service_settings, {"my_api_key": "sk-misplaced"})
        assert caught.value.status == 400
        assert "sk-misplaced" not in caught.value.reason

    @pytest.mark.parametrize(
        ("named", "upstream", "status", "text", "attempts"),
        [
            ("InternalDependencyException", 530, 500, "Received an internal dependency error from SageMaker for [my-endpoint]", 3),
            ("InternalFailure", 500, 500, "Received an internal failure from SageMaker for [my-endpoint]", 3),
            ("ModelError", 424, 424, "Received a model error from SageMaker for [my-endpoint]", 1),
            ("ModelNotReadyException", 429, 429, "Received a model not ready error from SageMaker for [my-endpoint]", 3),
            ("ServiceUnavailable", 503, 503, "SageMaker is unavailable for [my-endpoint]", 3),
            ("ValidationError", 400, 400, "Received a validation error from SageMaker for [my-endpoint]", 1),
            ("AccessDeniedException", 403, 400, "Access and Secret key stored in [my-endpoint] do not have sufficient permissions.", 1),
            ("NotAuthorized", 400, 400, "Access and Secret key stored in [my-endpoint] do not have sufficient permissions.", 1),
            ("IncompleteSignature", 400, 500, "The request signature does not conform to AWS standards [my-endpoint]", 1),
            ("InvalidAction", 400, 400, "The requested action is not valid for [my-endpoint]", 1),
            ("InvalidClientTokenId", 403, 403, "Access key stored in [my-endpoint] does not exist in AWS", 1),
            ("OptInRequired", 403, 403, "Access key stored in [my-endpoint] needs a subscription for the service", 1),
            ("RequestExpired", 400, 400, "The request reached SageMaker more than 15 minutes after the date stamp on the request for [my-endpoint]", 1),
            ("ThrottlingException", 400, 400, "SageMaker denied the request for [my-endpoint] due to request throttling", 3),
            ("SomethingElse", 418, 500, "Received an error from SageMaker for [my-endpoint]", 1),
        ],
    )  # fmt: skip
    async def test_named_errors(
        self, fake: FakeUpstream, named: str, upstream: int, status: int, text: str, attempts: int
    ) -> None:
        """Each error of SageMaker has its status and its text; SageMaker's own words stay behind."""
        for case in (self.cases[0], self.cases[10]):
            fake.forget()
            headers = {"x-amzn-ErrorType": f"{named}:http://internal.amazon.com/"}
            fake.answer(status=upstream, headers=headers, json={"Message": "internal words"})
            error = await (self.refused(case, fake) if case.task is TEXT else self.refused_stream(case, fake))
            assert isinstance(error, UpstreamError)
            assert (error.status, error.reason) == (status, text)
            assert len(fake.requests) == attempts
        names = {500: "internal_server_error", 424: "failed_dependency", 429: "too_many_requests"}
        names |= {503: "service_unavailable", 400: "bad_request", 403: "forbidden"}
        assert (error.kind, error.code) == ("error", names[status])

    async def test_unnamed_error(self, fake: FakeUpstream) -> None:
        """Where SageMaker does not name its error, the status does."""
        fake.answer(status=424)
        error = await self.refused(self.cases[0], fake)
        assert (error.status, error.reason) == (
            424,
            "Received a model error from SageMaker for [my-endpoint]",
        )

    async def test_timeout_text(self, fake: FakeUpstream) -> None:
        """A timeout is a 408 that says how long it was."""
        fake.answer(hang=True, delay=3600.0)
        error = await self.refused(self.cases[0], fake, seconds=0.05)
        assert (error.status, error.type, error.reason) == (
            408,
            "status_exception",
            "Request timed out after [0.05s]",
        )

    async def test_broken_connection_text(self, fake: FakeUpstream) -> None:
        """A call that breaks is tried three times and then named."""
        fake.answer(headers={"Content-Length": "1000"}, body=b"{", cut=1)
        error = await self.refused(self.cases[0], fake)
        assert (error.status, error.reason) == (
            500,
            "Failed to call SageMaker for inference id [my-endpoint].",
        )
        assert len(fake.requests) == 3

    async def test_broken_connection(self, whole: Case, fake: FakeUpstream) -> None:
        """An answer whose connection breaks is asked for again, unlike one that cannot be read."""
        fake.answer(headers={"Content-Length": "1000"}, body=b'{"data": [' * 10, cut=50)
        assert (await self.refused(whole, fake)).status == 500
        assert len(fake.requests) == 3

    @pytest.mark.parametrize("place", [0, 1, 2, 4, 5, 8])
    async def test_strict_answers(self, fake: FakeUpstream, place: int) -> None:
        """An answer that is not of the form of its API is a failure to translate it."""
        case = self.cases[place]
        told = [b"{}", b"[]"]
        if place:
            told.append(msgspec.json.encode({**case.reply, "more": 1}))
        for body in told:
            fake.forget()
            fake.answer(body=body)
            error = await self.refused(case, fake)
            assert (error.status, error.reason) == (
                500,
                "Failed to translate SageMaker response for [my-endpoint]",
            )

    async def test_byte_range(self, fake: FakeUpstream) -> None:
        """A byte is a byte."""
        for value in (128, -129):
            fake.forget()
            fake.answer(json={"text_embedding_bytes": [{"embedding": [value]}]})
            error = await self.refused(self.cases[2], fake)
            assert str(error.__cause__) == f"Value [{value}] is out of range for a byte"

    async def test_answer_headers(self, fake: FakeUpstream) -> None:
        """SageMaker's session and attribute headers go on to the caller."""
        self.answer(self.cases[1], fake)
        result: Any = await self.ask(self.cases[1], fake)
        assert result.headers == (
            ("X-elastic-sagemaker-custom-attributes", "c"),
            ("X-elastic-sagemaker-new-session-id", "s; Expires=x"),
            ("X-elastic-sagemaker-closed-session-id", "o"),
        )

    async def test_stored_dimensions(self, fake: FakeUpstream) -> None:
        """The openai API sends the dimensions whenever they are stored, whoever found them."""
        endpoint = self.endpoint(TEXT, OPENAI)
        body = self.call(endpoint).body
        assert body is not None
        question = self.question(self.cases[0], endpoint)
        assert body(question) == {"input": "how big"}
        found = msgspec.structs.replace(endpoint, settings={**endpoint.settings, "dimensions": 384})
        assert body(msgspec.structs.replace(question, endpoint=found))["dimensions"] == 384

    async def test_hostile_header(self, fake: FakeUpstream) -> None:
        """A task setting that HTTP cannot carry as a header makes no request."""
        for value in ("a\r\nX: y", "ü", "\ud800", "\x00"):
            case = msgspec.structs.replace(self.cases[0], options={"custom_attributes": value})
            error = await self.refused(case, fake)
            assert (error.status, error.reason) == (
                500,
                "Failed to create SageMaker request for [my-endpoint]",
            )
        assert fake.requests == []

    def test_not_streamed(self) -> None:
        """A task that does not stream is refused in SageMaker's words."""
        with pytest.raises(InferdError) as caught:
            stream.check_streams(SERVICE, self.endpoint(TEXT, OPENAI), TaskType.ANY)
        assert caught.value.status == 405
        assert caught.value.reason == (
            "Streaming is not allowed for service [sagemaker], api [openai], and task [text_embedding]. "
            "Supported streaming tasks: [[completion, chat_completion]]"
        )

    async def test_signing_name(self, fake: FakeUpstream) -> None:
        """The signature is for the signing name sagemaker and the endpoint's region, with the endpoint's keys or the server's."""
        own = self.cases[0]
        bare = {key: value for key, value in OPENAI.items() if key not in KEYS}
        here = {"AWS_ACCESS_KEY_ID": "AKIAHERE", "AWS_SECRET_ACCESS_KEY": "here"}
        ambient = msgspec.structs.replace(own, service_settings=bare, environment=here)
        for case, key in ((own, "AKIAEXAMPLE"), (ambient, "AKIAHERE")):
            fake.forget()
            self.answer(case, fake)
            await self.ask(case, fake)
            headers = fake.requests[0].headers
            scope = f"{headers['x-amz-date'][:8]}/eu-west-1/sagemaker/aws4_request"
            assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={key}/{scope}, ")

    def test_aliases(self) -> None:
        """The service has two more names."""
        assert SERVICE.aliases == ("sagemaker", "amazonsagemaker")

    @pytest.mark.parametrize("place", [7, 10])
    def test_split_parts(self, place: int) -> None:
        """Where SageMaker cuts the events into parts makes no difference, nor does a part without an end."""
        case = self.cases[place]
        endpoint = self.endpoint(case.task, case.service_settings)
        call = self.call(endpoint)
        assert call.chunks is not None
        question = self.question(case, endpoint)
        cuts = [(EVENTS[:n], EVENTS[n:]) for n in range(len(EVENTS))]
        cuts.append(tuple(EVENTS[n : n + 1] for n in range(len(EVENTS))))
        cuts.append((data(delta("Größe"), ""), data(delta(" 🔎"), ""), b"data: [DONE]"))
        for pieces in cuts:
            read = call.chunks(question)
            events = [Event(piece.decode("utf-8", "surrogateescape"), "PayloadPart") for piece in pieces]
            found = [chunk for event in events for chunk in read(event)]
            assert shown(case.task, found) == case.chunks

    @pytest.mark.parametrize("place", [7, 9, 10, 11])
    @pytest.mark.parametrize(
        ("name", "status", "code", "text"),
        [
            ("ModelStreamError", 424, "failed_dependency", "Received a model error from SageMaker for [my-endpoint]"),
            ("InternalStreamFailure", 500, "internal_server_error", "Received an internal failure from SageMaker for [my-endpoint]"),
        ],
    )  # fmt: skip
    async def test_failure_frame(
        self, fake: FakeUpstream, place: int, name: str, status: int, code: str, text: str
    ) -> None:
        """A failure inside a stream is its error."""
        case = self.cases[place]
        frame = aws_frame(b'{"Message":"no"}', message_type="exception", exception_type=name)
        fake.answer(chunks=(case.stream_bytes + frame,))
        error = await self.refused_stream(case, fake)
        assert isinstance(error, UpstreamError)
        assert (error.status, error.reason, error.kind, error.code) == (status, text, "error", code)

    async def test_error_event_in_part(self, fake: FakeUpstream) -> None:
        """An error event inside the parts is the stream's error, in the provider's words."""
        told = 'event: error\ndata: {"error":{"message":"busy","type":"server_error","code":"c"}}\n\n'
        fake.answer(
            chunks=(part(EVENTS[:100]), part(EVENTS[100:170]) + part(EVENTS[170:-14] + told.encode()))
        )
        error = await self.refused_stream(self.cases[10], fake)
        assert isinstance(error, UpstreamError)
        assert (error.status, error.kind, error.code) == (500, "server_error", "c")
        assert error.reason == (
            "Received an error response for request from inference entity id [my-endpoint]. Error message: [busy]"
        )

    def test_request_options(self) -> None:
        """Task settings that nobody knows are handed to the elastic API and ignored for the openai API."""
        for settings, expected in (
            (FLOATS, {"input": "how big", "task_settings": {"x": 1}}),
            (OPENAI, {"input": "how big"}),
        ):
            endpoint = self.endpoint(TEXT, settings)
            call = self.call(endpoint)
            assert call.body is not None
            question = msgspec.structs.replace(
                self.question(self.cases[2], endpoint),
                options=infer.options(SERVICE, call, endpoint, {"x": 1}),
            )
            assert call.body(question) == expected
