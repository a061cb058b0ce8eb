"""Requests of a custom endpoint, written from its templates (contract: services/custom.md, "Request")."""

from typing import Any

from inferd.core.inputs import RankQuery, Texts
from inferd.core.secrets import Secret
from inferd.core.service import Ask, Outgoing, Tokens
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.services.custom import templates, urls
from inferd.services.custom.settings import breaks_header, clash
from inferd.wire.texts import documents, query, return_documents, texts, top_n


def _parameters(ask: Ask) -> dict[str, Any]:
    found: dict[str, Any] = ask.options.get("parameters", {})
    secrets = _secrets(ask)
    for key in found:
        if key in secrets:
            raise StatusError(400, clash(key))
    return found


def _secrets(ask: Ask) -> dict[str, str]:
    stored: dict[str, Secret] = ask.endpoint.secrets.get("secret_parameters", {})
    return {name: secret.reveal() for name, secret in stored.items()}


def _own_and_given(ask: Ask) -> tuple[dict[str, str], dict[str, str]]:
    """String parameters that the endpoint stores, and those that this request brought."""
    stored = ask.endpoint.task_settings.get("parameters", {})
    strings = {key: value for key, value in _parameters(ask).items() if isinstance(value, str)}
    given = {key: value for key, value in strings.items() if stored.get(key) != value}
    return {key: value for key, value in strings.items() if key not in given}, given


def url(ask: Ask) -> str:
    """The address as messages may show it: the bare template when a secret is part of it."""
    return str(ask.settings["url"]) if _is_secret(ask) else _address(ask, {})


async def authorized(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """Secrets into the address; those in headers and body are there already."""
    if _is_secret(ask):
        outgoing.url = _address(ask, _secrets(ask))
    return outgoing


def _is_secret(ask: Ask) -> bool:
    values = (value for _, value in ask.settings.get("query_parameters", ()))
    used = {name for text in (ask.settings["url"], *values) for name in templates.names(text)}
    return not used.isdisjoint(_secrets(ask))


def _address(ask: Ask, secrets: dict[str, str]) -> str:
    own, given = _own_and_given(ask)
    pairs = ask.settings.get("query_parameters", ())
    return urls.filled(ask.settings["url"], pairs, {**own, **secrets}, given)


def headers(ask: Ask) -> dict[str, str]:
    own, given = _own_and_given(ask)
    values = {**own, **given, **_secrets(ask)}
    filled = {}
    for name, text in ask.settings.get("headers", {}).items():
        value = templates.fill(text, f"header.{name}", lambda key, before: values.get(key))
        if breaks_header(value):
            raise StatusError(400, f"The value of the header [{name}] must not hold control characters")
        filled[name] = value
    return filled


def body(ask: Ask) -> bytes:
    values = {**_parameters(ask), **_secrets(ask), **_inputs(ask)}
    filled = templates.fill_json(ask.settings["request"], "request", values)
    return filled.encode("utf-8", "replace")


def _inputs(ask: Ask) -> dict[str, Any]:
    inputs = ask.inputs
    if isinstance(inputs, RankQuery):
        found = {
            "query": query(ask),
            "input": documents(ask),
            "top_n": top_n(ask),
            "return_documents": return_documents(ask),
        }
        return {name: value for name, value in found.items() if value is not None}
    own = texts(ask)
    single = ask.endpoint.task is TaskType.COMPLETION
    return {"input": own[0] if single else own, "input_type": _translated(ask)}


def _translated(ask: Ask) -> str:
    table = ask.settings["input_type"]
    kind = ask.inputs.input_type if isinstance(ask.inputs, Texts) else None
    name = str(kind or "").removeprefix("internal_")
    return str(table["translation"].get(name, table["default"]))
