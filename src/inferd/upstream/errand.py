"""One request on its way, and the errors our caller gets for it."""

from typing import NamedTuple

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Texts
from inferd.core.service import Ask, Call, Service
from inferd.core.tasks import TaskType
from inferd.errors import InferdError, StatusError, TimedOut, UpstreamError
from inferd.upstream.failures import TooLarge, UnknownHost, Unreachable, Unsendable
from inferd.upstream.faults import scrub

_WHAT = {
    TaskType.TEXT_EMBEDDING: "embeddings",
    TaskType.EMBEDDING: "embeddings",
    TaskType.SPARSE_EMBEDDING: "sparse embeddings",
    TaskType.RERANK: "rerank",
    TaskType.COMPLETION: "completion",
    TaskType.CHAT_COMPLETION: "chat completions",
}
"""What a call is called in "Failed to send …" when its row does not say."""


class Errand(NamedTuple):
    """What stays the same through all attempts of one request. ``deadline``: the loop's clock."""

    service: Service
    call: Call
    endpoint: Endpoint
    deadline: float


def refuse_several(call: Call, ask: Ask) -> None:
    """A provider that takes a single prompt (common.md section 5)."""
    if call.one_input is not None and isinstance(ask.inputs, Texts) and len(ask.inputs.texts) > 1:
        raise StatusError(400, f"{call.one_input} only accepts 1 input")


def failed(errand: Errand, cause: str, *, retryable: bool = False) -> UpstreamError:
    """The 500 that wraps what went wrong while calling a provider."""
    service, call, endpoint, _ = errand
    cause = scrub(cause, endpoint)
    reason = service.failed.format(
        title=service.title,
        what=call.verb or _WHAT[endpoint.task],
        cause=cause,
        id=endpoint.id,
        task=endpoint.task.value,
    )
    failure = UpstreamError(500, reason, retryable=retryable)
    failure.__cause__ = InferdError(cause)
    return failure


def unsent(errand: Errand, why: Unreachable | Unsendable | TooLarge, url: str) -> InferdError:
    """The error for a request without an answer. ``url`` must not hold a credential."""
    if isinstance(why, UnknownHost):
        return StatusError(400, f"Invalid host [{url}], please check that the URL is correct.")
    if isinstance(why, Unsendable):
        failure = InferdError(
            f"Http client failed to send request from inference entity id [{errand.endpoint.id}]"
        )
        failure.__cause__ = InferdError(str(why))
        return failure
    return failed(errand, str(why), retryable=isinstance(why, Unreachable))


def timed_out(errand: Errand, timeout_text: str) -> Exception:
    """The timeout passed while the request was queued or running."""
    if errand.service.timed_out is not None:
        return errand.service.timed_out(errand.endpoint.id, timeout_text)
    return TimedOut(f"Request timed out after [{timeout_text}] for inference id [{errand.endpoint.id}]")
