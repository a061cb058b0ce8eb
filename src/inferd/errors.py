"""Every failure inferd can name; each knows its status, its type and its reason.

The tree::

    InferdError                      500 exception
    ├── StatusError                  any status_exception
    │   ├── StorageError             the store cannot be opened, read or written
    │   └── UpstreamError            what a provider answered, mapped (services/common.md section 5)
    │       └── UpstreamFailure      500 exception: the same where the type says nothing (amazonbedrock.md)
    ├── IllegalArgument              400 illegal_argument_exception
    ├── BodyMissing                  400 parse_exception
    ├── IllegalState                 500 illegal_state_exception
    ├── BadBody                      400 x_content_parse_exception
    │   └── TruncatedBody            400 x_content_e_o_f_exception
    ├── Invalid                      400 validation_exception            (settings)
    │   └── InvalidRequest           400 action_request_validation_exception (requests)
    ├── AlreadyExists                400 resource_already_exists_exception
    ├── NotFound                     404 resource_not_found_exception
    ├── BadMediaType                 400 media_type_header_exception
    ├── SecurityError                401 / 403 security_exception
    ├── TimedOut                     429 timeout_exception
    ├── Rejected                     429 es_rejected_execution_exception
    └── NotRouted                    405 / 406 / 400 with a plain text   (never reached a handler)

Only the dialects under ``api/`` know how these look on the wire. ``raise … from cause`` nests: a cause
that is an ``InferdError`` too is rendered as ``caused_by``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

_STATUS_NAMES = {
    400: "bad_request",
    401: "unauthorized",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "conflict",
    413: "request_entity_too_large",
    422: "unprocessable_entity",
    424: "failed_dependency",
    429: "too_many_requests",
    500: "internal_server_error",
    501: "not_implemented",
    502: "bad_gateway",
    503: "service_unavailable",
    504: "gateway_timeout",
}


def status_name(status: int) -> str | None:
    """Lower-case status name used as ``code`` of chat errors (api.md 7.5); None when unknown."""
    return _STATUS_NAMES.get(status)


_LONGEST = 262_144
"""Characters of a reason: what a client sent is quoted in it, and may be as large as a body."""


class InferdError(Exception):
    """A failure with a name. ``members`` are extra members of the error object, in order."""

    status: int = 500
    type: ClassVar[str] = "exception"

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        suppressed: Sequence["InferdError"] = (),
    ) -> None:
        if len(reason) > _LONGEST:
            reason = f"{reason[:_LONGEST]}… and {len(reason) - _LONGEST} characters more"
        super().__init__(reason)
        self.reason = reason
        if status is not None:
            self.status = status
        self.members: dict[str, Any] = dict(members or {})
        self.headers: list[tuple[str, str]] = list(
            headers.items() if isinstance(headers, Mapping) else headers
        )
        self.suppressed = tuple(suppressed)


class StatusError(InferdError):
    """A failure that is nothing but its status and its text."""

    type = "status_exception"

    def __init__(self, status: int, reason: str, **more: Any) -> None:
        super().__init__(reason, status=status, **more)


class StorageError(StatusError):
    """The store cannot be opened, read or written; at start the reason is what the operator reads."""

    def __init__(self, reason: str, *, status: int = 500, **more: Any) -> None:
        super().__init__(status, reason, **more)


class UpstreamError(StatusError):
    """A provider's refusal, already mapped to our status.

    ``upstream_status`` is what the provider answered; ``code``, ``kind`` and ``param`` are the provider's own
    words, carried into chat errors and the OpenAI dialect; ``retry_after`` in seconds when the provider named one.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        *,
        upstream_status: int | None = None,
        code: str | None = None,
        kind: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        truncate: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(status, reason, **more)
        self.upstream_status = upstream_status
        self.code = code
        self.kind = kind
        self.param = param
        self.retry_after = retry_after
        self.retryable = retryable
        self.truncate = truncate


class UpstreamFailure(UpstreamError):
    type = "exception"


class IllegalArgument(InferdError):
    status = 400
    type = "illegal_argument_exception"


class BodyMissing(InferdError):
    status = 400
    type = "parse_exception"

    def __init__(self, reason: str = "request body is required", **more: Any) -> None:
        super().__init__(reason, **more)


class BadBody(InferdError):
    """A body that cannot be read as what it should be; the reason starts with ``[line:column]``."""

    status = 400
    type = "x_content_parse_exception"


class TruncatedBody(BadBody):
    """A body that ends before it should."""

    type = "x_content_e_o_f_exception"


class IllegalState(InferdError):
    """Mostly a cause: what a parser met where it could not."""

    type = "illegal_state_exception"


class Invalid(InferdError):
    """Settings that break their rules: all faults at once, in order."""

    status = 400
    type = "validation_exception"

    def __init__(self, faults: Sequence[str] | str, **more: Any) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        numbered = "".join(f"{n}: {fault};" for n, fault in enumerate(self.faults, 1))
        super().__init__(f"Validation Failed: {numbered}", **more)


class InvalidRequest(Invalid):
    type = "action_request_validation_exception"


class AlreadyExists(InferdError):
    status = 400
    type = "resource_already_exists_exception"


class NotFound(InferdError):
    status = 404
    type = "resource_not_found_exception"


class BadMediaType(InferdError):
    status = 400
    type = "media_type_header_exception"


class SecurityError(InferdError):
    status = 403
    type = "security_exception"


class TimedOut(InferdError):
    status = 429
    type = "timeout_exception"


class Rejected(InferdError):
    """A bounded queue is full, or closing; the reason names the limit."""

    status = 429
    type = "es_rejected_execution_exception"


class NotRouted(InferdError):
    """Refused before any handler saw it: the ``error`` member is plain text (api.md 1.3, 1.4)."""

    def __init__(self, status: int, reason: str, *, show_status: bool = True, **more: Any) -> None:
        super().__init__(reason, status=status, **more)
        self.show_status = show_status
