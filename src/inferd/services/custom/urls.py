"""Addresses from templates. Who may put an endpoint writes its address; who may only use it cannot move it elsewhere.

Values go in raw, as the contract says. One that came with a request must stay where the template put it: it cannot reach scheme
or host, leave its part of the address, or climb out of its path.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from inferd.core.settings import bad_url
from inferd.errors import StatusError
from inferd.services.custom import templates

_ENDS = {"path": "?#\\", "query": "&#", "fragment": ""}
"""What would end each part of an address."""
_HEAD = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#\\]*")


def filled(
    template: str,
    parameters: Iterable[tuple[str, str]],
    own: Mapping[str, str],
    given: Mapping[str, str],
) -> str:
    """The address. ``own``: values that belong to the endpoint; ``given``: those that came with the request."""

    def value(name: str, before: str) -> str | None:
        if name in own:
            return own[name]
        found = given.get(name)
        if found is not None:
            _check_place(name, found, before)
        return found

    url = templates.fill(template, "url", value)
    if any(name in given for name in templates.names(template)) and _climbs(url):
        raise StatusError(
            400, "[task_settings] The values in [parameters] must not change the path of the [url]"
        )
    reason = bad_url(url)
    if reason is not None:
        raise StatusError(
            400, f"The [url] [{template}] is not a valid url after replacement. Reason: {reason}"
        )
    return _with_query(url, [(key, _query_value(key, text, own, given)) for key, text in parameters])


def _query_value(key: str, text: str, own: Mapping[str, str], given: Mapping[str, str]) -> str:
    return templates.fill(
        text, f"query parameters: [{key}]", lambda name, before: own.get(name, given.get(name))
    )


def _check_place(name: str, value: str, before: str) -> None:
    head = _HEAD.match(before)
    if head is None or head.end() == len(before):
        raise StatusError(
            400, f"[task_settings] The value of [parameters.{name}] must not be part of the host of the [url]"
        )
    rest = before[head.end() :]
    part = "fragment" if "#" in rest else "query" if "?" in rest else "path"
    if any(character in _ENDS[part] for character in value):
        raise StatusError(
            400,
            f"[task_settings] The value of [parameters.{name}] must not hold any of the characters "
            f"[{' '.join(_ENDS[part])}] in the {part} of the [url]",
        )


def _climbs(url: str) -> bool:
    segments = re.split(r"[/\\]", unquote(urlsplit(url).path))
    return any(segment in (".", "..") for segment in segments)


def _with_query(url: str, parameters: list[tuple[str, str]]) -> str:
    if not parameters:
        return url
    parts = urlsplit(url)
    added = "&".join(f"{_encoded(key)}={_encoded(value)}" for key, value in parameters)
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def _encoded(text: str) -> str:
    return quote(text, safe="", errors="replace")
