"""Custom: requests from templates, answers by paths."""

from typing import Any

import msgspec
import pytest

from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.tasks import TaskType
from inferd.errors import InferdError
from inferd.services.custom import SERVICE
from inferd.testing import FakeUpstream
from inferd.upstream.client import rate_group

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, SPARSE = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING
RERANK, COMPLETION = TaskType.RERANK, TaskType.COMPLETION

SECRETS = {"secret_parameters": {"api_key": "custom-very-secret", "tenant": "tenant-secret"}}
NO_TRANSLATION = {"input_type": {"translation": {}, "default": ""}}
RATE = {"rate_limit": {"requests_per_minute": 10000}, "batch_size": 10}


def parser(**paths: Any) -> dict[str, Any]:
    return {"json_parser": paths}


DENSE = parser(text_embeddings="$.data[*].embedding")
DENSE_SHOWN = parser(text_embeddings="$.data[*].embedding", embedding_type="float")
PLAIN = {"url": "{fake}/v1", "request": '{"input": ${input}}'}


def settings(response: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**PLAIN, "response": response, **more}


def wrong_type(key: str, value: str, name: str) -> str:
    return f"field [{key}] is not of the expected type. The value [{value}] cannot be converted to a [{name}]"


def missing(scope: str, key: str) -> str:
    return f"[{scope}] does not contain the required setting [{key}]"


JSON_PARSER = "service_settings.response.json_parser"


