"""Amazon's signature against its published vectors, and where keys come from."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from acme import KEY, Provider

from inferd.config import Outbound
from inferd.core.secrets import Secret
from inferd.core.service import Outgoing
from inferd.core.tasks import TaskType
from inferd.errors import StatusError, UpstreamError
from inferd.upstream.aws import Keys, canonical_request, sign, sigv4

KEYS = Keys(access_key="AKIDEXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
WHEN = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HOST = "https://example.amazonaws.com"
FORM = "application/x-www-form-urlencoded"
LETTERS = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# aws-sig-v4-test-suite, and the worked example of the general reference (the last one).
VECTORS: list[tuple[str, str, str, dict[str, str], bytes, str, str]] = [
    ("get-vanilla", "GET", "/", {}, b"", "host;x-amz-date",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", {}, b"", "host;x-amz-date",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-utf8", "GET", "/\u1234", {}, b"", "host;x-amz-date",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("get-unreserved", "GET", LETTERS, {}, b"", "host;x-amz-date",
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
    ("get-header-value-trim", "GET", "/", {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b"",
     "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    ("post-vanilla", "POST", "/", {}, b"", "host;x-amz-date",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-vanilla-query", "POST", "/?Param1=value1", {}, b"", "host;x-amz-date",
     "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    ("post-header-key-sort", "POST", "/", {"My-Header1": "value1"}, b"", "host;my-header1;x-amz-date",
     "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
    ("post-x-www-form-urlencoded", "POST", "/", {"Content-Type": FORM}, b"Param1=value1",
     "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "names", "signature"),
    [vector[1:] for vector in VECTORS],
    ids=[vector[0] for vector in VECTORS],
)
def test_published_vectors(
    method: str, target: str, headers: dict[str, str], body: bytes, names: str, signature: str
) -> None:
    """The signatures are Amazon's own."""
    request = Outgoing(method=method, url=HOST + target, headers=dict(headers), body=body)
    sign(request, KEYS, "us-east-1", "service", WHEN)
    assert request.headers["X-Amz-Date"] == "20150830T123600Z"
    assert request.headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_the_worked_example() -> None:
    """ListUsers of the IAM documentation."""
    request = Outgoing(
        method="GET",
        url="https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        headers={"Content-Type": f"{FORM}; charset=utf-8"},
        body=b"",
    )
    sign(request, KEYS, "us-east-1", "iam", WHEN)
    assert request.headers["Authorization"].endswith(
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@pytest.mark.parametrize(
    ("url", "path", "host"),
    [
        ("https://h.example/model/a%3Ab%2Fc/invoke", "/model/a%253Ab%252Fc/invoke", "h.example"),
        ("https://H.example:443", "/", "h.example"),
        ("http://h.example:80/", "/", "h.example"),
        ("http://h.example:8080/x y", "/x%20y", "h.example:8080"),
    ],
)
def test_what_is_signed(url: str, path: str, host: str) -> None:
    """An encoded path is encoded once more; the host is the one that is sent."""
    request = Outgoing(url=url, headers={}, body=b"")
    text = canonical_request(request, {"host": host}).split("\n")
    assert text[1] == path
    sign(request, KEYS, "r", "s", WHEN)
    other = Outgoing(url=url, headers={"Host": host}, body=b"")
    sign(other, KEYS, "r", "s", WHEN)
    assert request.headers["Authorization"] == other.headers["Authorization"]


def test_a_session_token_is_signed() -> None:
    """Temporary keys send their token, under the signature."""
    request = Outgoing(url=HOST, headers={}, body=b"")
    sign(request, Keys(access_key="a", secret_key="s", session_token="t"), "r", "s", WHEN)
    assert request.headers["X-Amz-Security-Token"] == "t"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in request.headers["Authorization"]


def test_keys_do_not_print() -> None:
    """Their representation holds none of them."""
    assert repr(KEYS) == "Keys(******)"


# Through the client

VECTOR = {"vectors": [[1]]}


@pytest.fixture
def aws(provider: Provider) -> Provider:
    provider.changed(auth=sigv4("bedrock"))
    provider.changed_call(
        TaskType.TEXT_EMBEDDING, post="https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/invoke"
    )
    provider.settings = {"region": "eu-west-1"}
    provider.secrets = {}
    provider.fake.answer(json=VECTOR)
    return provider


async def called(aws: Provider, **environment: str) -> dict[str, str]:
    """The headers of the call itself."""
    aws.upstream = aws.fake.client("acme", environment=environment)
    await aws.call()
    return dict(aws.fake.requests[-1].headers)


def identity(headers: dict[str, str]) -> str:
    return headers["authorization"].partition("Credential=")[2].partition("/")[0]


async def test_the_endpoints_own_keys(aws: Provider) -> None:
    """They come first, sign for the endpoint's region, and the path goes out as it was signed."""
    aws.secrets = {"access_key": Secret("AKOWN"), "secret_key": Secret(KEY)}
    headers = await called(aws, AWS_ACCESS_KEY_ID="AKENV", AWS_SECRET_ACCESS_KEY="x")
    assert "Credential=AKOWN/" in headers["authorization"]
    assert "/eu-west-1/bedrock/aws4_request" in headers["authorization"]
    assert "x-amz-security-token" not in headers
    assert aws.fake.requests[-1].target == "/model/a%3A0/invoke"


async def test_keys_of_the_environment(aws: Provider) -> None:
    """``AWS_ACCESS_KEY_ID`` and its companions, the session token too."""
    headers = await called(aws, AWS_ACCESS_KEY_ID="AKENV", AWS_SECRET_ACCESS_KEY="x", AWS_SESSION_TOKEN="tok")
    assert (identity(headers), headers["x-amz-security-token"]) == ("AKENV", "tok")


async def test_keys_of_a_web_identity(aws: Provider, tmp_path: Path) -> None:
    """IRSA: the token file is exchanged at STS for keys that last as long as they say."""
    token = tmp_path / "token"
    token.write_text("the.web.token\n")
    ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    aws.fake.answer(
        path="/",
        body=f"<R><Credentials><AccessKeyId>AKWEB</AccessKeyId><SecretAccessKey>s/+=</SecretAccessKey>"
        f"<SessionToken>tok</SessionToken><Expiration>{ends}</Expiration></Credentials></R>".encode(),
    )
    environment = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}
    headers = await called(aws, **environment)
    assert (identity(headers), headers["x-amz-security-token"]) == ("AKWEB", "tok")
    form = parse_qs(aws.fake.requests[0].body.decode())
    assert form["Action"] == ["AssumeRoleWithWebIdentity"]
    assert form["WebIdentityToken"] == ["the.web.token"]
    await aws.call()
    assert [r.path for r in aws.fake.requests].count("/") == 1


