"""Credentials onto requests: a scheme is a function that adds headers to what is about to leave.

A header that the endpoint's user set himself (``task_settings.headers``) wins over the scheme's. Tokens live in the shared cache,
under a fingerprint of what they were fetched with.
"""

import asyncio
import base64
import hashlib
import time
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from inferd.core.endpoint import Endpoint
from inferd.core.service import Ask, Auth, Fault, Outgoing, Reply, Send, Tokens
from inferd.errors import InferdError, StatusError, UpstreamError
from inferd.upstream.failures import TooLarge, Unreachable, Unsendable
from inferd.upstream.faults import WATSONX_RULES, at, first, mapped, scrub

_LIFETIME = 3600.0
"""Seconds a token is taken to last when its issuer does not say."""

# Keys


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


# OAuth2 client credentials (common.md section 11)


async def bearer_or_client_credentials(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """The ``api_key``, or a token from ``token_url`` for ``client_id``, ``client_secret`` and ``scopes``."""
    if "api_key" in ask.endpoint.secrets:
        return await bearer(ask, outgoing, tokens)
    return await _client_credentials(ask.endpoint, ask.settings["token_url"], outgoing, tokens)


async def azure(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """Azure OpenAI: ``api-key``, an Entra token as given, or Entra client credentials of ``tenant_id``."""
    endpoint = ask.endpoint
    if "api_key" in endpoint.secrets:
        set_header(outgoing, "api-key", endpoint.secret() or "")
        return outgoing
    if "entra_id" in endpoint.secrets:
        set_header(outgoing, "Authorization", f"Bearer {endpoint.secret('entra_id')}")
        return outgoing
    tenant = quote(str(ask.settings["tenant_id"]), safe="")
    url = f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
    return await _client_credentials(endpoint, url, outgoing, tokens)


async def _client_credentials(endpoint: Endpoint, url: str, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    form = {
        "grant_type": "client_credentials",
        "client_id": endpoint.settings["client_id"],
        "client_secret": endpoint.secret("client_secret") or "",
        "scope": " ".join(endpoint.settings["scopes"]),
    }
    told = first(at("error_description"), at("error", "message"), at("error"))

    async def fetch(send: Send) -> tuple[str, float]:
        reply = await send(_form(url, urlencode(form)))
        if not 200 <= reply.status < 300:
            raise _token_refused(endpoint, url, reply, told(reply.body))
        return _access_token(reply)

    token = await tokens.get(fingerprint(endpoint.id, url, *form.values()), fetch)
    set_header(outgoing, "Authorization", f"Bearer {token}")
    return outgoing


# IBM (watsonxai.md, "Auth")

_IBM_URL = "https://iam.cloud.ibm.com/identity/token"


async def ibm_iam(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """The ``api_key`` exchanged for a token at IBM's identity service."""
    endpoint = ask.endpoint
    key = endpoint.secret() or ""

    async def fetch(send: Send) -> tuple[str, float]:
        grant = f"grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey={key}"
        try:
            reply = await send(_form(_IBM_URL, grant))
        except (Unreachable, Unsendable, TooLarge) as why:
            raise UpstreamError(
                500, "Failed to add Bearer token to the request", retryable=True
            ) from InferdError(str(why))
        if not 200 <= reply.status < 300:
            raise _token_refused(endpoint, _IBM_URL, reply, Fault(message=reply.reason or None))
        return _access_token(reply)

    token = await tokens.get(fingerprint(endpoint.id, key), fetch)
    set_header(outgoing, "Authorization", f"Bearer {token}")
    return outgoing


# Google (googlevertexai.md, "Auth")

_GOOGLE_URL = "https://oauth2.googleapis.com/token"
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_NEEDED = ("client_id", "client_email", "private_key", "private_key_id")


async def google_service_account(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    """``service_account_json`` exchanged for a token. Whatever fails on the way is a 403."""
    text = ask.endpoint.secret("service_account_json") or ""

    async def fetch(send: Send) -> tuple[str, float]:
        account = _service_account(text)
        url = account.get("token_uri") or _GOOGLE_URL
        assertion = await asyncio.to_thread(_assertion, account, url, int(time.time()))
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        try:
            reply = await send(_form(url, urlencode(form)))
        except (Unreachable, Unsendable, TooLarge) as why:
            raise StatusError(403, str(why)) from None
        if not 200 <= reply.status < 300:
            message = first(at("error_description"), at("error", "message"), at("error"))(reply.body).message
            raise StatusError(
                403, scrub(message or f"The token was refused with status [{reply.status}]", ask.endpoint)
            )
        return _access_token(reply, status=403)

    token = await tokens.get(fingerprint(ask.endpoint.id, text), fetch)
    set_header(outgoing, "Authorization", f"Bearer {token}")
    return outgoing


def _service_account(text: str) -> dict[str, str]:
    try:
        account = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        raise StatusError(403, "The service account is not a JSON object") from None
    if account.get("type") != "service_account":
        raise StatusError(403, "The service account JSON is not of type [service_account]")
    missing = [key for key in _NEEDED if not isinstance(account.get(key), str)]
    if missing:
        raise StatusError(403, f"The service account JSON lacks [{', '.join(missing)}]")
    if not isinstance(account.get("token_uri", ""), str):
        raise StatusError(403, "The service account JSON has a [token_uri] that is not a string")
    return account


def _assertion(account: dict[str, str], audience: str, now: int) -> str:
    """A signed JWT (RFC 7519, RS256) that stands for the service account."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(account["private_key"].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise StatusError(403, "The service account's [private_key] is not an RSA key in PEM form")
    claims = {
        "iss": account["client_email"],
        "scope": _GOOGLE_SCOPE,
        "aud": audience,
        "iat": now,
        "exp": now + 3600,
    }
    signed = f"{_part({'alg': 'RS256', 'typ': 'JWT', 'kid': account['private_key_id']})}.{_part(claims)}"
    signature = key.sign(signed.encode(), PKCS1v15(), SHA256())
    return f"{signed}.{_base64url(signature)}"


def _part(value: dict[str, Any]) -> str:
    return _base64url(msgspec.json.encode(value))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# Shared by the token schemes


def fingerprint(*parts: str) -> str:
    """A name for a token that says nothing about what it was fetched with."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _form(url: str, body: str) -> Outgoing:
    return Outgoing(
        url=url,
        body=body.encode("utf-8", "replace"),
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
    )


def _access_token(reply: Reply, status: int = 500) -> tuple[str, float]:
    """``access_token`` and how many seconds it lasts."""
    try:
        told = msgspec.json.decode(reply.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError):
        told = {}
    token, lasts = told.get("access_token"), told.get("expires_in")
    if not isinstance(token, str) or not token:
        raise UpstreamError(
            status,
            "Failed to find required field [access_token] in the token response",
            retryable=status == 500,
        )
    return token, _seconds(lasts)


def _seconds(lasts: Any) -> float:
    """Some issuers write the number as a string."""
    try:
        seconds = float(lasts)
    except (TypeError, ValueError):
        return _LIFETIME
    return seconds if 0 <= seconds < 10**9 else _LIFETIME


def _token_refused(endpoint: Endpoint, url: str, reply: Reply, fault: Fault) -> UpstreamError:
    """A refused exchange in the words of watsonxai.md."""
    rule = WATSONX_RULES(reply, fault)
    prefix = str(rule.prefix).replace("{url}", url)
    reason = (
        f"{prefix} for request to generate Bearer Token from inference entity id [{endpoint.id}] "
        f"status [{reply.status}]"
    )
    if fault.message is not None:
        reason += f". Error message: [{fault.message[:1024]}]"
    return UpstreamError(
        mapped(reply.status), scrub(reason, endpoint), upstream_status=reply.status, retryable=rule.retry
    )
