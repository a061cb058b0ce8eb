"""Their status and message into our errors.

A *reader* takes a provider's error body and says what it means (``Fault``); a *table* takes the status and says how the text
starts and whether another attempt is worth it (``Rule``). Contract: services/common.md section 5 and the status table of each
service; the tables here are the rows of services/index.md, "Per-status retry summary".
"""

from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.service import Call, Fault, Reply, Rule, Service
from inferd.core.tasks import TaskType
from inferd.errors import UpstreamError, UpstreamFailure, status_name

Reader = Callable[[bytes], Fault]
Table = Callable[[Reply, Fault], Rule]

SERVER_ERROR = "Received a server error status code"
BUSY = "Received a server busy error status code"
RATE_LIMIT = "Received a rate limit status code"
AUTHENTICATION = "Received an authentication error status code"
PERMISSION = "Received a permission denied error status code"
REDIRECTION = "Unhandled redirection"
TOO_LARGE = "Received a content too large status code"
UNSUCCESSFUL = "Received an unsuccessful status code"
ERROR_RESPONSE = "Received an error response"
BAD_REQUEST = "Received a bad request status code"
NOT_FOUND = "Resource not found at [{url}]"
"""``{url}`` is replaced by the address that was called."""
INVALID_INPUT = "Received an input validation error response"

STATUS_NAME = "{status}"
"""As ``Fault.code``: the lower-case name of the status we answer with."""
UNREAD_KIND = "ErrorResponse"
"""``type`` of a chat error whose body was not in the provider's documented shape."""

_MESSAGE_LIMIT = 16_384
"""Characters of a provider's message that are quoted."""

# Readers


def at(*path: str | int) -> Reader:
    """The message is the string under this path; anything else gives none."""

    def read(body: bytes) -> Fault:
        value = _decoded(body)
        for step in path:
            value = _member(value, step)
        return Fault(message=value) if isinstance(value, str) else Fault()

    return read


def first(*readers: Reader) -> Reader:
    """The first reader that finds a message."""

    def read(body: bytes) -> Fault:
        for reader in readers:
            fault = reader(body)
            if fault.message is not None:
                return fault
        return Fault()

    return read


def whole(body: bytes) -> Fault:
    """The message is the whole body as text."""
    return Fault(message=body.decode("utf-8", "replace")) if body else Fault()


def chat_fault(body: bytes) -> Fault:
    """``{"error": {"message", "type", "code"?, "param"?}}``; without message and type nothing is read."""
    error = _member(_decoded(body), "error")
    message, kind = _member(error, "message"), _member(error, "type")
    if not isinstance(message, str) or not isinstance(kind, str):
        return Fault()
    return Fault(
        message=message, kind=kind, code=_word(_member(error, "code")), param=_word(_member(error, "param"))
    )


def typed(kind: str, reader: Reader) -> Reader:
    """What ``reader`` finds, under this chat error type and with the status name as code."""

    def read(body: bytes) -> Fault:
        fault = reader(body)
        return Fault() if fault.message is None else Fault(message=fault.message, kind=kind, code=STATUS_NAME)

    return read


