"""Credentials onto requests: a scheme is a function that adds headers to what is about to leave.

A header that the endpoint's user set himself (``task_settings.headers``) wins over the scheme's.
"""

from urllib.parse import quote

from inferd.core.service import Ask, Auth, Outgoing, Tokens


def set_header(outgoing: Outgoing, name: str, value: str) -> None:
    """Add a header unless it is there already, in any letter case."""
    low = name.lower()
    if not any(present.lower() == low for present in outgoing.headers):
        outgoing.headers[name] = value


async def bearer(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """``Authorization: Bearer <api_key>``."""
    set_header(outgoing, "Authorization", f"Bearer {ask.endpoint.secret()}")
    return outgoing


async def optional_bearer(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """``bearer``, or nothing when the endpoint has no key."""
    key = ask.endpoint.secret()
    if key:
        set_header(outgoing, "Authorization", f"Bearer {key}")
    return outgoing


def header(name: str, setting: str = "api_key", prefix: str = "") -> Auth:
    """The secret of this setting in a header of this name, after ``prefix``."""

    async def add(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
        set_header(outgoing, name, f"{prefix}{ask.endpoint.secret(setting)}")
        return outgoing

    return add


def query_key(name: str, setting: str = "api_key") -> Auth:
    """The secret as a query parameter."""

    async def add(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
        joint = "&" if "?" in outgoing.url else "?"
        value = quote(ask.endpoint.secret(setting) or "", safe="")
        outgoing.url = f"{outgoing.url}{joint}{name}={value}"
        return outgoing

    return add
