"""Status and body into rules, messages and our errors."""

import random

import msgspec
import pytest
from acme import SERVICE, Provider
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.service import Fault, Reply, Rule
from inferd.core.tasks import TaskType
from inferd.upstream import faults
from inferd.upstream.faults import (
    ALIBABA_RULES,
    ANTHROPIC_RULES,
    AZURE_OPENAI_RULES,
    COHERE_RULES,
    CONTEXTUAL_RULES,
    FIREWORKS_RULES,
    GOOGLE_AI_STUDIO_RULES,
    GOOGLE_VERTEX_AI_RULES,
    HUGGING_FACE_RULES,
    JINA_RULES,
    MIXEDBREAD_RULES,
    OPENAI_RULES,
    WATSONX_RULES,
    Table,
    at,
    chat_fault,
    first,
    mapped,
    refused,
    typed,
    whole,
)

STATUSES = (300, 302, 400, 401, 402, 403, 404, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529)


def reply(status: int, **headers: str) -> Reply:
    return Reply(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=b"")


def rule(table: Table, status: int, message: str | None = None) -> Rule:
    return table(reply(status), Fault(message))


@pytest.mark.parametrize(
    ("table", "retried", "cut"),
    [
        (OPENAI_RULES, {429, 500, 503}, {413}),
        (AZURE_OPENAI_RULES, {429, 500, 503}, {413}),
        (COHERE_RULES, {429, 500}, set()),
        (FIREWORKS_RULES, {429, 500}, set()),
        (MIXEDBREAD_RULES, {429, 500}, set()),
        (CONTEXTUAL_RULES, {429, 500, 503}, set()),
        (HUGGING_FACE_RULES, {429, 502, 503}, {413}),
        (ANTHROPIC_RULES, {429, 500, 529}, set()),
        (JINA_RULES, {429, 500}, set()),
        (GOOGLE_AI_STUDIO_RULES, {429, 500, 503}, set()),
        (GOOGLE_VERTEX_AI_RULES, {429, 500, 503}, set()),
        (WATSONX_RULES, {500}, set()),
        (ALIBABA_RULES, {429}, set()),
    ],
)
def test_the_retry_summary(table: Table, retried: set[int], cut: set[int]) -> None:
    """Each table retries and cuts exactly what services/index.md says."""
    assert {status for status in STATUSES if rule(table, status).retry} == retried
    assert {status for status in STATUSES if rule(table, status).truncate} == cut


@pytest.mark.parametrize(
    ("table", "status", "prefix"),
    [
        (OPENAI_RULES, 302, "Unhandled redirection"),
        (OPENAI_RULES, 402, "Received an unsuccessful status code"),
        (OPENAI_RULES, 413, "Received a content too large status code"),
        (OPENAI_RULES, 503, "Received a server busy error status code"),
        (OPENAI_RULES, 504, "Received a server error status code"),
        (COHERE_RULES, 400, "Received an unsuccessful status code"),
        (COHERE_RULES, 429, "Received a rate limit status code"),
        (FIREWORKS_RULES, 413, "Received an unsuccessful status code"),
        (HUGGING_FACE_RULES, 502, "Received a rate limit status code"),
        (HUGGING_FACE_RULES, 500, "Received a server error status code"),
        (ANTHROPIC_RULES, 403, "Received a permission denied error status code"),
        (ANTHROPIC_RULES, 529, "Received an Anthropic server is temporarily overloaded status code"),
        (JINA_RULES, 400, "Received an input validation error response"),
        (JINA_RULES, 402, "Payment required"),
        (JINA_RULES, 422, "Received an input validation error response"),
        (GOOGLE_AI_STUDIO_RULES, 401, "Received an unsuccessful status code"),
        (GOOGLE_AI_STUDIO_RULES, 404, "Resource not found at [{url}]"),
        (GOOGLE_AI_STUDIO_RULES, 503, "The Google AI Studio service may be temporarily overloaded or down"),
        (GOOGLE_VERTEX_AI_RULES, 503, "The Google Vertex AI service may be temporarily overloaded or down"),
        (WATSONX_RULES, 429, "Received an unsuccessful status code"),
        (WATSONX_RULES, 503, "Received an unsuccessful status code"),
        (WATSONX_RULES, 500, "Received a server error status code"),
        (ALIBABA_RULES, 500, "Received a server error status code"),
    ],
)
def test_prefixes(table: Table, status: int, prefix: str) -> None:
    """The words a status stands for are those of the service's table."""
    assert rule(table, status).prefix == prefix


