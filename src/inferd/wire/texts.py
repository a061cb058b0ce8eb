"""Inputs as the providers take them: plain texts. The upstream client has cut them where a provider wants them shorter."""

from inferd.core.inputs import Contents, Item, RankQuery, Texts
from inferd.core.service import Ask
from inferd.errors import StatusError


def texts(ask: Ask) -> list[str]:
    """All inputs of an embedding or completion ask as texts; anything but text is a 400."""
    inputs = ask.inputs
    if isinstance(inputs, Texts):
        return list(inputs.texts)
    if isinstance(inputs, Contents):
        return [_only_text(group, ask) for group in inputs.groups]
    raise TypeError(f"no texts in {type(inputs).__name__}")


def _only_text(group: tuple[Item, ...], ask: Ask) -> str:
    if len(group) != 1 or group[0].type != "text":
        raise StatusError(
            400,
            f"The [{ask.endpoint.service}] service only supports text inputs for task type [{ask.endpoint.task}], "
            "one to a [content]",
        )
    return group[0].value


def input_type(ask: Ask) -> str | None:
    """The request's input type, if any, by its API name."""
    inputs = ask.inputs
    if isinstance(inputs, Texts | Contents) and inputs.input_type is not None:
        return str(inputs.input_type)
    return None


def ranked(ask: Ask) -> RankQuery:
    if not isinstance(ask.inputs, RankQuery):
        raise TypeError(f"no query in {type(ask.inputs).__name__}")
    return ask.inputs


def query(ask: Ask) -> str:
    """The query of a rerank ask; only text is known to the providers."""
    return _plain(ranked(ask).query, ask)


def documents(ask: Ask) -> list[str]:
    return [_plain(document, ask) for document in ranked(ask).documents]


def _plain(item: str | Item, ask: Ask) -> str:
    if isinstance(item, str):
        return item
    if item.type == "text":
        return item.value
    raise StatusError(
        400, f"The [{ask.endpoint.service}] service does not support inputs of type [{item.type}]"
    )


def top_n(ask: Ask) -> int | None:
    """The request's own value, else the task setting."""
    given = ranked(ask).top_n
    return given if given is not None else ask.options.get("top_n")


def return_documents(ask: Ask) -> bool | None:
    given = ranked(ask).return_documents
    return given if given is not None else ask.options.get("return_documents")