@pytest.mark.parametrize("profile", [None, "work"])
@pytest.mark.parametrize("file", ["credentials", "config"])
async def test_keys_of_a_profile(aws: Provider, tmp_path: Path, profile: str | None, file: str) -> None:
    """``~/.aws/credentials`` and ``~/.aws/config``, the default profile or ``AWS_PROFILE``."""
    (tmp_path / ".aws").mkdir()
    named = profile or "default"
    section = f"profile {named}" if file == "config" and profile else named
    text = f"[{section}]\naws_access_key_id = AK{named}\naws_secret_access_key = a%b\n"
    (tmp_path / ".aws" / file).write_text(text)
    environment = {"HOME": str(tmp_path)} | ({"AWS_PROFILE": profile} if profile else {})
    assert identity(await called(aws, **environment)) == f"AK{named}"


ROLE_KEYS = {
    "AccessKeyId": "AKROLE",
    "SecretAccessKey": "s",
    "Token": "tok",
    "Expiration": "2999-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    "name", ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
)
async def test_keys_of_a_container(aws: Provider, tmp_path: Path, name: str) -> None:
    """ECS and EKS Pod Identity: a local address, maybe with a token from a file."""
    token = tmp_path / "token"
    token.write_text("podtoken")
    value = "/creds" if "RELATIVE" in name else "http://169.254.170.23/creds"
    aws.fake.answer(path="/creds", json=ROLE_KEYS)
    environment = {name: value, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token), "HOME": str(tmp_path)}
    headers = await called(aws, **environment)
    assert (identity(headers), headers["x-amz-security-token"]) == ("AKROLE", "tok")
    assert aws.fake.requests[0].headers["authorization"] == "podtoken"


