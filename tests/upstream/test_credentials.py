"""Credential schemes: what they send, and that tokens are fetched once, in time, and again when refused."""

import asyncio
import base64
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from acme import KEY, Provider
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from inferd.core.secrets import Secret
from inferd.errors import InferdError, Rejected, StatusError, TimedOut, UpstreamError
from inferd.upstream import auth

VECTORS = {"vectors": [[1]]}
WHERE = "for request to generate Bearer Token from inference entity id [e1]"


def sent(provider: Provider) -> str | None:
    return provider.fake.requests[-1].headers.get("authorization")


@pytest.mark.parametrize(
    ("scheme", "secrets", "header", "value"),
    [
        (auth.bearer, {"api_key": "k"}, "authorization", "Bearer k"),
        (auth.optional_bearer, {"api_key": "k"}, "authorization", "Bearer k"),
        (auth.optional_bearer, {}, "authorization", None),
        (auth.header("x-api-key"), {"api_key": "k"}, "x-api-key", "k"),
        (auth.header("Authorization", "token", "Token "), {"token": "k"}, "authorization", "Token k"),
        (auth.azure, {"api_key": "k"}, "api-key", "k"),
        (auth.azure, {"entra_id": "k"}, "authorization", "Bearer k"),
        (auth.bearer_or_client_credentials, {"api_key": "k"}, "authorization", "Bearer k"),
    ],
)
async def test_keys(
    provider: Provider, scheme: Any, secrets: dict[str, str], header: str, value: str | None
) -> None:
    """Each scheme puts the key where its provider looks."""
    provider.changed(auth=scheme)
    provider.secrets = {name: Secret(secret) for name, secret in secrets.items()}
    provider.fake.answer(json=VECTORS)
    await provider.call()
    assert provider.fake.requests[0].headers.get(header) == value


@pytest.mark.parametrize(
    ("url", "target"), [("/a", "/a?key=k%20%26%2F"), ("/a?b=c", "/a?b=c&key=k%20%26%2F")]
)
async def test_a_key_in_the_query(provider: Provider, url: str, target: str) -> None:
    """The key is percent-encoded and joins what is there."""
    from inferd.core.tasks import TaskType

    provider.changed(auth=auth.query_key("key"))
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=f"https://api.acme.example{url}")
    provider.secrets = {"api_key": Secret("k &/")}
    provider.fake.answer(json=VECTORS)
    await provider.call()
    assert provider.fake.requests[0].target == target


# Tokens


@pytest.fixture
def tokens(provider: Provider) -> Provider:
    """Acme with OAuth2 client credentials."""
    provider.changed(auth=auth.bearer_or_client_credentials)
    provider.settings = {
        "client_id": "id&1",
        "scopes": ["a", "b/.default"],
        "token_url": f"{provider.fake.url}/token",
    }
    provider.secrets = {"client_secret": Secret(KEY)}
    provider.fake.answer(json=VECTORS)
    return provider


def grant(token: str, **more: Any) -> dict[str, Any]:
    return {"access_token": token, "token_type": "Bearer", **more}


async def test_client_credentials(tokens: Provider) -> None:
    """The standard form is posted, and its token is the bearer."""
    tokens.fake.answer(path="/token", json=grant("t1", expires_in=3600))
    await tokens.call()
    asked = tokens.fake.requests[0]
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["id&1"],
        "client_secret": [KEY],
        "scope": ["a b/.default"],
    }
    assert sent(tokens) == "Bearer t1"


async def test_a_token_is_fetched_once(tokens: Provider) -> None:
    """Many callers at once, one fetch."""
    tokens.fake.answer(path="/token", json=grant("t1", expires_in="3600"), delay=0.1)
    await asyncio.gather(*(tokens.call() for _ in range(20)))
    assert [r.path for r in tokens.fake.requests].count("/token") == 1


