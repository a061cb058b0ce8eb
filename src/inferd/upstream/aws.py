"""Amazon's request signature (version 4) and where its keys come from.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html; amazonbedrock.md and amazon_sagemaker.md, "Transport".
Keys are the endpoint's own; beyond Elasticsearch, an endpoint without keys uses those of the place where inferd runs.
"""

import asyncio
import configparser
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from inferd.core.secrets import Secret
from inferd.core.service import Ask, Auth, Outgoing, Reply, Send, Tokens
from inferd.core.settings import Draft, Setting
from inferd.errors import StatusError
from inferd.upstream.auth import fingerprint
from inferd.upstream.failures import TooLarge, Unreachable, Unsendable

_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(Struct, frozen=True, kw_only=True):
    access_key: str
    secret_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "Keys(******)"


# Settings of the services that sign (amazonbedrock.md, amazon_sagemaker.md)

KEY_SETTINGS = (
    Setting(
        key="access_key",
        label="Access Key",
        description="A valid AWS access key that has permissions to use Amazon Bedrock.",
        secret=True,
        updatable=True,
        listed_required=True,
    ),
    Setting(
        key="secret_key",
        label="Secret Key",
        description="A valid AWS secret key that is paired with the access_key.",
        secret=True,
        updatable=True,
        listed_required=True,
    ),
)
"""The contract says required; here both or none."""


def check_keys(draft: Draft) -> None:
    """A fault when just one of the two keys is there."""
    missing = [row.key for row in KEY_SETTINGS if row.key not in draft.secrets]
    if len(missing) == 1:
        draft.fault(f"[secret_settings] does not contain the required setting [{missing[0]}]")


def check_changed_keys(draft: Draft) -> None:
    """A fault when an _update brings just one of the two."""
    missing = [row.key for row in KEY_SETTINGS if row.key not in draft.given]
    if len(missing) == 1:
        draft.fault(
            f"[service_settings] [access_key] and [secret_key] must be updated together; missing: [{missing[0]}]"
        )


