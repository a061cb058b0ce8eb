"""Failures into Elasticsearch's error bodies (api.md section 2, 7.5)."""

import traceback
from typing import Any

from inferd.api.elastic import media as media_types
from inferd.api.elastic.media import Format
from inferd.api.elastic.params import Common, common
from inferd.api.elastic.render import encode, transform
from inferd.api.http import Request, Response
from inferd.errors import (
    BadBody,
    IllegalArgument,
    IllegalState,
    InferdError,
    Invalid,
    NotRouted,
    Rejected,
    TimedOut,
    UpstreamError,
    status_name,
)

_FOREIGN = (IllegalArgument, IllegalState, Invalid, Rejected)
"""Not server exceptions in the sense of ``root_cause``: they are named there only when nothing else is."""


def problem(request: Request, error: InferdError) -> Response:
    """The standard envelope in the negotiated form; never filtered."""
    shape = _shape(request)
    body = envelope(error, trace=shape.error_trace and error.status != 401)
    return _response(request, error, body, shape)


def chat_problem(request: Request, error: InferdError) -> Response:
    """The chat envelope in the negotiated form."""
    return _response(request, error, chat_envelope(error), _shape(request))


def _shape(request: Request) -> Common:
    try:
        shape = common(request)
    except InferdError:
        return Common()
    return Common(pretty=shape.pretty, error_trace=shape.error_trace)


def _response(request: Request, error: InferdError, body: dict[str, Any], shape: Common) -> Response:
    media = media_types.of(request)
    content = encode(body)
    if shape.pretty or media.format is not Format.JSON:
        content = transform(content, media, shape)
    return Response(content, status=error.status, content_type=media.content_type, headers=headers(error))


def headers(error: InferdError) -> list[tuple[str, str]]:
    """Those of the error, and the one that marks a timeout (api.md 1.1)."""
    own = list(error.headers)
    return [*own, ("X-Timed-Out", "?1")] if isinstance(error, TimedOut) else own


def envelope(error: InferdError, *, trace: bool = False) -> dict[str, Any]:
    """api.md 2.1; a plain text for what no handler saw."""
    if isinstance(error, NotRouted):
        return (
            {"error": error.reason, "status": error.status} if error.show_status else {"error": error.reason}
        )
    root = _object(root_cause(error), trace, bare=True)
    return {"error": {"root_cause": [root], **_object(error, trace)}, "status": error.status}


def root_cause(error: InferdError) -> InferdError:
    """The deepest server exception; the error itself when it has no such cause."""
    while True:
        cause = error.__cause__
        if isinstance(error, _FOREIGN) or not isinstance(cause, InferdError) or isinstance(cause, _FOREIGN):
            return error
        if isinstance(cause, BadBody) and not isinstance(error, BadBody):
            return error
        error = cause


def _object(error: InferdError, trace: bool, *, bare: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"type": error.type, "reason": error.reason}
    for name, value in error.members.items():
        body[name] = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    if not bare and isinstance(error.__cause__, InferdError):
        body["caused_by"] = _object(error.__cause__, trace)
    header = _header_member(error)
    if header:
        body["header"] = header
    if trace:
        body["stack_trace"] = stack_trace(error)
    if not bare and error.suppressed:
        body["suppressed"] = [_object(other, trace) for other in error.suppressed]
    return body


def _header_member(error: InferdError) -> dict[str, str | list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in error.headers:
        if name == "Connection":
            continue
        grouped.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in grouped.items()}


def stack_trace(error: InferdError) -> str:
    """Where it was raised, by module-less file name: no paths of this machine, no values."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"\tat {frame.name}({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in reversed(frames)
    ]
    return "\n".join([f"{error.type}: {error.reason}", *lines])


def chat_envelope(error: InferdError) -> dict[str, Any]:
    """api.md 7.5; a provider's own code, type and param where it gave them."""
    code = status_name(error.status)
    kind = error.type
    param = None
    if isinstance(error, UpstreamError):
        code, kind, param = error.code or code, error.kind or kind, error.param
    body: dict[str, Any] = {}
    if code is not None:
        body["code"] = code
    body["message"] = error.reason
    if param is not None:
        body["param"] = param
    body["type"] = kind
    return {"error": body}
