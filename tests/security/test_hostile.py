"""What people send who mean harm, and what goes wrong by itself."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from contract.house import PASSWORD, Client, basic, call, secured

from .listening import listening

GOOD = basic("elastic", PASSWORD)


async def with_headers(root: Client, *headers: tuple[bytes, bytes]) -> int:
    return (await call(root.app, "GET", "/_security/_authenticate", "", b"", list(headers))).status


async def test_header_soup(root: Client) -> None:
    """Two credentials are none: nobody chooses for the client which one counts."""
    good = GOOD.encode()
    key = (await root("PUT", "/_security/api_key", {"name": "k"})).json["encoded"].encode()
    assert await with_headers(root, (b"authorization", good)) == 200
    for soup in (
        [(b"authorization", good), (b"authorization", good)],
        [(b"authorization", good), (b"authorization", b"ApiKey " + key)],
        [(b"authorization", b"garbage"), (b"authorization", good)],
        [(b"authorization", good + b", " + good)],
        [(b"x-authorization", good)],
        [(b"authorization", b"Basic " + b"\xff" * 100)],
        [(b"authorization", b"Basic\0" + good[6:])],
        [(b"proxy-authorization", good)],
        [(b"es-client-authentication", b"SharedSecret x")],
        *(
            [(b"authorization", word)]
            for word in (b"Basic", b"ApiKey", b"Bearer", b"basic:", b"=", b"\xc3\xa9")
        ),
    ):
        assert await with_headers(root, *soup) == 401, soup


async def test_run_as_is_refused(root: Client) -> None:
    """Not obeyed, and not ignored either: the request would do more than its sender meant."""
    headers = ((b"authorization", GOOD.encode()), (b"es-security-runas-user", b"ann"))
    assert await with_headers(root, *headers) == 400


async def test_limits_before_authentication(root: Client) -> None:
    """A megabyte of Authorization, a body that is announced and never sent, a body beyond the limit: cheap and at once."""
    async with listening(root) as url:
        port = int(url.rsplit(":", 1)[1])

        async def answered(request: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                async with asyncio.timeout(5):
                    return await reader.readline()
            except ConnectionResetError:
                return b""
            finally:
                writer.transport.abort()

        def asked(*headers: bytes) -> bytes:
            return b"\r\n".join((b"PUT /_inference/x HTTP/1.1", b"Host: x", *headers, b"", b""))

        megabyte = asked(b"Authorization: Basic " + b"QUJD" * 262_144)
        assert (await answered(megabyte)).split()[1:2] in ([b"400"], [])
        most = asked(b"Authorization: Basic " + b"QUJD" * 12_000)
        assert b" 401 " in await answered(most)
        assert b" 401 " in await answered(
            asked(b"Content-Length: 5000000", b"Content-Type: application/json")
        )
        assert b" 413 " in await answered(
            asked(b"Content-Length: 500000000", b"Authorization: " + GOOD.encode())
        )
        assert b" 200 " in await answered(
            b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + GOOD.encode() + b"\r\n\r\n"
        )


async def test_bodies(root: Client) -> None:
    """Depth, size and shape of what is sent to ``_security``."""
    path = "/_security/user/ann"
    for body, status in (
        (b'{"metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, 400),
        (b'{"password":"password-1","roles":[],"full_name":"' + b"n" * (1 << 20) + b'"}', 413),
        (b'{"password":"password-1","roles":[],', 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b"\xff\xfe", 400),
        (b'{"password":"password-1","roles":"r"}', 200),
        (b'{"password":12345678,"roles":[]}', 400),
        (b'{"password":["password-1"],"roles":[]}', 400),
        (b'{"password":"password-1","roles":[1]}', 400),
        (b'{"password":"password-1","roles":{}}', 400),
        (b'{"password":"password-1","roles":[],"enabled":"yes"}', 400),
        (b'{"password":"password-1","roles":[],"enabled":1}', 400),
        (b'{"password":"password-1","roles":[],"metadata":[]}', 400),
        (b'{"password":"password-1","roles":[],"superuser":true}', 400),
        (b'{"password":"password-1"}', 400),
    ):
        answer = await root("PUT", path, body)
        assert answer.status == status, (body[:80], answer.body[:200])
        assert b"password-1" not in answer.body
    unicode = json.dumps({"password": "pä\u2028ss\U0001f600wörd", "roles": [], "full_name": "\0 \U0001f600"})
    assert (await root("PUT", path, unicode.encode())).status == 200
    entered = await root.as_(basic("ann", "pä\u2028ss\U0001f600wörd"))("GET", "/_security/_authenticate")
    assert entered.json["full_name"] == "\0 \U0001f600"
    lone = b'{"password":"password-1\\ud800","roles":[]}'
    assert (await root("PUT", path, lone)).status in (200, 400)


async def test_names_in_paths(root: Client) -> None:
    """What no name can be is no user, no role and no key, in every form a path can carry it."""
    for name in (
        "%C3%BC",
        "%00",
        "%ED%A0%80",
        "%FF",
        "a%2Fb",
        "..",
        "%2e%2e",
        "a" * 5000,
        "%20",
        "a%0Ab",
        "*",
        "%",
    ):
        for noun in ("user", "role"):
            path = f"/_security/{noun}/{name}"
            assert (await root("GET", path)).status == 404, path
            assert (await root("DELETE", path)).status == 404, path
            body = {"password": "password-1", "roles": []} if noun == "user" else {"cluster": []}
            expected = 200 if name in ("a%2Fb", "..", "%2e%2e", "*", "%") else 400
            assert (await root("PUT", path, body)).status == expected, path
            if expected == 200:
                assert (await root("DELETE", path)).status == 200
        assert (await root("PUT", f"/_security/api_key/{name}", {})).status == 404
        assert (await root("GET", f"/_security/api_key?id={name}")).status == 404


async def test_a_superuser_stays(root: Client) -> None:
    """``elastic`` is neither deleted, disabled nor given other roles; built-in roles stay what they are."""
    for method, path, body in (
        ("PUT", "/_security/user/elastic", {"roles": []}),
        ("POST", "/_security/user/elastic", {"roles": [], "enabled": False}),
        ("DELETE", "/_security/user/elastic", None),
        ("PUT", "/_security/user/elastic/_disable", None),
        ("PUT", "/_security/role/superuser", {"cluster": []}),
        ("DELETE", "/_security/role/superuser", None),
    ):
        assert (await root(method, path, body)).status == 400, path
    assert (await root("GET", "/_security/user")).status == 200


async def test_who_manages_keys_or_reads_users_gets_no_further(root: Client, user: Any) -> None:
    """No way up: ``manage_security`` is the superuser's equal by nature, the lesser privileges are not."""
    await root("PUT", "/_security/role/r", {"cluster": ["manage_api_key", "read_security", "manage"]})
    ann = await user("ann", "r")
    for method, path, body in (
        ("PUT", "/_security/user/ann", {"roles": ["superuser"]}),
        ("PUT", "/_security/role/r", {"cluster": ["all"]}),
        ("PUT", "/_security/user/elastic/_password", {"password": "password-2"}),
    ):
        assert (await ann(method, path, body)).status == 403
    made = (
        await ann("PUT", "/_security/api_key", {"name": "k", "role_descriptors": {"r": {"cluster": ["all"]}}})
    ).json
    by_key = root.as_(f"ApiKey {made['encoded']}")
    assert (await by_key("GET", "/_security/user")).status == 200
    assert (await by_key("PUT", "/_security/user/x", {"password": "password-1", "roles": []})).status == 403
    theirs = (await root("PUT", "/_security/api_key", {"name": "theirs"})).json
    assert (await ann("PUT", f"/_security/api_key/{theirs['id']}", {"metadata": {}})).status == 404


