"""A request as the dialect's parts see it, without a server."""

from collections.abc import Iterable, Mapping

from inferd.api.http import Limits, Request, Response, Route


async def _handler(request: Request) -> Response:
    return Response()


def asked(
    method: str,
    uri: str,
    *,
    params: Iterable[str] = (),
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Request:
    sent = {"content-length": str(len(body)), "content-type": "application/json"} if body else {}
    sent.update(headers or {})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    path, _, query = uri.partition("?")
    scope = {
        "method": method,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
    }
    request = Request(scope, receive, limits or Limits())
    request.route = Route(
        method=method,
        template=path,
        handler=_handler,
        params=frozenset(params),
        body="none" if method in ("GET", "DELETE") else "required",
    )
    return request
