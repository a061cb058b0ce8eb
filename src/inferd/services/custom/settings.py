"""The settings of a custom endpoint that no common kind covers (contract: services/custom.md, "Settings parsing")."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.settings import Draft, Kind, Setting, java, read, refuse_leftovers, wrong_type
from inferd.core.tasks import TaskType
from inferd.services.custom import paths

_DENSE = frozenset({TaskType.TEXT_EMBEDDING})
_SPARSE = frozenset({TaskType.SPARSE_EMBEDDING})
_RANK = frozenset({TaskType.RERANK})
_TRANSLATED = ("ingest", "search", "classification", "clustering")
_LONGEST_URL = 8192


def _path(key: str, tasks: frozenset[TaskType], required: bool = True) -> Setting:
    return Setting(key=key, tasks=tasks, required=required, read=_read_path)


def _read_path(value: Any, row: Setting, draft: Draft) -> str | None:
    if not isinstance(value, str):
        draft.fault(wrong_type(row.key, value, "String"))
        return None
    if not value:
        draft.fault(f"[{draft.scope}] Invalid value empty string. [{row.key}] must be a non-empty string")
        return None
    try:
        paths.parse(value)
    except ValueError as bad:
        draft.fault(str(bad))
        return None
    return value


_PARSER = (
    _path("text_embeddings", _DENSE),
    Setting(key="embedding_type", tasks=_DENSE, choices=("binary", "bit", "byte", "float"), default="float"),
    _path("token_path", _SPARSE),
    _path("weight_path", _SPARSE),
    _path("relevance_score", _RANK),
    _path("reranked_index", _RANK, required=False),
    _path("document_text", _RANK, required=False),
    _path("completion_result", frozenset({TaskType.COMPLETION})),
)


def read_response(value: Any, row: Setting, draft: Draft) -> dict[str, Any] | None:
    """``{"json_parser": {…}}``."""
    rest = _map(row.key, value, draft)
    if rest is None:
        return None
    parser = rest.pop("json_parser", None)
    refuse_leftovers(draft.service, rest)
    if parser is None:
        draft.fault(f"[service_settings.{row.key}] does not contain the required setting [json_parser]")
        return None
    given = _map("json_parser", parser, draft)
    if given is None:
        return None
    found = read(_PARSER, given, draft, f"service_settings.{row.key}.json_parser")
    refuse_leftovers(draft.service, given)
    if found.get("embedding_type") == "binary":
        found["embedding_type"] = "bit"
    return {"json_parser": found}


def read_input_type(value: Any, row: Setting, draft: Draft) -> dict[str, Any] | None:
    """``{"translation": {"ingest": …, …}, "default": …}``."""
    given = _map(row.key, value, draft)
    if given is None:
        return None
    scope = f"service_settings.{row.key}"
    found = read(
        (
            Setting(key="translation", kind=Kind.MAP, strings=True, default=lambda draft: {}),
            Setting(key="default", allow_empty=True, default=""),
        ),
        given,
        draft,
        scope,
    )
    refuse_leftovers(draft.service, given)
    for key in found.get("translation", {}):
        if key not in _TRANSLATED:
            draft.fault(f"[{scope}.translation] does not allow the setting [{key}]")
    return found


def _map(key: str, value: Any, draft: Draft) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if v is not None}
    draft.fault(wrong_type(key, value, "Map"))
    return None


def read_query_parameters(value: Any, row: Setting, draft: Draft) -> list[list[str]] | None:
    if not isinstance(value, list):
        draft.fault(wrong_type(row.key, value, "List"))
        return None
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            draft.fault(
                f"[{draft.scope}] Invalid value [{java(pair)}]. [{row.key}] must be a list of pairs of strings"
            )
            return None
    return value


_OWN_HEADERS = ("content-length", "transfer-encoding")
"""The HTTP client writes these; one of a user would contradict it."""


def read_headers(value: Any, row: Setting, draft: Draft) -> dict[str, Any] | None:
    before = len(draft.faults)
    found = read((replace(row, read=None),), {row.key: value}, draft, "service_settings", partial=True)
    if len(draft.faults) > before:
        return None
    headers: dict[str, Any] = found[row.key]
    for name, text in headers.items():
        if not _is_token(name) or name.lower() in _OWN_HEADERS:
            draft.fault(f"[{row.key}] does not allow the header [{name}]")
        elif breaks_header(text):
            draft.fault(f"[{row.key}] The value of the header [{name}] must not hold control characters")
    return headers if len(draft.faults) == before else None


def _is_token(name: str) -> bool:
    """RFC 9110, section 5.6.2."""
    return bool(name) and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in name)


def breaks_header(text: str) -> bool:
    """Whether a header value would end before its end."""
    return any((ord(c) < 0x20 and c != "\t") or ord(c) == 0x7F or 0xD800 <= ord(c) <= 0xDFFF for c in text)


def read_parameters(value: Any, row: Setting, draft: Draft) -> dict[str, Any] | None:
    given = _map(row.key, value, draft)
    if given is None:
        return None
    for key, member in given.items():
        if not isinstance(member, str | int | float):
            draft.fault(
                f"Map field [{row.key}] has an entry that is not valid, [{key} => {java(member)}]. "
                f"Value type of [{java(member)}] is not one of [Boolean, Double, Float, Integer, String]."
            )
            return None
    return given


def check(draft: Draft) -> None:
    if len(draft.settings.get("url", "")) > _LONGEST_URL:
        draft.fault(f"[service_settings] [url] must not be longer than [{_LONGEST_URL}] characters")
    secrets = draft.secrets.get("secret_parameters", {})
    for key in draft.task_settings.get("parameters", {}):
        if key in secrets:
            draft.fault(clash(key))


def check_update(draft: Draft, stored: Endpoint) -> None:
    check(draft)


def clash(key: str) -> str:
    return f"[task_settings.parameters] must not contain [{key}], which is also in [secret_parameters]"
