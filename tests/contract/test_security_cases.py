"""The cases 71 to 75 of api.md section 15, and the texts of section 12."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .house import PASSWORD, Client, basic, call, create_endpoints, put_body, secured
from .model_server import running

HTTP = ['Basic realm="security", charset="UTF-8"', "ApiKey"]
HTTPS = ['Basic realm="security", charset="UTF-8"', 'Bearer realm="security"', "ApiKey"]


@pytest.fixture
async def root(tmp_path: Path) -> AsyncIterator[Client]:
    async with running() as url, secured(tmp_path, url) as client:
        yield client


async def user(root: Client, name: str, *roles: str) -> Client:
    answer = await root("PUT", f"/_security/user/{name}", {"password": "password-1", "roles": roles})
    assert answer.json == {"created": True}
    return root.as_(basic(name, "password-1"))


async def key(root: Client, **body: Any) -> dict[str, Any]:
    answer = await root("POST", "/_security/api_key", {"name": "k", **body})
    assert answer.status == 200, answer.body
    return answer.json


def refusal(reason: str, challenges: list[str] = HTTP, **members: str) -> dict[str, Any]:
    """api.md 12.2."""
    told = {
        "type": "security_exception",
        "reason": reason,
        **members,
        "header": {"WWW-Authenticate": challenges},
    }
    return {"error": {"root_cause": [told], **told}, "status": 401}


def forbidden(reason: str) -> dict[str, Any]:
    told = {"type": "security_exception", "reason": reason}
    return {"error": {"root_cause": [told], **told}, "status": 403}


NO_CREDENTIALS = "missing authentication credentials for REST request [/_inference]"
ANONYMOUS = (
    "unable to authenticate with provided credentials and anonymous access is not allowed for this request"
)


async def test_71(root: Client) -> None:
    """``inference_admin`` puts, gets, infers and deletes."""
    admin = await user(root, "u", "inference_admin")
    await create_endpoints(admin)
    for request in (
        ("GET", "/_inference/_all"),
        ("POST", "/_inference/text_embedding/dense", {"input": "a"}),
        ("POST", "/_inference/completion/comp/_stream", {"input": "a"}),
        ("PUT", "/_inference/text_embedding/dense/_update", {"service_settings": {"api_key": "other"}}),
        ("DELETE", "/_inference/dense"),
    ):
        answer = await admin(*request)
        assert answer.status == 200, answer.body


async def test_72(root: Client) -> None:
    """``inference_user`` may not put."""
    answer = await (await user(root, "u", "inference_user"))(
        "PUT", "/_inference/sparse_embedding/p", put_body("S2")
    )
    assert answer.status == 403
    assert answer.json == forbidden(
        "action [cluster:admin/xpack/inference/put] is unauthorized for user [u] with effective roles [inference_user], "
        "this action is granted by the cluster privileges [manage_inference,manage,all]"
    )
    assert not answer.challenges


async def test_73(root: Client) -> None:
    """``inference_user`` reads and infers."""
    await create_endpoints(root)
    reader = await user(root, "u", "inference_user")
    assert (await reader("GET", "/_inference/_all")).status == 200
    assert (await reader("POST", "/_inference/dense", {"input": "a"})).status == 200


async def test_74(root: Client) -> None:
    """A user without roles may nothing."""
    answer = await (await user(root, "u"))("GET", "/_inference/sparse_embedding/_all")
    assert answer.json == forbidden(
        "action [cluster:monitor/xpack/inference/get] is unauthorized for user [u] with effective roles [], this action is "
        "granted by the cluster privileges [monitor_inference,manage_inference,monitor,manage,all]"
    )


async def test_75(root: Client) -> None:
    """No credentials."""
    answer = await root.as_(None)("GET", "/_inference")
    assert (answer.status, answer.json) == (401, refusal(NO_CREDENTIALS))
    assert answer.challenges == HTTP


class TestForbidden:
    async def test_root(self, root: Client) -> None:
        """The inference roles do not reach ``GET /``."""
        answer = await (await user(root, "u", "inference_admin"))("GET", "/")
        assert answer.json == forbidden(
            "action [cluster:monitor/main] is unauthorized for user [u] with effective roles [inference_admin], this "
            "action is granted by the cluster privileges [monitor,manage,all]"
        )

    @pytest.mark.parametrize("path", ["completion/comp", "chat_completion/chat", "chat"])
    async def test_streams(self, root: Client, path: str) -> None:
        """An error event in the standard envelope, for chat completion too (7.5)."""
        await create_endpoints(root)
        answer = await (await user(root, "u"))("POST", f"/_inference/{path}/_stream", {"input": "a"})
        assert answer.status == 403
        assert answer.events == [
            (
                "error",
                forbidden(
                    "action [cluster:monitor/xpack/inference/post] is unauthorized for user [u] with effective roles [], "
                    "this action is granted by the cluster privileges "
                    "[monitor_inference,manage_inference,monitor,manage,all]"
                ),
            )
        ]

    async def test_unknown_roles_are_named(self, root: Client) -> None:
        """Roles sorted, without blanks; assigned ones that do not exist are told apart."""
        reader = await user(root, "u", "viewer", "gone", "inference_user", "also-gone")
        answer = await reader("DELETE", "/_inference/x")
        assert answer.json == forbidden(
            "action [cluster:admin/xpack/inference/delete] is unauthorized for user [u] with effective roles "
            "[inference_user,viewer] (assigned roles [also-gone,gone] were not found), this action is granted by the "
            "cluster privileges [manage_inference,manage,all]"
        )

    async def test_api_key(self, root: Client) -> None:
        """An API key is named by its id and has no roles."""
        made = await key(root, role_descriptors={"r": {"cluster": ["monitor_inference"]}})
        answer = await root.as_(f"ApiKey {made['encoded']}")("DELETE", "/_inference/x")
        assert answer.json == forbidden(
            f"action [cluster:admin/xpack/inference/delete] is unauthorized for API key id [{made['id']}] of user [elastic], "
            "this action is granted by the cluster privileges [manage_inference,manage,all]"
        )

    async def test_stream(self, root: Client) -> None:
        """On ``_stream`` routes it is an error event."""
        answer = await (await user(root, "u"))("POST", "/_inference/completion/c/_stream", {"input": "a"})
        [(name, data)] = answer.events
        assert name == "error"
        assert data["error"]["type"] == "security_exception"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestUnauthorized:
    async def test_no_scheme_that_is_known(self, root: Client) -> None:
        for authorization in ("", " ", "Basic2", "Digest abc", "Negotiate", "bogus scheme x", "Basic\tabc"):
            answer = await root.as_(authorization)("GET", "/_inference")
            assert (answer.status, answer.json) == (401, refusal(NO_CREDENTIALS)), authorization

    async def test_basic(self, root: Client) -> None:
        """One text for every way of being wrong: no user, no password, a disabled user, no base64."""
        await user(root, "off", "superuser")
        assert (await root("PUT", "/_security/user/off/_disable")).status == 200
        for credential, name in (
            (encoded("elastic:wrong"), "elastic"),
            (encoded("nobody:wrong"), "nobody"),
            (encoded("off:password-1"), "off"),
            (encoded("elastic:"), "elastic"),
            (encoded("elástic:x"), "elástic"),
            (encoded("a\nb\0\u2028:x"), "a\nb\0\u2028"),
            (encoded(":"), ""),
            (encoded("no colon but a secret"), ""),
            ("%%%", ""),
            ("YQ", ""),
            ("", ""),
            ("é", ""),
            (base64.b64encode(b"\xff\xfe:x").decode(), ""),
            (encoded("n" * 5000 + ":x"), "n" * 256 + "…"),
        ):
            answer = await root.as_(f"Basic {credential}")("GET", "/_inference?pretty")
            reason = f"unable to authenticate user [{name}] for REST request [/_inference?pretty]"
            assert (answer.status, answer.json) == (401, refusal(reason)), credential
            assert answer.challenges == HTTP

    async def test_api_keys(self, root: Client) -> None:
        """Unknown, wrong, invalidated, expired."""
        good, gone, old = await key(root), await key(root), await key(root, expiration="1ms")
        await root("DELETE", "/_security/api_key", {"ids": [gone["id"]]})
        await asyncio.sleep(0.01)
        for credential, why in (
            ("nope:x", "unable to find apikey with id nope"),
            (f"{good['id']}:x", f"invalid credentials for API key [{good['id']}]"),
            (f"{good['id']}:{gone['api_key']}", f"invalid credentials for API key [{good['id']}]"),
            (f"{gone['id']}:{gone['api_key']}", f"api key [{gone['id']}] has been invalidated"),
            (f"{old['id']}:{old['api_key']}", "api key is expired"),
            ("a secret without an id", "malformed credential"),
        ):
            for scheme, kind in (("ApiKey", "API key"), ("Bearer", "oauth2 token")):
                answer = await root.as_(f"{scheme} {encoded(credential)}")("GET", "/_inference")
                expected = refusal(ANONYMOUS, additional_unsuccessful_credentials=f"{kind}: {why}")
                assert (answer.status, answer.json) == (401, expected)

    async def test_schemes_in_any_letter_case(self, root: Client) -> None:
        made = await key(root)
        for authorization in (
            basic("elastic", PASSWORD).replace("Basic", "bAsIc"),
            f"APIKEY {made['encoded']}",
            f"apikey   {made['encoded']}  ",
            f"bearer {made['encoded']}",
            f"ApiKey {made['encoded'].rstrip('=')}",
        ):
            assert (await root.as_(authorization)("GET", "/")).status == 200, authorization

    async def test_https_offers_bearer(self, root: Client) -> None:
        """Three challenges over TLS, two without."""
        answer = await call(root.app, "GET", "/_inference", "", b"", {}, scheme="https")
        assert answer.json == refusal(NO_CREDENTIALS, HTTPS)
        assert answer.challenges == HTTPS

    async def test_before_everything_else(self, root: Client) -> None:
        """Unknown paths, wrong methods and wrong media types tell a stranger nothing (api.md 1.2)."""
        for method, path in (("GET", "/nope"), ("PATCH", "/_inference"), ("PUT", "/_inference/a/b/c/d/e")):
            answer = await root.as_(None)(method, path, b"{", {"Content-Type": "text/plain"})
            assert answer.status == 401
            assert answer.json == refusal(f"missing authentication credentials for REST request [{path}]")

    async def test_no_stack_trace(self, root: Client) -> None:
        """``error_trace`` never shows one for 401."""
        answer = await root.as_(None)("GET", "/_inference?error_trace=true")
        assert "stack_trace" not in answer.body.decode()

    async def test_other_dialects(self, root: Client) -> None:
        """The same refusal in their own envelopes, with the same challenges."""
        reads: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
            ("GET", "/v1/models", lambda body: body["error"]["message"]),
            ("POST", "/v2/rerank", lambda body: body["message"]),
            ("GET", "/tei/x/info", lambda body: body["error"]),
        )
        for method, path, read in reads:
            answer = await root.as_(None)(method, path)
            assert answer.status == 401
            assert read(answer.json) == f"missing authentication credentials for REST request [{path}]"
            assert answer.challenges == HTTP