async def test_keys_of_the_instance(aws: Provider, tmp_path: Path) -> None:
    """IMDSv2: a session token first, then the role's name, then its keys."""
    base = "/latest/meta-data/iam/security-credentials/"
    aws.fake.answer(path="/latest/api/token", body=b"imds")
    aws.fake.answer(path=base, body=b"my role\n")
    aws.fake.answer(path=f"{base}my%20role", json=ROLE_KEYS)
    assert identity(await called(aws, HOME=str(tmp_path))) == "AKROLE"
    asked = aws.fake.requests[:3]
    assert [r.method for r in asked] == ["PUT", "GET", "GET"]
    assert asked[0].headers["x-aws-ec2-metadata-token-ttl-seconds"] == "300"
    assert [r.headers["x-aws-ec2-metadata-token"] for r in asked[1:]] == ["imds", "imds"]


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"AWS_EC2_METADATA_DISABLED": "true"}, "the instance metadata are switched off"),
        ({}, "the instance metadata answered with status [404]"),
        (
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/file", "AWS_ROLE_ARN": "a"},
            "the file [/no/such/file] cannot be read",
        ),
        (
            {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/none"},
            "the container answered with status [404] and no keys",
        ),
    ],
)
async def test_no_keys_anywhere(aws: Provider, tmp_path: Path, environment: dict[str, str], why: str) -> None:
    """The error says where the search ended; nothing is sent to the provider."""
    aws.fake.forget()
    with pytest.raises(StatusError) as caught:
        await called(aws, HOME=str(tmp_path), **environment)
    assert caught.value.reason == (
        f"The endpoint has no AWS keys of its own and none were found where this server runs: {why}"
    )
    assert caught.value.status == 400
    assert all("invoke" not in r.path for r in aws.fake.requests)


async def test_ambient_keys_can_be_switched_off(aws: Provider, tmp_path: Path) -> None:
    """``outbound.ambient_credentials = false``: an endpoint has keys of its own or none."""
    environment = {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": KEY}
    aws.upstream = aws.fake.client(
        "acme", outbound=Outbound(ambient_credentials=False), environment=environment
    )
    with pytest.raises(StatusError, match="has no AWS keys of its own"):
        await aws.call()
    assert aws.fake.requests == []


async def test_a_broken_profile_file(aws: Provider, tmp_path: Path) -> None:
    """A file that cannot be parsed is named, its text is not."""
    file = tmp_path / "credentials"
    file.write_text(f"{KEY}\n")
    with pytest.raises(StatusError) as caught:
        await called(aws, AWS_SHARED_CREDENTIALS_FILE=str(file))
    assert f"the file [{file}] is not a profile file" in caught.value.reason
    assert KEY not in caught.value.reason


async def test_ambient_keys_that_are_refused(aws: Provider) -> None:
    """A 403 drops temporary keys, so that the next call looks again."""
    aws.fake.forget()
    aws.fake.answer(path="/k", json=ROLE_KEYS)
    aws.fake.answer(path="/k", json={**ROLE_KEYS, "AccessKeyId": "AKNEW"})
    aws.fake.answer(status=403)
    aws.fake.answer(json=VECTOR)
    environment: dict[str, Any] = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/k", "HOME": "/nowhere"}
    with pytest.raises(UpstreamError):
        await called(aws, **environment)
    await aws.call()
    assert identity(dict(aws.fake.requests[-1].headers)) == "AKNEW"