def test_openai_says_its_limits() -> None:
    """The 429 quotes four headers, ``unknown`` for what is absent; Azure has only two of them."""
    sent = reply(
        429,
        x_ratelimit_limit_tokens="10",
        x_ratelimit_remaining_tokens="3",
        x_ratelimit_remaining_requests="0",
    )
    for table, text in (
        (OPENAI_RULES, "[10], remaining tokens [3]. Request limit [unknown], remaining requests [0]"),
        (
            AZURE_OPENAI_RULES,
            "[unknown], remaining tokens [3]. Request limit [unknown], remaining requests [0]",
        ),
    ):
        prefix = table(sent, Fault()).prefix
        assert callable(prefix)
        assert prefix(sent) == f"Received a rate limit status code. Token limit {text}"


def test_anthropic_says_its_limits() -> None:
    """The 429 quotes seven headers."""
    sent = reply(429, anthropic_ratelimit_tokens_limit="1", retry_after="7")
    prefix = ANTHROPIC_RULES(sent, Fault()).prefix
    assert callable(prefix)
    assert prefix(sent) == (
        "Received a rate limit status code. Token limit [1], remaining tokens [unknown], tokens reset [unknown]. "
        "Request limit [unknown], remaining requests [unknown], request reset [unknown]. Retry after [7]"
    )


def test_a_400_that_is_too_large() -> None:
    """OpenAI's and Cohere's special messages are found in a 400, and only there."""
    message = "x Please reduce your prompt; or completion length."
    assert rule(OPENAI_RULES, 400, message).truncate
    assert not rule(OPENAI_RULES, 401, message).truncate
    texts = "invalid request: total number of texts must be at most 96"
    assert rule(COHERE_RULES, 400, texts).prefix == "Received a texts array too large response"
    assert rule(COHERE_RULES, 500, texts).prefix == "Received a server error status code"


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        *((status, status) for status in (300, 304, 307, 400, 401, 402, 409, 413, 417, 422, 424, 429)),
        *((status, 400) for status in (308, 418, 426, 451, 499, 500, 503, 599, 700)),
    ],
)
def test_mapped_statuses(status: int, ours: int) -> None:
    """Known statuses below 500 pass; everything else is a 400."""
    assert mapped(status) == ours


READ = [
    (at("error", "message"), b'{"error":{"message":"m"}}', Fault("m")),
    (at("error", "message"), b'{"error":{"message":{"x":1}}}', Fault()),
    (at("error", "message"), b'{"error":"m"}', Fault()),
    (at("error", "message"), b'{"error":null}', Fault()),
    (at("message"), b'{"message":"m"}', Fault("m")),
    (at("message"), b'{"message":""}', Fault("")),
    (at("errors", 0, "message"), b'{"errors":[{"message":"m"}]}', Fault("m")),
    (at("errors", 1, "message"), b'{"errors":[{"message":"m"}]}', Fault()),
    (at("errors", 0), b'{"errors":{"0":"m"}}', Fault()),
    (first(at("a"), at("b")), b'{"b":"m"}', Fault("m")),
    (whole, "détail".encode(), Fault("détail")),
    (whole, b"", Fault()),
    (chat_fault, b'{"error":{"message":"m","type":"t"}}', Fault("m", None, "t")),
    (
        chat_fault,
        b'{"error":{"message":"m","type":"t","code":4,"param":"p"}}',
        Fault("m", "4", "t", "p"),
    ),
    (chat_fault, b'{"error":{"message":"m","type":"t","code":true}}', Fault("m", None, "t")),
    (chat_fault, b'{"error":{"message":"m"}}', Fault()),
    (chat_fault, b'{"error":{"type":"t"}}', Fault()),
    (typed("x_error", at("message")), b'{"message":"m"}', Fault("m", faults.STATUS_NAME, "x_error")),
    (typed("x_error", at("message")), b"{}", Fault()),
]


