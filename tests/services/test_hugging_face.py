"""Hugging Face: what we send, what we make of the reply."""

import msgspec

from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.results import Sparse
from inferd.core.tasks import TaskType
from inferd.services.hugging_face import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

TEXT, SPARSE, RERANK = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.RERANK
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

SETTINGS = {"api_key": "hf_very-secret", "url": "{fake}/my/endpoint"}
HEADERS = {"authorization": "Bearer hf_very-secret"}
PATH = "/my/endpoint"
RATE = {"requests_per_minute": 3000}
FOR = "for request from inference entity id [my-endpoint]"
UNKNOWN_LIMITS = (
    "Received a rate limit status code. Token limit [unknown], remaining tokens [unknown]. "
    "Request limit [unknown], remaining requests [unknown]"
)


class TestHuggingFace(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 502, 503})
    retried_by_task = {COMPLETION: frozenset({429, 500, 503}), CHAT: frozenset({429, 500, 503})}

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"error": message})

    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "similarity": "dot_product",
                "dimensions": 99,
                "max_input_tokens": 100,
            },
            inputs=Texts(("how big", "how small"), InputType.INTERNAL_INGEST),
            path=PATH,
            headers=HEADERS,
            request={"inputs": ["how big", "how small"]},
            reply=[[0.5, -0.25], [1, 2]],
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                "url": "{fake}/my/endpoint",
                "similarity": "dot_product",
                "dimensions": 2,
                "max_input_tokens": 100,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=TEXT,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path=PATH,
            headers=HEADERS,
            request={"inputs": ["how big"]},
            reply={"embeddings": [[0.5, 0.25, 0.125]]},
            answer={"text_embedding": [{"embedding": [0.5, 0.25, 0.125]}]},
            shown={
                "url": "{fake}/my/endpoint",
                "similarity": "cosine",
                "dimensions": 3,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=SPARSE,
            service_settings=SETTINGS,
            inputs=Texts(("how big", "how small")),
            path=PATH,
            headers=HEADERS,
            request={"inputs": ["how big", "how small"]},
            reply=[{"how": 0.25, "big": 1.5}, {"small": 2}],
            answer={
                "sparse_embedding": [
                    {"is_truncated": False, "embedding": {"big": 1.5, "how": 0.25}},
                    {"is_truncated": False, "embedding": {"small": 2.0}},
                ]
            },
            shown={"url": "{fake}/my/endpoint", "max_input_tokens": 512, "rate_limit": RATE},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            task_settings={"return_documents": True, "top_n": 2},
            inputs=RankQuery("luke", ("luke", "leia", "r2d2")),
            path=PATH,
            headers=HEADERS,
            request={
                "texts": ["luke", "leia", "r2d2"],
                "query": "luke",
                "return_text": True,
                "top_n": 2,
            },
            reply=[
                {"index": 2, "score": 0.125, "text": "r2d2"},
                {"index": 0, "relevance_score": 0.5, "document": {"text": "luke"}},
                {"index": 1, "score": 0.25, "text": "leia"},
            ],
            answer={
                "rerank": [
                    {"index": 0, "relevance_score": 0.5, "text": "luke"},
                    {"index": 1, "relevance_score": 0.25, "text": "leia"},
                ]
            },
            shown={"url": "{fake}/my/endpoint", "rate_limit": RATE},
            shown_task={"return_documents": True, "top_n": 2},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery("luke", ("luke",), top_n=1, return_documents=False),
            path=PATH,
            headers=HEADERS,
            request={"texts": ["luke"], "query": "luke", "return_text": False, "top_n": 1},
            reply=[{"index": 0, "score": 1}],
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=chat.PROMPT,
            path=PATH,
            headers=HEADERS,
            request=chat.prompt(),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={"url": "{fake}/my/endpoint", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.prompt(stream=True, stream_options=chat.USAGE),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "model_id": "the-model"},
            inputs=chat.QUESTION,
            path=PATH,
            headers=HEADERS,
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={"model_id": "the-model", "url": "{fake}/my/endpoint", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.question(
                tokens="max_tokens", model="the-model", stream=True, stream_options=chat.USAGE
            ),
            chunks=chat.CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.SHORT,
            path=PATH,
            headers=HEADERS,
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [url]",
            ),
        ),
        Bad(
            TEXT,
            {
                "api_key": "hf",
                "url": "ftp://host",
                "similarity": "x",
                "dimensions": -1,
                "max_input_tokens": 0,
            },
            faults=(
                "[service_settings] Invalid url [ftp://host] received for field [url]. Error: unable to parse url "
                "[ftp://host]. Reason: unexpected scheme, expected http or https",
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [-1]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "model_id": "m"},
            reason="Configuration contains settings [{model_id=m}] unknown to the [hugging_face] service",
        ),
        Bad(
            SPARSE,
            {**SETTINGS, "max_input_tokens": 10},
            faults=("[service_settings] does not allow the setting [max_input_tokens]",),
        ),
        Bad(
            RERANK,
            SETTINGS,
            {"top_n": 0, "return_documents": 1},
            faults=(
                "field [return_documents] is not of the expected type. The value [1] cannot be converted to a "
                "[Boolean]",
                "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
            ),
        ),
        Bad(
            TEXT,
            SETTINGS,
            {"truncate": "END"},
            reason="Configuration contains settings [{truncate=END}] unknown to the [hugging_face] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={
                "api_key": "new",
                "max_input_tokens": 3,
                "rate_limit": {"requests_per_minute": 1},
            },
            shown={
                "url": "http://fake.test/my/endpoint",
                "max_input_tokens": 3,
                "rate_limit": {"requests_per_minute": 1},
            },
            secrets={"api_key": "new"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"url": "http://elsewhere"},
            faults=("[service_settings] does not allow the setting [url]",),
        ),
    )
    refusals = (
        *(
            Refusal(
                task=TEXT,
                status=status,
                becomes=becomes,
                body={"error": "busy"},
                reason=f"Received a rate limit status code {FOR} status [{status}]. Error message: [busy]",
                attempts=3,
            )
            for status, becomes in ((429, 429), (502, 400), (503, 400))
        ),
        Refusal(
            task=TEXT,
            status=500,
            becomes=400,
            reason=f"Received a server error status code {FOR} status [500]",
        ),
        Refusal(
            task=SPARSE,
            status=413,
            reason=f"Received a content too large status code {FOR} status [413]",
            attempts=3,
        ),
        Refusal(
            task=RERANK,
            status=401,
            body={"error": {"message": "no"}},
            reason=f"Received an authentication error status code {FOR} status [401]",
        ),
        Refusal(task=TEXT, status=302, reason=f"Unhandled redirection {FOR} status [302]"),
        Refusal(
            task=TEXT,
            status=422,
            body={"error": "batch size 33 > 32", "error_type": "Validation"},
            reason=f"Received an unsuccessful status code {FOR} status [422]. Error message: [batch size 33 > 32]",
        ),
        Refusal(task=COMPLETION, status=429, reason=f"{UNKNOWN_LIMITS} {FOR} status [429]", attempts=3),
        Refusal(
            task=CHAT,
            status=422,
            body={"error": {"message": "no", "http_status_code": 422}},
            reason=f"Received an input validation error response {FOR} status [422]. Error message: [no]",
            kind="hugging_face_error",
            code="422",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": {}},
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [unknown]",
            kind="hugging_face_error",
            code=None,
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": "no"},
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [no]",
            kind="ErrorResponse",
            code="bad_request",
        ),
    )
    replies = (
        Broken(TEXT, b"{}", "Failed to find required field [embeddings] in Hugging Face embeddings response"),
        Broken(TEXT, b'[["1"]]', "Expected `float`, got `str`"),
        Broken(TEXT, b"[[null]]", "Expected `float`, got `null`"),
        Broken(TEXT, b"[[[1]]]", "Expected `float`, got `array`"),
        Broken(TEXT, b"[[1], [1, 2]]", "differ in length"),
        Broken(TEXT, b"[[1e39]]", "not finite"),
        Broken(SPARSE, b'[{"a": "1"}]', "Expected `float`, got `str`"),
        Broken(SPARSE, b'[{"a": 1e39}]', "not a finite"),
        Broken(RERANK, b'[{"index": 0}]', "[score]"),
        Broken(RERANK, b'[{"score": 1}]', "missing required field `index`"),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        case = next(case for case in self.cases if case.task is COMPLETION)
        error = await self.refused(case, fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Hugging Face chat completions only accepts 1 input")

    async def test_cut_inputs_are_marked(self, fake: FakeUpstream) -> None:
        """An input that had to be cut after a 413 says so."""
        case = next(case for case in self.cases if case.task is SPARSE)
        fake.answer(status=413)
        fake.answer(json=[{"a": 1.0}, {}])
        result = await self.ask(case, fake, inputs=Texts(("abcd", "")))
        assert isinstance(result, Sparse)
        assert [vector.is_truncated for vector in result.vectors] == [True, False]
        assert fake.requests[1].json == {"inputs": ["ab", ""]}