def endpoint_url(host: str, region: str) -> str:
    """``https://<host>.<region>.amazonaws.com``, in China ``.com.cn``."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{host}.{quote(region, safe='')}.{domain}"


def sigv4(service: str, region: Callable[[Ask], str] = lambda ask: str(ask.settings["region"])) -> Auth:
    """Signs for this signing name and the endpoint's region. Must come last: it covers every header that is set."""

    async def add(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
        where = region(ask)
        keys = _own_keys(ask) or await ambient(where, tokens)
        sign(outgoing, keys, where, service, datetime.now(UTC))
        return outgoing

    return add


def _own_keys(ask: Ask) -> Keys | None:
    access, secret = ask.endpoint.secret("access_key"), ask.endpoint.secret("secret_key")
    if not access or not secret:
        return None
    return Keys(access_key=access, secret_key=secret, session_token=ask.endpoint.secret("session_token"))


# The signature


def sign(outgoing: Outgoing, keys: Keys, region: str, service: str, when: datetime) -> None:
    """Set ``X-Amz-Date``, ``X-Amz-Security-Token`` (with a session token) and ``Authorization``."""
    stamp = when.strftime("%Y%m%dT%H%M%SZ")
    outgoing.headers["X-Amz-Date"] = stamp
    if keys.session_token:
        outgoing.headers["X-Amz-Security-Token"] = keys.session_token
    headers = _canonical_headers(outgoing)
    names = ";".join(headers)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = _hash(canonical_request(outgoing, headers).encode())
    signature = _mac(_signing_key(keys, scope), f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()
    outgoing.headers["Authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )


def canonical_request(outgoing: Outgoing, headers: Mapping[str, str]) -> str:
    """The text that the signature is of. The path, as sent, is percent-encoded once more."""
    parts = urlsplit(outgoing.url)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return "\n".join(
        (
            outgoing.method,
            quote(parts.path or "/", safe="/-_.~"),
            _canonical_query(parts.query),
            lines,
            ";".join(headers),
            _hash(outgoing.body),
        )
    )


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(sorted(f"{_encoded(name)}={_encoded(value)}" for name, _, value in pairs))


def _encoded(text: str) -> str:
    return quote(unquote(text), safe="-_.~")


def _canonical_headers(outgoing: Outgoing) -> dict[str, str]:
    """Every header by its lower-case name, sorted, with single spaces; and the host that will be sent."""
    found = {name.lower(): re.sub(" +", " ", value.strip()) for name, value in outgoing.headers.items()}
    found.pop("authorization", None)
    found.setdefault("host", _host(outgoing.url))
    return dict(sorted(found.items()))


def _host(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return host.removesuffix(default) if default else host


def _signing_key(keys: Keys, scope: str) -> bytes:
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


# Keys of the place where we run

_STATIC_FOR = 300.0
"""Seconds after which keys without an end are looked up again."""
_METADATA = "http://169.254.169.254"
_CONTAINER = "http://169.254.170.2"
_TAGS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


async def ambient(region: str, tokens: Tokens) -> Keys:
    """Environment, web identity (IRSA), profile files, container, instance metadata; the first that has keys."""

    async def fetch(send: Send) -> tuple[str, float]:
        try:
            keys, lasts = await _found(region, tokens.environment, send)
        except (Unreachable, Unsendable, TooLarge) as why:
            raise _none_found(str(why)) from None
        return msgspec.json.encode(keys).decode(), lasts

    return msgspec.json.decode(await tokens.get(fingerprint("aws", region), fetch), type=Keys)


async def _found(region: str, environment: Mapping[str, Secret], send: Send) -> tuple[Keys, float]:
    env = {name: value.reveal() for name, value in environment.items()}
    access, secret = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
    if access and secret:
        token = env.get("AWS_SESSION_TOKEN") or None
        return Keys(access_key=access, secret_key=secret, session_token=token), _STATIC_FOR
    if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN"):
        return await _web_identity(region, env, send)
    keys = await asyncio.to_thread(_profile, env)
    if keys is not None:
        return keys, _STATIC_FOR
    if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return await _container(env, send)
    if env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise _none_found("the instance metadata are switched off")
    return await _instance(env, send)


async def _web_identity(region: str, env: Mapping[str, str], send: Send) -> tuple[Keys, float]:
    """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html"""
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": env["AWS_ROLE_ARN"],
        "RoleSessionName": env.get("AWS_ROLE_SESSION_NAME") or "inferd",
        "WebIdentityToken": await asyncio.to_thread(_text, env["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{endpoint_url('sts', region)}/"
    return _read(
        await send(Outgoing(url=url, body=urlencode(form).encode(), headers=headers)), "web identity"
    )


async def _container(env: Mapping[str, str], send: Send) -> tuple[Keys, float]:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html"""
    relative = env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{_CONTAINER}{relative}" if relative else env["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    token = env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    file = env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if file:
        token = await asyncio.to_thread(_text, file)
    headers = {"Authorization": token} if token else {}
    return _read(await send(_metadata("GET", url, headers)), "container")


async def _instance(env: Mapping[str, str], send: Send) -> tuple[Keys, float]:
    """Version 2 of https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"""
    base = (env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _METADATA).rstrip("/")
    ask = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    session = await send(_metadata("PUT", f"{base}/latest/api/token", ask))
    headers = {"X-aws-ec2-metadata-token": _plain(session)}
    where = f"{base}/latest/meta-data/iam/security-credentials/"
    role = _plain(await send(_metadata("GET", where, headers))).split("\n")[0]
    return _read(await send(_metadata("GET", where + quote(role, safe=""), headers)), "instance metadata")


def _metadata(method: str, url: str, headers: dict[str, str]) -> Outgoing:
    return Outgoing(method=method, url=url, body=b"", headers=headers, exempt=True)


def _plain(reply: Reply) -> str:
    if reply.status != 200 or not reply.body:
        raise _none_found(f"the instance metadata answered with status [{reply.status}]")
    return reply.body.decode("latin-1").strip()


def _read(reply: Reply, source: str) -> tuple[Keys, float]:
    """Keys and how many seconds they last, from JSON (metadata) or XML (STS)."""
    told = _members(reply.body) if reply.status == 200 else {}
    access, secret, session, ends = (
        told.get(tag) or (told.get("Token") if tag == "SessionToken" else None) for tag in _TAGS
    )
    if not access or not secret:
        raise _none_found(f"the {source} answered with status [{reply.status}] and no keys")
    return Keys(access_key=access, secret_key=secret, session_token=session), _lasts(ends)


def _members(body: bytes) -> dict[str, str]:
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("{"):
        try:
            told: dict[str, Any] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return {}
        return {name: value for name, value in told.items() if isinstance(value, str)}
    return dict(re.findall(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>([^<]+)</", text))


def _lasts(ends: str | None) -> float:
    if ends is None:
        return _STATIC_FOR
    try:
        until = datetime.fromisoformat(ends)
    except ValueError:
        return _STATIC_FOR
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _profile(env: Mapping[str, str]) -> Keys | None:
    """Keys of ``AWS_PROFILE`` in ``~/.aws/credentials``, then in ``~/.aws/config``."""
    name = env.get("AWS_PROFILE") or "default"
    credentials, config = env.get("AWS_SHARED_CREDENTIALS_FILE"), env.get("AWS_CONFIG_FILE")
    if "HOME" in env:
        credentials = credentials or f"{env['HOME']}/.aws/credentials"
        config = config or f"{env['HOME']}/.aws/config"
    named = name if name == "default" else f"profile {name}"
    return _section(credentials, name) or _section(config, named)


def _section(file: str | None, name: str) -> Keys | None:
    if file is None:
        return None
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        raise _none_found(f"the file [{file}] is not a profile file") from None
    if not parser.has_section(name):
        return None
    found = parser[name]
    access, secret = found.get("aws_access_key_id"), found.get("aws_secret_access_key")
    if not access or not secret:
        return None
    return Keys(access_key=access, secret_key=secret, session_token=found.get("aws_session_token"))


def _text(file: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise _none_found(f"the file [{file}] cannot be read") from None


def _none_found(why: str) -> StatusError:
    return StatusError(
        400, f"The endpoint has no AWS keys of its own and none were found where this server runs: {why}"
    )