async def test_no_password_hash_is_shown(root: Client) -> None:
    for method, path, body in (
        ("GET", "/_security/user", None),
        ("GET", "/_security/user/elastic", None),
        ("GET", "/_security/_authenticate", None),
        ("GET", "/_security/api_key?with_limited_by=true", None),
    ):
        answer = await root(method, path, body)
        assert answer.status == 200
        assert b"argon2" not in answer.body
        assert b"hash" not in answer.body


async def test_two_processes_change_the_same_user(tmp_path: Path) -> None:
    """Every acknowledged change was made whole; a lost race is a 409; both processes end with the same."""
    async with secured(tmp_path) as one, secured(tmp_path) as two:
        await one("PUT", "/_security/user/ann", {"password": "password-1", "roles": []})
        await asyncio.sleep(0.5)

        async def change(client: Client, who: str, number: int) -> tuple[int, str]:
            mark = f"{who}{number}"
            body = {"roles": [mark], "full_name": mark, "metadata": {"mark": mark}}
            return (await client("PUT", "/_security/user/ann", body)).status, mark

        done: list[tuple[int, str]] = []
        for number in range(15):
            done += await asyncio.gather(change(one, "one", number), change(two, "two", number))
            await asyncio.sleep(0.02)
        assert {status for status, _ in done} == {200, 409}
        acknowledged = {mark for status, mark in done if status == 200}
        await asyncio.sleep(0.6)
        seen = [(await client("GET", "/_security/user/ann")).json["ann"] for client in (one, two)]
        assert seen[0] == seen[1]
        mark = seen[0]["full_name"]
        assert mark in acknowledged
        assert (seen[0]["roles"], seen[0]["metadata"]) == ([mark], {"mark": mark})
        assert (await two.as_(basic("ann", "password-1"))("GET", "/_security/_authenticate")).status == 200