openai_fault = at("error", "message")


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _member(value: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return value.get(step) if isinstance(value, dict) else None
    return value[step] if isinstance(value, list) and -len(value) <= step < len(value) else None


def _word(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


# Tables

_SERVER = Rule(SERVER_ERROR)
_REDIRECTED = Rule(REDIRECTION)
_OTHER = Rule(UNSUCCESSFUL)


def table(
    rows: Mapping[int, Rule],
    *,
    special: Callable[[Reply, Fault], Rule | None] | None = None,
    server: Rule = _SERVER,
) -> Table:
    """Rules by status; ``special`` looks first, ``server`` is for every 5xx without a row."""

    def rule(reply: Reply, fault: Fault) -> Rule:
        found = special(reply, fault) if special is not None else None
        if found is None:
            found = rows.get(reply.status)
        if found is not None:
            return found
        if reply.status >= 500:
            return server
        return _REDIRECTED if 300 <= reply.status < 400 else _OTHER

    return rule


def from_headers(text: str, *names: str, absent: str = "unknown") -> Callable[[Reply], str]:
    """A prefix whose ``{}`` are filled from the answer's headers."""

    def prefix(reply: Reply) -> str:
        return text.format(*(reply.headers.get(name, absent) for name in names))

    return prefix


_LIMITS = f"{RATE_LIMIT}. Token limit [{{}}], remaining tokens [{{}}]. Request limit [{{}}], remaining requests [{{}}]"
_OPENAI_LIMITS = from_headers(
    _LIMITS,
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
)
_AZURE_LIMITS = from_headers(
    _LIMITS.replace("limit [{}]", "limit [unknown]"),
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-remaining-requests",
)
_ANTHROPIC_LIMITS = from_headers(
    f"{RATE_LIMIT}. Token limit [{{}}], remaining tokens [{{}}], tokens reset [{{}}]. "
    "Request limit [{}], remaining requests [{}], request reset [{}]. Retry after [{}]",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "retry-after",
)

_REDUCE = "Please reduce your prompt; or completion length."
_CUT = Rule(TOO_LARGE, truncate=True)


def _prompt_too_long(reply: Reply, fault: Fault) -> Rule | None:
    return _CUT if reply.status == 400 and fault.message and _REDUCE in fault.message else None


def _openai(limits: str | Callable[[Reply], str]) -> Table:
    return table(
        {
            400: Rule(BAD_REQUEST),
            401: Rule(AUTHENTICATION),
            404: Rule(NOT_FOUND),
            413: _CUT,
            422: Rule(INVALID_INPUT),
            429: Rule(limits, retry=True),
            500: Rule(SERVER_ERROR, retry=True),
            503: Rule(BUSY, retry=True),
        },
        special=_prompt_too_long,
    )


OPENAI_RULES = _openai(_OPENAI_LIMITS)
"""openai, mistral, groq, deepseek, ai21, llama, openshift_ai (not rerank), nvidia, azureaistudio, chat of hugging_face."""

AZURE_OPENAI_RULES = _openai(_AZURE_LIMITS)


def _too_many_texts(reply: Reply, fault: Fault) -> Rule | None:
    told = "invalid request: total number of texts must be at most"
    too_many = reply.status == 400 and fault.message is not None and told in fault.message
    return Rule("Received a texts array too large response") if too_many else None


_RETRIED_500_429 = {
    401: Rule(AUTHENTICATION),
    429: Rule(RATE_LIMIT, retry=True),
    500: Rule(SERVER_ERROR, retry=True),
}

COHERE_RULES = table(_RETRIED_500_429, special=_too_many_texts)
"""cohere, rerank of openshift_ai."""

FIREWORKS_RULES = table(_RETRIED_500_429)

CONTEXTUAL_RULES = table({**_RETRIED_500_429, 503: Rule(SERVER_ERROR, retry=True)})

MIXEDBREAD_RULES = table(_RETRIED_500_429)
"""Not confirmed: its document has no status table."""

HUGGING_FACE_RULES = table(
    {
        401: Rule(AUTHENTICATION),
        413: _CUT,
        429: Rule(RATE_LIMIT, retry=True),
        502: Rule(RATE_LIMIT, retry=True),
        503: Rule(RATE_LIMIT, retry=True),
    }
)
"""500 is not retried; its chat tasks use OPENAI_RULES."""

ANTHROPIC_RULES = table(
    {
        401: Rule(AUTHENTICATION),
        403: Rule(PERMISSION),
        429: Rule(_ANTHROPIC_LIMITS, retry=True),
        500: Rule(SERVER_ERROR, retry=True),
        529: Rule("Received an Anthropic server is temporarily overloaded status code", retry=True),
    }
)

JINA_RULES = table(
    {
        **_RETRIED_500_429,
        400: Rule(INVALID_INPUT),
        402: Rule("Payment required"),
        422: Rule(INVALID_INPUT),
    }
)
"""jinaai, voyageai."""


def _google(title: str) -> Table:
    return table(
        {
            403: Rule(PERMISSION),
            404: Rule(NOT_FOUND),
            429: Rule(RATE_LIMIT, retry=True),
            500: Rule(SERVER_ERROR, retry=True),
            503: Rule(f"The {title} service may be temporarily overloaded or down", retry=True),
        }
    )


GOOGLE_AI_STUDIO_RULES = _google("Google AI Studio")
GOOGLE_VERTEX_AI_RULES = _google("Google Vertex AI")

WATSONX_RULES = table(
    {
        400: Rule(BAD_REQUEST),
        401: Rule(AUTHENTICATION),
        403: Rule(PERMISSION),
        404: Rule(NOT_FOUND),
        500: Rule(SERVER_ERROR, retry=True),
    },
    server=_OTHER,
)
"""429 is not retried."""

ALIBABA_RULES = table({401: Rule(AUTHENTICATION), 429: Rule(RATE_LIMIT, retry=True)})
"""alibabacloud-ai-search, custom: nothing from 500 on is retried."""

# From a refusal to our error


_KNOWN = {*range(300, 306), 307, *range(400, 418), 422, 423, 424, 429}
"""Statuses below 500 that are passed on as they are."""


def mapped(status: int) -> int:
    """The status that our caller sees for this one of a provider."""
    return status if status in _KNOWN else 400


def refused(service: Service, call: Call, endpoint: Endpoint, reply: Reply, url: str) -> UpstreamError:
    """A provider's refusal as the error our caller gets. ``url`` must not hold a credential."""
    fault = (call.fault or service.fault or openai_fault)(reply.body)
    rule = (call.rules or service.rules or OPENAI_RULES)(reply, fault)
    status = rule.status or mapped(reply.status)
    reason = (
        rule.text(reply, fault, endpoint.id, url) if rule.text else _reason(rule, fault, endpoint, reply, url)
    )
    kind, code = fault.kind, fault.code
    if kind is None and endpoint.task is TaskType.CHAT_COMPLETION:
        kind, code = UNREAD_KIND, STATUS_NAME
    error = UpstreamFailure if rule.untyped else UpstreamError
    return error(
        status,
        scrub(reason, endpoint),
        upstream_status=reply.status,
        code=status_name(status) if code == STATUS_NAME else code,
        kind=kind,
        param=fault.param,
        retry_after=retry_after(reply),
        retryable=rule.retry,
        truncate=rule.truncate,
    )


def _reason(rule: Rule, fault: Fault, endpoint: Endpoint, reply: Reply, url: str) -> str:
    prefix = rule.prefix if isinstance(rule.prefix, str) else rule.prefix(reply)
    prefix = prefix.replace("{url}", url)
    reason = f"{prefix} for request from inference entity id [{endpoint.id}] status [{reply.status}]"
    return reason if fault.message is None else f"{reason}. Error message: [{fault.message[:_MESSAGE_LIMIT]}]"


def stream_failure(endpoint: Endpoint, fault: Fault) -> UpstreamError:
    """An error event inside a stream (common.md section 5): 500 with the provider's words, or ``stream_error``."""
    reason = f"{ERROR_RESPONSE} for request from inference entity id [{endpoint.id}]"
    if fault.message is None:
        return UpstreamError(500, reason, code="stream_error", kind=UNREAD_KIND)
    reason = f"{reason}. Error message: [{fault.message[:_MESSAGE_LIMIT]}]"
    code = status_name(500) if fault.code == STATUS_NAME else fault.code
    return UpstreamError(500, scrub(reason, endpoint), code=code, kind=fault.kind, param=fault.param)


def retry_after(reply: Reply) -> float | None:
    """Seconds that the provider asks to wait, from ``Retry-After`` as a number or a date."""
    value = reply.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _until(value, reply.headers.get("date"))
    return seconds if 0 <= seconds < 86_400 * 365 else None


def _until(value: str, now: str | None) -> float | None:
    """Measured by the provider's own clock, which names both moments."""
    try:
        wait = (parsedate_to_datetime(value) - parsedate_to_datetime(now or "")).total_seconds()
    except (ValueError, TypeError):
        return None
    return max(0.0, wait)


def scrub(text: str, endpoint: Endpoint) -> str:
    """The text with every secret of the endpoint replaced: some providers quote the key they refuse."""
    for secret in secrets_of(endpoint.secrets):
        if len(secret) >= 4:
            escaped = msgspec.json.encode(secret.encode("utf-8", "replace").decode()).decode()[1:-1]
            text = text.replace(secret, "******").replace(escaped, "******")
    return text


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret string in a stored structure."""
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from secrets_of(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from secrets_of(member)