async def test_a_token_is_renewed_before_its_end(tokens: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not used in its last minute, nor, when it lives shorter, in its last tenth."""
    tokens.fake.answer(path="/token", json=grant("t1", expires_in=3600))
    tokens.fake.answer(path="/token", json=grant("t2", expires_in=100))
    tokens.fake.answer(path="/token", json=grant("t3"))
    loop = asyncio.get_running_loop()
    began, real = loop.time(), loop.time
    seen = []
    for elapsed in (0, 3500, 3541, 3630, 3632):
        monkeypatch.setattr(loop, "time", lambda elapsed=elapsed: real() + elapsed)
        await tokens.call()
        seen.append(sent(tokens))
    assert real() - began < 0.9
    assert seen == [f"Bearer t{n}" for n in (1, 1, 2, 2, 3)]


async def test_a_refused_token_is_dropped(tokens: Provider) -> None:
    """A 401 is the answer, and the next call fetches a new token."""
    tokens.fake.forget()
    tokens.fake.answer(path="/token", json=grant("t1"))
    tokens.fake.answer(path="/token", json=grant("t2"))
    tokens.fake.answer(status=401)
    tokens.fake.answer(json=VECTORS)
    with pytest.raises(UpstreamError):
        await tokens.call()
    await tokens.call()
    assert sent(tokens) == "Bearer t2"


async def test_a_caller_who_leaves_does_not_end_the_fetch(tokens: Provider) -> None:
    """The others still get the token that the first one began to fetch."""
    tokens.fake.answer(path="/token", json=grant("t1"), delay=0.2)
    first = asyncio.create_task(tokens.call())
    await asyncio.wait_for(tokens.fake.asked.wait(), 1)
    second = asyncio.create_task(tokens.call())
    await asyncio.sleep(0.05)
    first.cancel()
    await second
    assert [r.path for r in tokens.fake.requests] == ["/token", "/v1/embed"]


async def test_a_token_server_that_hangs(tokens: Provider) -> None:
    """The caller's deadline covers the token."""
    tokens.fake.answer(path="/token", json=grant("t1"), delay=30)
    with pytest.raises(TimedOut):
        await tokens.call(timeout=0.2)


async def test_another_endpoint_has_another_token(tokens: Provider) -> None:
    """Tokens are kept by endpoint and credentials."""
    tokens.fake.answer(path="/token", json=grant("t1"))
    tokens.fake.answer(path="/token", json=grant("t2"))
    await tokens.call()
    tokens.secrets = {"client_secret": Secret("other")}
    await tokens.call()
    assert sent(tokens) == "Bearer t2"


@pytest.mark.parametrize(
    ("status", "body", "ours", "text", "attempts"),
    [
        (
            400,
            {"error": "invalid_client", "error_description": f"secret {KEY} is wrong"},
            400,
            "Received a bad request status code {where} status [400]. Error message: [secret ****** is wrong]",
            1,
        ),
        (401, {"error": "no"}, 401, "Received an authentication error status code {where} status [401]. "
         "Error message: [no]", 1),
        (500, {}, 400, "Received a server error status code {where} status [500]", 3),
        (302, {}, 302, "Unhandled redirection {where} status [302]", 1),
    ],
)  # fmt: skip
async def test_a_refused_exchange(
    tokens: Provider, status: int, body: Any, ours: int, text: str, attempts: int
) -> None:
    """The token server's refusal is the caller's error, without the secret in it."""
    tokens.fake.answer(path="/token", status=status, json=body)
    with pytest.raises(UpstreamError) as caught:
        await tokens.call()
    assert (caught.value.status, caught.value.reason) == (ours, text.replace("{where}", WHERE))
    assert [r.path for r in tokens.fake.requests] == ["/token"] * attempts


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"access_token": 7}', b'{"access_token": ""}'])
async def test_an_answer_without_a_token(tokens: Provider, body: bytes) -> None:
    """It is named, tried again, and nothing is sent to the provider."""
    tokens.fake.answer(path="/token", body=body)
    with pytest.raises(UpstreamError, match="required field \\[access_token\\]"):
        await tokens.call()
    assert [r.path for r in tokens.fake.requests] == ["/token"] * 3


async def test_a_token_url_may_not_be_a_metadata_address(tokens: Provider) -> None:
    """A token URL is a URL the user gave: the egress policy holds for it."""
    tokens.changed(name="elsewhere")
    tokens.settings["token_url"] = "http://169.254.169.254/latest/api/token"
    with pytest.raises(StatusError, match=r"metadata address"):
        await tokens.call()


async def test_azure_client_credentials(provider: Provider) -> None:
    """The tenant's token address is asked; a tenant cannot leave its place in the path."""
    provider.changed(auth=auth.azure)
    provider.settings = {"client_id": "i", "scopes": ["s"], "tenant_id": "t/../x"}
    provider.secrets = {"client_secret": Secret(KEY)}
    provider.fake.answer(path="/t%2F..%2Fx/oauth2/v2.0/token", json=grant("t1"))
    provider.fake.answer(json=VECTORS)
    await provider.call()
    assert sent(provider) == "Bearer t1"


# IBM


@pytest.fixture
def ibm(provider: Provider) -> Provider:
    provider.changed(auth=auth.ibm_iam)
    provider.secrets = {"api_key": Secret("k+/=")}
    provider.fake.answer(json=VECTORS)
    return provider


async def test_ibm(ibm: Provider) -> None:
    """The body is exactly the documented one, the key not encoded."""
    ibm.fake.answer(path="/identity/token", json=grant("t1", expires_in=3600))
    await ibm.call()
    assert ibm.fake.requests[0].body == b"grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey=k+/="
    assert sent(ibm) == "Bearer t1"