async def test_a_change_elsewhere_ends_what_is_remembered_here(tmp_path: Path) -> None:
    """A user who is disabled, or a key that is invalidated, in one process is out in the other within a second."""
    async with secured(tmp_path) as one, secured(tmp_path) as two:
        await one("PUT", "/_security/user/ann", {"password": "password-1", "roles": []})
        made = (await one("PUT", "/_security/api_key", {"name": "k"})).json
        there = [two.as_(basic("ann", "password-1")), two.as_(f"ApiKey {made['encoded']}")]
        await asyncio.sleep(0.6)
        for client in there:
            assert (await client("GET", "/_security/_authenticate")).status == 200
        await one("PUT", "/_security/user/ann/_disable")
        await one("DELETE", "/_security/api_key", {"ids": [made["id"]]})
        await asyncio.sleep(1)
        for client in there:
            assert (await client("GET", "/_security/_authenticate")).status == 401


async def test_first_start_by_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One password is generated and printed; it is the one that works."""
    from contextlib import AsyncExitStack

    from inferd.api.app import application, guarding, open_house
    from inferd.config import Config

    async with AsyncExitStack() as stack:
        houses = [
            await stack.enter_async_context(open_house(Config(data_dir=str(tmp_path)))) for _ in range(2)
        ]

        async def start(house: Any) -> Any:
            return await stack.enter_async_context(guarding(house))

        guards = [await start(house) for house in houses]
        printed = capsys.readouterr().err
        assert printed.count("password  ") == 1
        password = printed.partition("password  ")[2].split()[0]
        await asyncio.sleep(0.5)  # the one that lost the race sees the other's user with its next look
        for house, guard in zip(houses, guards, strict=True):
            client = Client(application(house, guard), house, {"Authorization": basic("elastic", password)})
            assert (await client("GET", "/_security/_authenticate")).status == 200
    found = await asyncio.to_thread(lambda: [f.read_bytes() for f in tmp_path.iterdir() if f.is_file()])
    assert not any(password.encode() in content for content in found)