@pytest.mark.parametrize(("reader", "body", "fault"), READ)
def test_readers(reader: faults.Reader, body: bytes, fault: Fault) -> None:
    """Each shape of error body gives its words or none."""
    assert reader(body) == fault


@given(st.binary(max_size=60))
def test_no_body_breaks_a_reader(body: bytes) -> None:
    """Whatever a provider sends with an error, the error is reported."""
    for reader, _, _ in READ:
        assert isinstance(reader(body), Fault)


def test_a_deep_body() -> None:
    """Nesting without end is no message."""
    assert chat_fault(b"[" * 200_000) == Fault()


def test_typed_code_is_the_status_name(provider: Provider) -> None:
    """A chat error of a typed reader has the name of the status we answer with."""
    provider.changed_call(TaskType.CHAT_COMPLETION, fault=typed("acme_error", at("message")))
    call = provider.service.calls[TaskType.CHAT_COMPLETION]
    answer = Reply(status=503, headers={}, body=b'{"message":"m"}')
    failure = refused(
        provider.service, call, provider.ask(task=TaskType.CHAT_COMPLETION).endpoint, answer, "http://x"
    )
    assert (failure.kind, failure.code) == ("acme_error", "bad_request")


def test_a_rule_may_say_everything(provider: Provider) -> None:
    """``text`` replaces the whole reason, ``status`` the mapped status."""
    own = Rule(
        "", status=424, text=lambda reply, fault, id, url: f"{reply.status} {fault.message} {id} {url}"
    )
    provider.changed(rules=lambda reply, fault: own)
    call = provider.service.calls[TaskType.TEXT_EMBEDDING]
    answer = Reply(status=500, headers={}, body=b'{"error":{"message":"m"}}')
    failure = refused(provider.service, call, provider.ask().endpoint, answer, "http://x")
    assert (failure.status, failure.reason) == (424, "500 m e1 http://x")


def test_long_messages_are_cut(provider: Provider) -> None:
    """A provider's page of text is not repeated in full."""
    provider.changed(fault=whole)
    call = provider.service.calls[TaskType.TEXT_EMBEDDING]
    answer = Reply(status=500, headers={}, body=b"x" * 1_000_000)
    assert len(refused(provider.service, call, provider.ask().endpoint, answer, "").reason) < 20_000


def test_secrets_in_maps_are_scrubbed() -> None:
    """Secrets of any depth are found, short ones (which may be words) are left."""
    word = "".join(random.choices("abcdef", k=20))
    endpoint = Endpoint(
        id="e",
        task=TaskType.COMPLETION,
        service=SERVICE.name,
        settings={},
        secrets={"a": {"b": [Secret(word)]}, "c": Secret("the")},
    )
    assert faults.scrub(f"the key {word} is bad", endpoint) == "the key ****** is bad"


def test_a_secret_echoed_inside_json_is_scrubbed() -> None:
    """A provider that quotes its input quotes it escaped."""
    secret = 'pass"wo\\rd'
    endpoint = Endpoint(
        id="e", task=TaskType.COMPLETION, service="s", settings={}, secrets={"api_key": Secret(secret)}
    )
    told = faults.scrub(f"got {msgspec.json.encode({'k': secret}).decode()}", endpoint)
    assert told == 'got {"k":"******"}'
