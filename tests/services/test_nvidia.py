"""NVIDIA: what we send, what we make of the reply."""

import pytest

from inferd.actions.infer import check_input_type
from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.services.nvidia import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

TEXT, RERANK = TaskType.TEXT_EMBEDDING, TaskType.RERANK
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "nv-very-secret", "model_id": "the-model"}
BEARER = {"authorization": "Bearer nv-very-secret"}
RATE = {"requests_per_minute": 3000}
FOR = "for request from inference entity id [my-endpoint]"
TALK = "https://integrate.api.nvidia.com/v1/chat/completions"


class TestNvidia(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "similarity": "cosine", "dimensions": 2, "max_input_tokens": 100},
            task_settings={"input_type": "Ingest", "truncate": "end"},
            inputs=Texts(("how big", "how small")),
            path="/v1/embeddings",
            headers=BEARER,
            request={
                "input": ["how big", "how small"],
                "model": "the-model",
                "input_type": "passage",
                "truncate": "END",
            },
            reply={"data": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 2]}]},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                "model_id": "the-model",
                "url": "https://integrate.api.nvidia.com/v1/embeddings",
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
                "rate_limit": RATE,
            },
            shown_task={"input_type": "ingest", "truncate": "END"},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "url": "{fake}/my/nim"},
            inputs=Texts(("how big",)),
            path="/my/nim",
            headers=BEARER,
            request={"input": ["how big"], "model": "the-model", "input_type": "query"},
            reply={"data": [{"embedding": "AAAAPw=="}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                "model_id": "the-model",
                "url": "{fake}/my/nim",
                "similarity": "dot_product",
                "dimensions": 1,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=chat.PROMPT,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.prompt(model="the-model"),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={"model_id": "the-model", "url": TALK, "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.prompt(model="the-model", stream=True),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.QUESTION,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={"model_id": "the-model", "url": TALK, "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.question(tokens="max_tokens", model="the-model", stream=True),
            chunks=chat.CHUNKS,
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
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery("luke", ("luke", "leia"), top_n=1, return_documents=True),
            path="/v1/retrieval/nvidia/reranking",
            headers=BEARER,
            request={
                "model": "the-model",
                "query": {"text": "luke"},
                "passages": [{"text": "luke"}, {"text": "leia"}],
            },
            reply={"rankings": [{"index": 1, "logit": -2.5}, {"index": 0, "logit": 3}], "usage": {"a": 1}},
            answer={"rerank": [{"index": 1, "relevance_score": -2.5}, {"index": 0, "relevance_score": 3.0}]},
            shown={
                "model_id": "the-model",
                "url": "https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking",
                "rate_limit": RATE,
            },
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions": 0, "max_input_tokens": 0, "similarity": "x", "url": "mailto:a"},
            {"input_type": "clustering", "truncate": "left"},
            faults=(
                "[service_settings] Invalid url [mailto:a] received for field [url]. Error: unable to parse url "
                "[mailto:a]. Reason: unexpected scheme, expected http or https",
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[task_settings] Invalid value [clustering] received. [input_type] must be one of "
                "[ingest, internal_ingest, internal_search, search]",
                "[task_settings] Invalid value [left] received. [truncate] must be one of [end, none, start]",
            ),
        ),
        Bad(
            RERANK,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 0}},
            faults=("[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",),
        ),
        Bad(
            RERANK,
            SETTINGS,
            {"top_n": 1},
            reason="Configuration contains settings [{top_n=1}] unknown to the [nvidia] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={
                "api_key": "new",
                "max_input_tokens": 2,
                "rate_limit": {"requests_per_minute": 1},
            },
            task_settings={"truncate": "none"},
            shown={
                "model_id": "the-model",
                "url": "https://integrate.api.nvidia.com/v1/embeddings",
                "max_input_tokens": 2,
                "rate_limit": {"requests_per_minute": 1},
            },
            shown_task={"truncate": "NONE"},
            secrets={"api_key": "new"},
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=400,
            body={"detail": "no"},
            reason=f"Received a bad request status code {FOR} status [400]",
        ),
        Refusal(
            task=RERANK,
            status=422,
            body={"error": {"message": "no"}},
            reason=f"Received an input validation error response {FOR} status [422]. Error message: [no]",
        ),
        Refusal(
            task=RERANK,
            status=503,
            becomes=400,
            reason=f"Received a server busy error status code {FOR} status [503]",
            attempts=3,
        ),
        Refusal(
            task=CHAT,
            status=404,
            body={"error": {"message": "no"}},
            reason=f"Resource not found at [{{url}}] {FOR} status [404]. Error message: [no]",
            kind="nvidia_error",
            code="not_found",
        ),
    )
    replies = (
        *(
            Broken(
                task,
                b"{}",
                f"Failed to send NVIDIA {task} request from inference entity id [my-endpoint]. Cause: ",
            )
            for task in (TEXT, COMPLETION, CHAT, RERANK)
        ),
        Broken(RERANK, b'{"rankings": [{"index": 0}]}', "missing required field `logit`"),
        Broken(RERANK, b'{"rankings": [{"logit": 0}]}', "missing required field `index`"),
        Broken(RERANK, b'{"rankings": [{"index": 0, "logit": 1e39}]}', "not a finite"),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        error = await self.refused(self.cases[2], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "NVIDIA completions only accepts 1 input")

    async def test_input_types(self, fake: FakeUpstream) -> None:
        """The request's input type wins over the task setting; unspecified says nothing."""
        for given, sent in {
            "ingest": "passage",
            "internal_ingest": "passage",
            "search": "query",
            "internal_search": "query",
            "unspecified": "passage",
        }.items():
            fake.forget()
            self.answer(self.cases[0], fake, inputs=1)
            await self.ask(self.cases[0], fake, inputs=Texts(("how big",), InputType(given)))
            assert fake.requests[0].json["input_type"] == sent

    @pytest.mark.parametrize("given", ["classification", "clustering"])
    def test_input_types_that_are_not_supported(self, given: str) -> None:
        """What the provider has no word for is refused."""
        with pytest.raises(StatusError) as caught:
            check_input_type(SERVICE, Texts(("how big",), InputType(given)))
        text = f"Input type [{given}] is not supported for [NVIDIA]"
        assert (caught.value.status, caught.value.reason) == (400, text)
