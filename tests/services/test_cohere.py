"""Cohere: what we send, what we make of the reply."""

from typing import Any

import msgspec

from inferd.core.inputs import InputType, Item, RankQuery, Texts
from inferd.core.results import Embeddings, Usage
from inferd.core.tasks import TaskType
from inferd.errors import UpstreamError
from inferd.services.cohere import SERVICE
from inferd.testing import FakeUpstream

from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

TEXT, RERANK, COMPLETION = TaskType.TEXT_EMBEDDING, TaskType.RERANK, TaskType.COMPLETION

SETTINGS = {"api_key": "co-very-secret", "model_id": "the-model"}
HEADERS = {"authorization": "Bearer co-very-secret", "request-source": "unspecified:elasticsearch"}
RATE = {"requests_per_minute": 10000}
FOR = "for request from inference entity id [my-endpoint]"

V1 = b"""{"is_finished":false,"event_type":"stream-start","generation_id":"g"}
{"event_type":"search-queries-generation","search_queries":[]}
{"event_type":"search-results"}
{"is_finished":false,"event_type":"text-generation","text":"El\xc3\xa1stic"}
{"event_type":"citation-generation"}
{"event_type":"tool-calls-chunk"}

{"is_finished":false,"event_type":"text-generation","text":" search"}
{"event_type":"tool-calls-generation"}
{"is_finished":true,"event_type":"stream-end","finish_reason":"COMPLETE","response":{"text":"x"}}
"""
V2: tuple[Any, ...] = (
    ("message-start", {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}}),
    (
        "content-start",
        {
            "type": "content-start",
            "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": ""}}},
        },
    ),
    (
        "content-delta",
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Elástic"}}}},
    ),
    ("tool-plan-delta", {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will"}}}),
    ("citation-start", {"type": "citation-start", "delta": {"message": {"citations": {"text": "no"}}}}),
    (
        "content-delta",
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": " search"}}}},
    ),
    ("content-end", {"type": "content-end", "index": 0}),
    ("message-end", {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {}}}),
    "[DONE]",
)
CHUNKS = [{"completion": [{"delta": "Elástic"}]}, {"completion": [{"delta": " search"}]}]


def prompt(stream: bool) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "how big"}], "model": "the-model", "stream": stream}