@pytest.mark.parametrize(
    ("status", "ours", "prefix", "attempts"),
    [
        (404, 404, "Resource not found at [https://iam.cloud.ibm.com/identity/token]", 1),
        (403, 403, "Received a permission denied error status code", 1),
        (429, 429, "Received an unsuccessful status code", 1),
        (500, 400, "Received a server error status code", 3),
        (503, 400, "Received an unsuccessful status code", 1),
    ],
)
async def test_ibm_refuses(ibm: Provider, status: int, ours: int, prefix: str, attempts: int) -> None:
    """The words of watsonxai.md, the reason phrase as message."""
    ibm.fake.answer(path="/identity/token", status=status)
    with pytest.raises(UpstreamError) as caught:
        await ibm.call()
    assert caught.value.reason == f"{prefix} {WHERE} status [{status}]. Error message: [Reason]"
    assert (caught.value.status, len(ibm.fake.requests)) == (ours, attempts)


async def test_ibm_does_not_answer(ibm: Provider) -> None:
    """A connection that fails has a text of its own."""
    ibm.fake.answer(path="/identity/token", raw=b"")
    with pytest.raises(UpstreamError, match=r"^Failed to add Bearer token to the request$") as caught:
        await ibm.call()
    assert isinstance(caught.value.__cause__, InferdError)


# Google


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def google(provider: Provider, key: rsa.RSAPrivateKey) -> Provider:
    provider.changed(auth=auth.google_service_account)
    provider.fake.answer(json=VECTORS)
    provider.secrets = {"service_account_json": Secret(account(key))}
    return provider


def account(key: rsa.RSAPrivateKey, **change: Any) -> str:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    whole = {
        "type": "service_account",
        "client_id": "1",
        "client_email": "a@b.example",
        "private_key": pem.decode(),
        "private_key_id": "kid1",
        "token_uri": "https://oauth2.googleapis.com/token",
        **change,
    }
    return msgspec.json.encode({k: v for k, v in whole.items() if v is not None}).decode()


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_google(google: Provider, key: rsa.RSAPrivateKey) -> None:
    """The assertion is a JWT that verifies with the account's public key and claims what it must."""
    google.fake.answer(path="/token", json=grant("t1", expires_in=3599))
    await google.call()
    form = parse_qs(google.fake.requests[0].body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    head, claims, signature = form["assertion"][0].split(".")
    key.public_key().verify(unpadded(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
    assert msgspec.json.decode(unpadded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "kid1"}
    told = msgspec.json.decode(unpadded(claims))
    assert (told["iss"], told["aud"]) == ("a@b.example", "https://oauth2.googleapis.com/token")
    assert told["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert told["exp"] - told["iat"] == 3600
    assert sent(google) == "Bearer t1"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "user"}, "not of type [service_account]"),
        ({"client_email": None}, "lacks [client_email]"),
        ({"private_key": 7}, "lacks [private_key]"),
        ({"private_key": "-----BEGIN nonsense"}, "is not an RSA key"),
        ({"token_uri": 7}, "[token_uri] that is not a string"),
    ],
)
async def test_a_bad_service_account(
    google: Provider, key: rsa.RSAPrivateKey, change: dict[str, Any], text: str
) -> None:
    """Whatever is wrong with the JSON or its key is a 403 at once, and the key is not quoted."""
    google.secrets = {"service_account_json": Secret(account(key, **change))}
    with pytest.raises(StatusError) as caught:
        await google.call()
    assert caught.value.status == 403
    assert text in caught.value.reason
    assert google.fake.requests == []
    assert "BEGIN" not in caught.value.reason


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800"])
async def test_a_service_account_that_is_no_json(google: Provider, text: str) -> None:
    """The same for what is no JSON object."""
    google.secrets = {"service_account_json": Secret(text)}
    with pytest.raises(StatusError, match="is not a JSON object"):
        await google.call()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            {"status": 400, "json": {"error": "invalid_grant", "error_description": "Invalid JWT"}},
            "Invalid JWT",
        ),
        ({"status": 500}, "The token was refused with status [500]"),
        ({"raw": b""}, "The server closed the connection without an answer"),
        ({"json": {}}, "Failed to find required field [access_token] in the token response"),
    ],
)
async def test_google_refuses(google: Provider, answer: dict[str, Any], text: str) -> None:
    """Any failure of the exchange is a 403 with its cause, not tried again."""
    google.fake.answer(path="/token", **answer)
    with pytest.raises(StatusError) as caught:
        await google.call()
    assert (caught.value.status, caught.value.reason) == (403, text)
    assert len(google.fake.requests) == 1


async def test_closing_ends_a_fetch(tokens: Provider) -> None:
    """Nothing is left running after ``close``; whoever waits is told, and so is whoever comes later."""
    tokens.fake.answer(path="/token", delay=30)
    task = asyncio.create_task(tokens.call())
    await asyncio.wait_for(tokens.fake.asked.wait(), 1)
    await tokens.upstream.close()
    with pytest.raises(Rejected, match="server is stopping"):
        await task
    with pytest.raises(Rejected, match="server is stopping"):
        await tokens.call()