class TestCustom(ServiceTest):
    service = SERVICE
    retried = frozenset({429})
    cases = (
        Case(
            task=TEXT,
            service_settings={
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
                "url": "{fake}/${region}/${version}/embed?fixed=1",
                "headers": {
                    "Authorization": "Bearer ${api_key}",
                    "X-Region": "in ${region}",
                    "content-type": "application/json; charset=utf-8",
                    "X-Null": None,
                },
                "query_parameters": [["tenant", "${tenant}"], ["q", "a b&c=${region}"], ["q", "2"]],
                "request": '{"input": ${input}, "type": ${input_type}, "n": ${n}, "deep": ${deep}, "key": ${api_key}}',
                "response": DENSE,
                "input_type": {"translation": {"ingest": "document", "search": "query"}, "default": "none"},
                "batch_size": 5,
                "rate_limit": {"requests_per_minute": 60000},
                **SECRETS,
            },
            task_settings={"parameters": {"region": "eu", "version": "v1", "n": 1, "deep": True}},
            options={"parameters": {"region": "eu", "version": "v2/beta", "n": 2.5, "deep": False}},
            inputs=Texts(("how big", 'how "small"'), InputType.SEARCH),
            path="/eu/v2/beta/embed",
            query="fixed=1&tenant=tenant-secret&q=a%20b%26c%3Deu&q=2",
            headers={
                "authorization": "Bearer custom-very-secret",
                "x-region": "in eu",
                "content-type": "application/json; charset=utf-8",
            },
            request={
                "input": ["how big", 'how "small"'],
                "type": "query",
                "n": 2.5,
                "deep": False,
                "key": "custom-very-secret",
            },
            reply={"data": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 0]}], "more": 1},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
                "url": "{fake}/${region}/${version}/embed?fixed=1",
                "headers": {
                    "Authorization": "Bearer ${api_key}",
                    "X-Region": "in ${region}",
                    "content-type": "application/json; charset=utf-8",
                },
                "query_parameters": [["tenant", "${tenant}"], ["q", "a b&c=${region}"], ["q", "2"]],
                "request": '{"input": ${input}, "type": ${input_type}, "n": ${n}, "deep": ${deep}, "key": ${api_key}}',
                "response": DENSE_SHOWN,
                "input_type": {"translation": {"ingest": "document", "search": "query"}, "default": "none"},
                "rate_limit": {"requests_per_minute": 60000},
                "batch_size": 5,
            },
            shown_task={"parameters": {"region": "eu", "version": "v1", "n": 1, "deep": True}},
        ),
        Case(
            task=TEXT,
            service_settings=settings(parser(text_embeddings="$[*].b", embedding_type="BINARY")),
            inputs=Texts(("how big",)),
            path="/v1",
            headers={},
            request={"input": ["how big"]},
            reply=[{"b": [127, -128]}],
            answer={"text_embedding_bits": [{"embedding": [127, -128]}]},
            shown={
                "similarity": "l2_norm",
                "dimensions": 16,
                "url": "{fake}/v1",
                "request": '{"input": ${input}}',
                "response": parser(text_embeddings="$[*].b", embedding_type="bit"),
                **NO_TRANSLATION,
                **RATE,
            },
        ),
        Case(
            task=TEXT,
            service_settings=settings(parser(text_embeddings="$.e", embedding_type="byte")),
            inputs=Texts(("how big",)),
            path="/v1",
            headers={},
            request={"input": ["how big"]},
            reply={"e": [[1, -2]]},
            answer={"text_embedding_bytes": [{"embedding": [1, -2]}]},
            shown={
                "similarity": "dot_product",
                "dimensions": 2,
                "url": "{fake}/v1",
                "request": '{"input": ${input}}',
                "response": parser(text_embeddings="$.e", embedding_type="byte"),
                **NO_TRANSLATION,
                **RATE,
            },
        ),
        Case(
            task=SPARSE,
            service_settings=settings(
                parser(
                    token_path="$.result.sparse[*].embedding[*].token_id",
                    weight_path="$.result.sparse[*].embedding[*].weight",
                ),
                request='{"input": ${input}, "input_type": ${input_type}}',
                input_type={"translation": {"ingest": "document"}},
            ),
            inputs=Texts(("how big", "how small"), InputType.INTERNAL_INGEST),
            path="/v1",
            headers={},
            request={"input": ["how big", "how small"], "input_type": "document"},
            reply={
                "result": {
                    "sparse": [
                        {"embedding": [{"token_id": 6, "weight": 0.25}, {"token_id": "big", "weight": 0.5}]},
                        {"embedding": [{"token_id": 7, "weight": 1}]},
                    ]
                }
            },
            answer={
                "sparse_embedding": [
                    {"is_truncated": False, "embedding": {"big": 0.5, "6": 0.25}},
                    {"is_truncated": False, "embedding": {"7": 1.0}},
                ]
            },
            shown={
                "url": "{fake}/v1",
                "request": '{"input": ${input}, "input_type": ${input_type}}',
                "response": parser(
                    token_path="$.result.sparse[*].embedding[*].token_id",
                    weight_path="$.result.sparse[*].embedding[*].weight",
                ),
                "input_type": {"translation": {"ingest": "document"}, "default": ""},
                **RATE,
            },
        ),
        Case(
            task=RERANK,
            service_settings=settings(
                parser(
                    relevance_score="$.scores[*].score",
                    reranked_index="$.scores[*].index",
                    document_text="$.scores[*].text",
                ),
                request='{"query": ${query}, "docs": ${input}, "top_n": ${top_n}, "texts": ${return_documents}}',
            ),
            task_settings={"parameters": {"top_n": 9, "return_documents": False}},
            inputs=RankQuery(query="star wars", documents=("luke", "like"), top_n=2, return_documents=True),
            path="/v1",
            headers={},
            request={"query": "star wars", "docs": ["luke", "like"], "top_n": 2, "texts": True},
            reply={
                "scores": [
                    {"index": 1, "score": 0.25, "text": "like"},
                    {"index": 0, "score": 0.75, "text": None},
                ]
            },
            answer={
                "rerank": [
                    {"index": 0, "relevance_score": 0.75},
                    {"index": 1, "relevance_score": 0.25, "text": "like"},
                ]
            },
            shown={
                "url": "{fake}/v1",
                "request": '{"query": ${query}, "docs": ${input}, "top_n": ${top_n}, "texts": ${return_documents}}',
                "response": parser(
                    relevance_score="$.scores[*].score",
                    reranked_index="$.scores[*].index",
                    document_text="$.scores[*].text",
                ),
                **NO_TRANSLATION,
                **RATE,
            },
            shown_task={"parameters": {"top_n": 9, "return_documents": False}},
        ),
        Case(
            task=RERANK,
            service_settings=settings(
                parser(relevance_score="$.scores"),
                request='{"query": ${query}, "docs": ${input}, "top_n": ${top_n}}',
            ),
            task_settings={"parameters": {"top_n": 9}},
            inputs=RankQuery(query="q", documents=("a", "b")),
            path="/v1",
            headers={},
            request={"query": "q", "docs": ["a", "b"], "top_n": 9},
            reply={"scores": [0.25, 0.5]},
            answer={"rerank": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.25}]},
        ),
        Case(
            task=COMPLETION,
            service_settings=settings(
                parser(completion_result="$.result.text"),
                request='{"messages": [{"role": "user", "content": "Q: ${input}"}], "raw": ${input}}',
            ),
            inputs=Texts(('a "quoted" ${api_key}',)),
            path="/v1",
            headers={},
            request={
                "messages": [{"role": "user", "content": 'Q: a "quoted" ${api_key}'}],
                "raw": 'a "quoted" ${api_key}',
            },
            reply={"result": {"text": "Elastic"}},
            answer={"completion": [{"result": "Elastic"}]},
            shown={
                "url": "{fake}/v1",
                "request": '{"messages": [{"role": "user", "content": "Q: ${input}"}], "raw": ${input}}',
                "response": parser(completion_result="$.result.text"),
                **NO_TRANSLATION,
                **RATE,
            },
        ),
        Case(
            task=COMPLETION,
            service_settings=settings(
                parser(completion_result="$.choices[*].message.content"),
                request="prompt: ${input}",
                headers={"Content-Type": "text/plain", "X-Key": "${api_key}"},
                **SECRETS,
            ),
            inputs=Texts(("how big",)),
            path="/v1",
            headers={"content-type": "text/plain", "x-key": "custom-very-secret"},
            request=b'prompt: "how big"',
            reply={"choices": [{"message": {"content": "Elastic"}}, {"message": {"content": "search"}}]},
            answer={"completion": [{"result": "Elastic"}, {"result": "search"}]},
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                missing("service_settings", "url"),
                missing("service_settings", "request"),
                missing("service_settings", "response"),
            ),
        ),
        Bad(TEXT, settings({}), faults=(missing("service_settings.response", "json_parser"),)),
        Bad(TEXT, settings(parser()), faults=(missing(JSON_PARSER, "text_embeddings"),)),
        Bad(
            SPARSE,
            settings(parser()),
            faults=(missing(JSON_PARSER, "token_path"), missing(JSON_PARSER, "weight_path")),
        ),
        Bad(RERANK, settings(parser()), faults=(missing(JSON_PARSER, "relevance_score"),)),
        Bad(COMPLETION, settings(parser()), faults=(missing(JSON_PARSER, "completion_result"),)),
        Bad(
            TEXT,
            settings(parser(text_embeddings="data", embedding_type="half")),
            faults=(
                "Path [data] must start with a dollar sign ($)",
                f"[{JSON_PARSER}] Invalid value [half] received. [embedding_type] must be one of [binary, bit, byte, float]",
            ),
        ),
        Bad(
            RERANK,
            settings(parser(relevance_score="$.a[0]", reranked_index="", document_text=5)),
            faults=(
                "Invalid path received [[0]], unable to extract a field name.",
                f"[{JSON_PARSER}] Invalid value empty string. [reranked_index] must be a non-empty string",
                wrong_type("document_text", "5", "String"),
            ),
        ),
        Bad(
            TEXT,
            settings({**DENSE, "error_parser": {"path": "$.error"}}),
            reason="Configuration contains settings [{error_parser={path=$.error}}] unknown to the [custom] service",
        ),
        Bad(
            TEXT,
            settings(parser(text_embeddings="$.a", token_path="$.b")),
            reason="Configuration contains settings [{token_path=$.b}] unknown to the [custom] service",
        ),
        Bad(
            TEXT,
            {
                "url": "",
                "request": {"content": "{}"},
                "response": "json",
                "headers": {"a": 5},
                "query_parameters": [["only one"]],
                "input_type": {"translation": {"internal_ingest": "x"}, "default": ""},
                "secret_parameters": {"key": 123456},
                "batch_size": 0,
                "dimensions": 0,
                "similarity": "x",
                "max_input_tokens": 0,
                "rate_limit": {"requests_per_minute": 0},
            },
            faults=(
                "[service_settings] Invalid value [x] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[service_settings] Invalid value empty string. [url] must be a non-empty string",
                "Map field [headers] has an entry that is not valid, [a => 5]. Value type of [5] is not one of [String].",
                "[service_settings] Invalid value [[only one]]. [query_parameters] must be a list of pairs of strings",
                wrong_type("request", "{content={}}", "String"),
                wrong_type("response", "json", "Map"),
                "[service_settings.input_type.translation] does not allow the setting [internal_ingest]",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "[service_settings] Invalid value [0]. [batch_size] must be a positive integer",
                "Map field [secret_parameters] has an entry that is not valid, [key => ******]. "
                "Value type of [******] is not one of [String].",
            ),
        ),
        Bad(
            TEXT,
            settings(
                DENSE, query_parameters="a=b", headers="X", input_type=5, secret_parameters="custom-secret"
            ),
            {"parameters": "x"},
            faults=(
                wrong_type("headers", "X", "Map"),
                wrong_type("query_parameters", "a=b", "List"),
                wrong_type("input_type", "5", "Map"),
                wrong_type("secret_parameters", "******", "Map"),
                wrong_type("parameters", "x", "Map"),
            ),
        ),
        Bad(
            TEXT,
            settings(DENSE, input_type={"other": 1}),
            reason="Configuration contains settings [{other=1}] unknown to the [custom] service",
        ),
        Bad(
            TEXT,
            settings(
                DENSE,
                headers={
                    "a b": "x",
                    "": "x",
                    "Content-Length": "5",
                    "X-Fine": "line\r\nX-Injected: 1",
                    "X": "\x00",
                },
            ),
            faults=(
                "[headers] does not allow the header [a b]",
                "[headers] does not allow the header []",
                "[headers] does not allow the header [Content-Length]",
                "[headers] The value of the header [X-Fine] must not hold control characters",
                "[headers] The value of the header [X] must not hold control characters",
            ),
        ),
        Bad(
            TEXT,
            settings(DENSE, **SECRETS),
            {"parameters": {"api_key": "x", "fine": 1}},
            faults=(
                "[task_settings.parameters] must not contain [api_key], which is also in [secret_parameters]",
            ),
        ),
        Bad(
            TEXT,
            settings(DENSE),
            {"parameters": {"list": [1]}},
            faults=(
                "Map field [parameters] has an entry that is not valid, [list => [1]]. "
                "Value type of [[1]] is not one of [Boolean, Double, Float, Integer, String].",
            ),
        ),
        Bad(
            TEXT,
            settings(DENSE, url="https://a.test/" + "a" * 8192),
            faults=("[service_settings] [url] must not be longer than [8192] characters",),
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=settings(DENSE, headers={"A": "1"}, **SECRETS),
            stored_task={"parameters": {"a": 1, "b": 2}},
            service_settings={
                "headers": {"B": "2"},
                "secret_parameters": {"api_key": "another"},
                "max_input_tokens": 5,
                "rate_limit": {"requests_per_minute": 5},
            },
            task_settings={"parameters": {"b": 3}},
            shown={
                "max_input_tokens": 5,
                "url": "{fake}/v1",
                "headers": {"B": "2"},
                "request": '{"input": ${input}}',
                "response": DENSE_SHOWN,
                **NO_TRANSLATION,
                "rate_limit": {"requests_per_minute": 5},
                "batch_size": 10,
            },
            shown_task={"parameters": {"b": 3}},
        ),
        Change(
            task=TEXT,
            stored=settings(DENSE, **SECRETS),
            task_settings={"parameters": {"tenant": "x"}},
            faults=(
                "[task_settings.parameters] must not contain [tenant], which is also in [secret_parameters]",
            ),
        ),
        Change(
            task=TEXT,
            stored=settings(DENSE),
            service_settings={"response": DENSE, "input_type": {}},
            shown={
                "url": "{fake}/v1",
                "request": '{"input": ${input}}',
                "response": DENSE_SHOWN,
                **NO_TRANSLATION,
                **RATE,
            },
        ),
        Change(
            task=TEXT,
            stored=settings(DENSE),
            service_settings={"response": parser(text_embeddings="$.other")},
            faults=("[service_settings] does not allow the setting [response]",),
        ),
        Change(
            task=TEXT,
            stored=settings(DENSE),
            service_settings={"response": 5},
            faults=("[service_settings] does not allow the setting [response]",),
        ),
        Change(
            task=TEXT,
            stored=settings(DENSE),
            service_settings={"url": "http://elsewhere.test"},
            faults=("[service_settings] does not allow the setting [url]",),
        ),
    )
    refusals = (
        *(
            Refusal(
                task=TEXT,
                status=status,
                body=b"not <that>",
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not <that>]",
                attempts=attempts,
            )
            for status, prefix, attempts in (
                (400, "Received an unsuccessful status code", 1),
                (401, "Received an authentication error status code", 1),
                (404, "Received an unsuccessful status code", 1),
                (413, "Received an unsuccessful status code", 1),
                (429, "Received a rate limit status code", 3),
                (500, "Received a server error status code", 1),
                (503, "Received a server error status code", 1),
            )
        ),
        *(
            Refusal(
                task=task,
                status=200,
                body=body,
                reason=f"Failed to send Custom {what} request. Cause: {cause}",
                becomes=500,
                attempts=3,
            )
            for task, what, body, cause in (
                (TEXT, "embeddings", {"a": 1}, "Unable to find field [data] in map"),
                (
                    TEXT,
                    "embeddings",
                    {"data": {}},
                    "Current path [[*].embedding] matched the array field pattern but the current object is not a list, "
                    "found invalid type [LinkedHashMap] instead.",
                ),
                (
                    TEXT,
                    "embeddings",
                    {"data": [{"embedding": ["1"]}]},
                    "Extracted field [text_embeddings] from path [$.data[*].embedding] cannot be read: "
                    "Expected `float`, got `str` - at `$[0][0]`",
                ),
                (
                    SPARSE,
                    "sparse embeddings",
                    {"result": {"sparse": [{"embedding": [{"token_id": 1}]}]}},
                    "Unable to find field [weight] in map",
                ),
                (
                    RERANK,
                    "rerank",
                    {"scores": [{"index": "first", "score": 1, "text": ""}]},
                    "Extracted field [reranked_index] from path [$.scores[*].index] cannot be read: "
                    "Expected `int`, got `str` - at `$[0]`",
                ),
                (
                    COMPLETION,
                    "completion",
                    {"result": {"text": 5}},
                    "Extracted field [completion_result] from path [$.result.text] is an invalid type, expected a list or "
                    "a string but received [Integer]",
                ),
                (
                    COMPLETION,
                    "completion",
                    {"result": {"text": ["a", None]}},
                    "Extracted field [completion_result] from path [$.result.text] holds a value that is not a string "
                    "but [null]",
                ),
            )
        ),
    )

    async def left_over(self, fake: FakeUpstream, **more: Any) -> InferdError:
        case = Case(
            task=TEXT,
            service_settings=settings(DENSE, **more),
            inputs=Texts(("how big",)),
            path="/v1",
            headers={},
        )
        fake.answer(json={})
        error = await self.refused(case, fake)
        assert not fake.requests
        return error

    @pytest.mark.parametrize(
        ("more", "field"),
        [
            ({"url": "{fake}/${x}"}, "url"),
            ({"request": "${x}"}, "request"),
            ({"headers": {"X-Y": "a ${x}"}}, "header.X-Y"),
            ({"query_parameters": [["k", "${x}"]]}, "query parameters: [k]"),
        ],
    )
    async def test_left_over(self, fake: FakeUpstream, more: dict[str, Any], field: str) -> None:
        """A placeholder that nothing fills is told before anything is sent."""
        error = await self.left_over(fake, **more)
        assert error.status == 400
        assert error.reason == (
            f"Found placeholder [${{x}}] in field [{field}] after replacement call, please check that all templates "
            "have a corresponding field definition."
        )

    async def test_inputs_stay_in_the_body(self, fake: FakeUpstream) -> None:
        """The inputs are no values of address and headers."""
        for more in ({"url": "{fake}/${input}"}, {"headers": {"X": "${query}"}}):
            assert "Found placeholder [${" in (await self.left_over(fake, **more)).reason

    async def asked_with(self, fake: FakeUpstream, parameters: dict[str, Any], **more: Any) -> None:
        case = Case(
            task=TEXT,
            service_settings=settings(DENSE, **SECRETS, **more),
            options={"parameters": parameters},
            inputs=Texts(("how big",)),
            path="/v1",
            headers={},
        )
        fake.answer(json={"data": [{"embedding": [1]}]})
        await self.ask(case, fake)

    @pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "\x00", "\x7f", "\x1b[0m"])
    async def test_header_injection(self, fake: FakeUpstream, value: str) -> None:
        """A value that would end its header is refused, and the value is not repeated."""
        with pytest.raises(InferdError) as caught:
            await self.asked_with(fake, {"v": value}, headers={"X-V": "a ${v}"})
        assert caught.value.status == 400
        assert caught.value.reason == "The value of the header [X-V] must not hold control characters"
        assert not fake.requests

    @pytest.mark.parametrize("value", ["@127.0.0.1:1/", ".evil.test/", ":1/"])
    async def test_moved_host(self, fake: FakeUpstream, value: str) -> None:
        """A request's parameters cannot send the endpoint's secrets to another host."""
        with pytest.raises(InferdError) as caught:
            await self.asked_with(
                fake, {"v": value}, url="{fake}${v}", headers={"Authorization": "${api_key}"}
            )
        assert caught.value.status == 400
        assert not fake.requests

    async def test_secrets_are_not_asked_for(self, fake: FakeUpstream) -> None:
        """A request can neither name a secret in a value nor put its own value in a secret's place."""
        await self.asked_with(
            fake,
            {"v": "${api_key}"},
            request='{"input": ${input}, "v": ${v}}',
            headers={"X-V": "${v}"},
            query_parameters=[["v", "${v}"]],
        )
        (request,) = fake.requests
        assert request.json == {"input": ["how big"], "v": "${api_key}"}
        assert request.headers["x-v"] == "${api_key}"
        assert request.target == "/v1?v=%24%7Bapi_key%7D"
        with pytest.raises(InferdError) as caught:
            await self.asked_with(fake, {"api_key": "mine"})
        assert caught.value.reason == (
            "[task_settings.parameters] must not contain [api_key], which is also in [secret_parameters]"
        )

    async def test_secret_address(self, fake: FakeUpstream) -> None:
        """Where a secret is part of the address, errors show the template in its place."""
        case = Case(
            task=TEXT,
            service_settings=settings(
                DENSE,
                url="http://nowhere.invalid/${api_key}",
                secret_parameters={"api_key": "a-secret-key"},
            ),
            inputs=Texts(("how big",)),
            path="/v1",
            headers={},
        )
        error = await self.refused(case, fake)
        assert error.reason == (
            "Invalid host [http://nowhere.invalid/${api_key}], please check that the URL is correct."
        )

    async def test_whole_address_is_secret(self, fake: FakeUpstream) -> None:
        """The whole address may be a secret."""
        case = Case(
            task=TEXT,
            service_settings=settings(DENSE, url="${u}", secret_parameters={"u": "{fake}/hidden"}),
            inputs=Texts(("how big",)),
            path="/hidden",
            headers={},
        )
        fake.answer(json={"data": [{"embedding": [1]}]})
        await self.ask(case, fake)
        assert fake.requests[0].target == "/hidden"

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion template has room for one input."""
        case = next(case for case in self.cases if case.task is COMPLETION)
        error = await self.refused(case, fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Custom completion only accepts 1 input")

    @pytest.mark.parametrize(
        ("kind", "sent"),
        [
            (InputType.INGEST, "document"),
            (InputType.INTERNAL_INGEST, "document"),
            (InputType.SEARCH, "none"),
            (InputType.CLUSTERING, "none"),
            (InputType.UNSPECIFIED, "none"),
            (None, "none"),
        ],
    )
    async def test_input_type(self, fake: FakeUpstream, kind: InputType | None, sent: str) -> None:
        """Input types are translated; what the table does not name is the default."""
        case = Case(
            task=TEXT,
            service_settings=settings(
                DENSE,
                request='{"t": ${input_type}}',
                input_type={"translation": {"ingest": "document"}, "default": "none"},
            ),
            inputs=Texts(("how big",), kind),
            path="/v1",
            headers={},
        )
        fake.answer(json={"data": [{"embedding": [1]}]})
        await self.ask(case, fake)
        assert fake.requests[0].json == {"t": sent}

    async def test_rerank_without_top_n(self, fake: FakeUpstream) -> None:
        """A template that asks for top_n needs one, from the request or the parameters."""
        case = Case(
            task=RERANK,
            service_settings=settings(parser(relevance_score="$.s"), request='{"n": ${top_n}}'),
            inputs=RankQuery(query="q", documents=("a",)),
            path="/v1",
            headers={},
        )
        error = await self.refused(case, fake)
        assert error.reason.startswith("Found placeholder [${top_n}] in field [request]")

    @pytest.mark.parametrize(
        ("task", "response", "reply", "cause"),
        [
            (
                SPARSE,
                parser(token_path="$.t", weight_path="$.w"),
                {"t": [["a"]], "w": [[]]},
                "The response has a different number of tokens and of weights",
            ),
            (
                SPARSE,
                parser(token_path="$.t", weight_path="$.w"),
                {"t": [["a"], []], "w": [[1]]},
                "The response has a different number of tokens and of weights",
            ),
            (
                RERANK,
                parser(relevance_score="$.s", reranked_index="$.i"),
                {"s": [1, 2], "i": [0]},
                "The response has a different number of scores, indexes and documents",
            ),
            (
                RERANK,
                parser(relevance_score="$.s", document_text="$.d"),
                {"s": [1], "d": ["a", "b"]},
                "The response has a different number of scores, indexes and documents",
            ),
            (
                TEXT,
                parser(text_embeddings="$.e"),
                {"e": [[1], [1, 2]]},
                "The embeddings of one response differ in length",
            ),
            (
                TEXT,
                parser(text_embeddings="$.e", embedding_type="byte"),
                {"e": [[128]]},
                "Value [128] is out of range for a byte",
            ),
        ],
    )
    async def test_uneven_answer(
        self, fake: FakeUpstream, task: TaskType, response: Any, reply: Any, cause: str
    ) -> None:
        """Lists that belong together must be equally long, numbers must fit."""
        query = RankQuery(query="q", documents=("a",))
        case = Case(
            task=task,
            service_settings=settings(response),
            inputs=query if task is RERANK else Texts(("a",)),
            path="/v1",
            headers={},
        )
        fake.answer(json=reply)
        assert (await self.refused(case, fake)).reason.endswith(f"Cause: {cause}")


def test_groups_and_batches() -> None:
    """Address, headers and secrets decide who shares a limit; batch_size is the endpoint's own."""

    def endpoint(**more: Any) -> Any:
        return TestCustom().endpoint(TEXT, {**settings(DENSE, **SECRETS), **more})

    def group(**more: Any) -> Any:
        return rate_group(SERVICE, endpoint(**more))

    assert group() == group(batch_size=4)
    assert (
        len({group(), group(url="http://b.test"), group(headers={"a": "b"}), group(secret_parameters={})})
        == 4
    )
    assert callable(SERVICE.embedding_batch)
    assert SERVICE.embedding_batch(endpoint()) == 10
    assert SERVICE.embedding_batch(endpoint(batch_size=3)) == 3


def test_secrets_are_sealed() -> None:
    """Secret parameters are in no text of the endpoint."""
    made = TestCustom().endpoint(TEXT, settings(DENSE, **SECRETS))
    assert "very-secret" not in repr(made)
    assert b"very-secret" not in msgspec.json.encode(made.settings)