class TestCohere(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 500})

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"message": message})

    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "dimensions": 2,
                "max_input_tokens": 100,
                "similarity": "dot_product",
            },
            task_settings={"input_type": "classification", "truncate": "start"},
            inputs=Texts(("how big", "how small")),
            path="/v2/embed",
            headers=HEADERS,
            request={
                "texts": ["how big", "how small"],
                "model": "the-model",
                "input_type": "classification",
                "embedding_types": ["float"],
                "truncate": "START",
            },
            reply={
                "id": "1",
                "texts": ["how big", "how small"],
                "embeddings": {"float": [[0.5, -0.25], [1, 2]]},
                "meta": {"billed_units": {"input_tokens": 4}},
                "response_type": "embeddings_by_type",
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                "model_id": "the-model",
                "rate_limit": RATE,
                "similarity": "dot_product",
                "dimensions": 2,
                "max_input_tokens": 100,
                "embedding_type": "float",
            },
            shown_task={"input_type": "classification", "truncate": "START"},
        ),
        Case(
            task=TEXT,
            service_settings={"api_key": "co-very-secret", "model": "the-model", "embedding_type": "INT8"},
            inputs=Texts(("how big",)),
            path="/v2/embed",
            headers=HEADERS,
            request={
                "texts": ["how big"],
                "model": "the-model",
                "input_type": "search_query",
                "embedding_types": ["int8"],
            },
            reply={"embeddings": {"int8": [[127, -128, 0]]}},
            answer={"text_embedding_bytes": [{"embedding": [127, -128, 0]}]},
            shown={
                "model_id": "the-model",
                "rate_limit": RATE,
                "similarity": "cosine",
                "dimensions": 3,
                "embedding_type": "byte",
            },
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "embedding_type": "bit", "url": "{fake}/v9/embed"},
            task_settings={"input_type": "search"},
            inputs=Texts(("how big",), InputType.INGEST),
            path="/v9/embed",
            headers=HEADERS,
            request={
                "texts": ["how big"],
                "model": "the-model",
                "input_type": "search_document",
                "embedding_types": ["binary"],
            },
            reply={"embeddings": {"binary": [[-86, 15]], "int8": [[1]]}},
            answer={"text_embedding_bits": [{"embedding": [-86, 15]}]},
            shown={
                "model_id": "the-model",
                "rate_limit": RATE,
                "similarity": "l2_norm",
                "dimensions": 16,
                "embedding_type": "bit",
            },
            shown_task={"input_type": "search"},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            task_settings={"return_documents": True, "top_n": 5, "max_chunks_per_doc": 7},
            inputs=RankQuery("luke", ("luke", "leia"), top_n=2),
            path="/v2/rerank",
            headers=HEADERS,
            request={
                "model": "the-model",
                "query": "luke",
                "documents": ["luke", "leia"],
                "return_documents": True,
                "top_n": 2,
                "max_chunks_per_doc": 7,
            },
            reply={
                "results": [
                    {"index": 1, "relevance_score": 0.25, "document": {"text": "leia"}},
                    {"index": 0, "relevance_score": 0.5},
                ],
                "meta": {"billed_units": {"search_units": 1}},
            },
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.25, "text": "leia"},
                    {"index": 0, "relevance_score": 0.5},
                ]
            },
            shown={"model_id": "the-model", "rate_limit": RATE},
            shown_task={"return_documents": True, "top_n": 5, "max_chunks_per_doc": 7},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery("luke", ("luke", "leia")),
            path="/v2/rerank",
            headers=HEADERS,
            request={"model": "the-model", "query": "luke", "documents": ["luke", "leia"]},
            reply={"results": []},
            answer={"rerank": []},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path="/v2/chat",
            headers=HEADERS,
            request=prompt(False),
            reply={
                "id": "1",
                "message": {"role": "assistant", "content": [{"type": "text", "text": "Elastic"}]},
                "usage": {"tokens": {"input_tokens": 3, "output_tokens": 5}},
            },
            answer={"completion": [{"result": "Elastic"}]},
            shown={"model_id": "the-model", "rate_limit": RATE},
            stream=V2,
            stream_request=prompt(True),
            chunks=CHUNKS,
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path="/v2/chat",
            headers=HEADERS,
            request=prompt(False),
            reply={"text": "Elastic", "generation_id": "g"},
            answer={"completion": [{"result": "Elastic"}]},
            stream=V1,
            stream_request=prompt(True),
            chunks=CHUNKS,
        ),
    )
    bad = (
        Bad(
            COMPLETION,
            {"api_key": "co-1"},
            faults=("The [service_settings.model_id] field is required for the Cohere V2 API.",),
        ),
        Bad(
            COMPLETION,
            {"model_id": "m"},
            faults=("[secret_settings] does not contain the required setting [api_key]",),
        ),
        Bad(
            TEXT,
            {
                **SETTINGS,
                "embedding_type": "double",
                "similarity": "x",
                "dimensions": 0,
                "max_input_tokens": 0,
            },
            {"input_type": "internal_search", "truncate": "middle"},
            faults=(
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[service_settings] Invalid value [double] received. [embedding_type] must be one of "
                "[binary, bit, byte, float, int8]",
                "[task_settings] Invalid value [internal_search] received. [input_type] must be one of "
                "[classification, clustering, ingest, search]",
                "[task_settings] Invalid value [middle] received. [truncate] must be one of [end, none, start]",
            ),
        ),
        Bad(
            RERANK,
            {**SETTINGS, "rate_limit": {"requests_per_minute": -1}},
            {"top_n": 0, "max_chunks_per_doc": -1, "return_documents": "yes"},
            faults=(
                "[rate_limit] Invalid value [-1]. [requests_per_minute] must be a positive long",
                "field [return_documents] is not of the expected type. The value [yes] cannot be converted to a "
                "[Boolean]",
                "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
                "[task_settings] Invalid value [-1]. [max_chunks_per_doc] must be a positive integer",
            ),
        ),
    )
    changes = (
        Change(
            task=RERANK,
            stored={**SETTINGS, "rate_limit": {"requests_per_minute": 3}},
            service_settings={"rate_limit": None},
            shown={"model_id": "the-model", "rate_limit": {"requests_per_minute": 10000}},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            stored_task={"input_type": "search"},
            service_settings={
                "api_key": "new",
                "max_input_tokens": 9,
                "rate_limit": {"requests_per_minute": 3},
            },
            task_settings={"truncate": "NONE"},
            shown={
                "model_id": "the-model",
                "rate_limit": {"requests_per_minute": 3},
                "max_input_tokens": 9,
                "embedding_type": "float",
            },
            shown_task={"input_type": "search", "truncate": "NONE"},
            secrets={"api_key": "new"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"embedding_type": "int8"},
            faults=("[service_settings] does not allow the setting [embedding_type]",),
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=400,
            body={"message": "invalid request: total number of texts must be at most 96"},
            reason=f"Received a texts array too large response {FOR} status [400]. "
            "Error message: [invalid request: total number of texts must be at most 96]",
        ),
        Refusal(
            task=TEXT,
            status=400,
            body={"message": "no"},
            reason=f"Received an unsuccessful status code {FOR} status [400]. Error message: [no]",
        ),
        Refusal(
            task=TEXT,
            status=401,
            body={"error": "no"},
            reason=f"Received an authentication error status code {FOR} status [401]",
        ),
        Refusal(task=RERANK, status=413, reason=f"Received an unsuccessful status code {FOR} status [413]"),
        Refusal(
            task=RERANK,
            status=429,
            reason=f"Received a rate limit status code {FOR} status [429]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=500,
            becomes=400,
            reason=f"Received a server error status code {FOR} status [500]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=503,
            becomes=400,
            reason=f"Received a server error status code {FOR} status [503]",
        ),
    )
    replies = (
        Broken(TEXT, b"{}", "Failed to find required field [embeddings] in Cohere embeddings response"),
        Broken(
            TEXT,
            b'{"embeddings": {"uint8": [[1]]}}',
            "Failed to find a supported embedding type in the Cohere embeddings response. "
            "Supported types are [binary, float, int8]",
        ),
        Broken(TEXT, b'{"embeddings": {"int8": [[1, 128]]}}', "Value [128] is out of range for a byte"),
        Broken(TEXT, b'{"embeddings": {"int8": [[1, -129]]}}', "Value [-129] is out of range for a byte"),
        Broken(TEXT, b'{"embeddings": {"int8": [[1.5]]}}', "Expected `int`"),
        Broken(TEXT, b'{"embeddings": {"binary": [[1], [1, 2]]}}', "differ in length"),
        Broken(TEXT, b'{"embeddings": {"float": [["1"]]}}', "Expected `float`"),
        Broken(RERANK, b"{}", "Failed to find required field [results] in Cohere rerank response"),
        Broken(COMPLETION, b"{}", "Failed to find required field [text] in Cohere chat response"),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        error = await self.refused(self.cases[5], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Cohere completion only accepts 1 input")

    async def test_input_types(self, fake: FakeUpstream) -> None:
        """Each input type has its name at Cohere; unspecified leaves the task setting in force."""
        for given, sent in {
            "ingest": "search_document",
            "internal_ingest": "search_document",
            "search": "search_query",
            "internal_search": "search_query",
            "classification": "classification",
            "clustering": "clustering",
            "unspecified": "classification",
        }.items():
            fake.forget()
            self.answer(self.cases[0], fake, inputs=1)
            await self.ask(self.cases[0], fake, inputs=Texts(("how big",), InputType(given)))
            assert fake.requests[0].json["input_type"] == sent

    async def test_v1_answer_is_read(self, fake: FakeUpstream) -> None:
        """Embeddings in a plain array, as version 1 of the API gives them."""
        fake.answer(json={"embeddings": [[0.5, 0.25]]})
        result = await self.ask(self.cases[0], fake, inputs=Texts(("how big",)))
        assert isinstance(result, Embeddings)
        assert result.vectors.tolist() == [[0.5, 0.25]]

    async def test_usage(self, fake: FakeUpstream) -> None:
        """What Cohere bills is part of the result."""
        self.answer(self.cases[0], fake)
        assert (await self.ask(self.cases[0], fake)).usage == Usage(given=4, used=4)
        fake.forget()
        self.answer(self.cases[5], fake)
        assert (await self.ask(self.cases[5], fake)).usage == Usage(given=3, used=3, output=5)

    async def test_ranking_without_index_or_score(self, fake: FakeUpstream) -> None:
        """What is missing in an entry becomes -1."""
        fake.answer(json={"results": [{"index": 1}, {"relevance_score": 0.5}]})
        result = await self.ask(self.cases[3], fake)
        assert [(r.index, r.score) for r in getattr(result, "items", ())] == [(1, -1.0), (-1, 0.5)]

    async def test_only_text_is_ranked(self, fake: FakeUpstream) -> None:
        """Items that are texts are ranked, others are refused."""
        case = self.cases[4]
        self.answer(case, fake)
        await self.ask(case, fake, inputs=RankQuery(Item("luke"), (Item("luke"), "leia")))
        assert fake.requests[0].json == case.request
        image = Item("data:image/png;base64,AA==", "image")
        error = await self.refused(case, fake, inputs=RankQuery("luke", (image,)))
        text = "The [cohere] service does not support inputs of type [image]"
        assert (error.status, error.reason) == (400, text)

    async def test_stream_ends_in_an_error(self, fake: FakeUpstream) -> None:
        """A stream that Cohere stops is an error with Cohere's status and words."""
        v1, v2 = self.cases[6], self.cases[5]
        for reason, status in (("ERROR", 500), ("ERROR_TOXIC", 500), ("ERROR_LIMIT", 429)):
            end = {"event_type": "stream-end", "finish_reason": reason, "response": {"text": "too much"}}
            fake.forget()
            fake.answer(
                body=b'{"event_type":"text-generation","text":"a"}\n' + msgspec.json.encode(end) + b"\n"
            )
            error = await self.refused_stream(v1, fake)
            assert (error.status, error.reason) == (
                status,
                "Cohere stopped the stream due to an error: too much",
            )
            assert isinstance(error, UpstreamError)
        fake.forget()
        fake.answer(sse=[{"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "too much"}}])
        error = await self.refused_stream(v2, fake)
        assert error.reason == "Cohere stopped the stream due to an error: too much"

    async def test_unknown_events(self, fake: FakeUpstream) -> None:
        """A version 1 event that nobody knows fails the stream by name."""
        for line, cause in (
            (b'{"event_type":"new"}\n', "Unknown eventType found: new"),
            (b'{"event_type":"text-generation"}\n', "Null text found in text-generation cohere event"),
        ):
            fake.forget()
            fake.answer(body=line)
            assert cause in (await self.refused_stream(self.cases[6], fake)).reason
