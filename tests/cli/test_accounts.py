"""``inferd reset-password`` and ``inferd rotate-secrets``, as a person runs them beside a running server."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from contract.house import PASSWORD, Client, basic, create_endpoints, secured
from contract.model_server import running

OLD, NEW = "the old secret key, long enough", "the new secret key, long enough"


async def inferd(home: Path, *arguments: str, given: str = "", **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("INFERD_", "ELASTIC"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "inferd",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean, "INFERD_DATA_DIR": str(home), **environment},
    )
    out, err = await process.communicate(given.encode())
    return process.returncode or 0, out.decode(), err.decode()


async def enters(root: Client, user: str, password: str) -> bool:
    return (await root.as_(basic(user, password))("GET", "/_security/_authenticate")).status == 200


async def until_enters(root: Client, user: str, password: str) -> None:
    async with asyncio.timeout(5):
        while not await enters(root, user, password):  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(0.1)


async def test_reset_password(tmp_path: Path) -> None:
    """A generated one, printed alone on standard output; one from standard input; the old one is void at once."""
    async with secured(tmp_path) as root:
        await root("PUT", "/_security/user/jack", {"password": "password-1", "roles": []})
        assert await enters(root, "elastic", PASSWORD)
        code, out, err = await inferd(tmp_path, "reset-password", "elastic")
        assert (code, err) == (0, "the new password of [elastic], shown once:\n")
        assert len(out.strip()) == 20
        await until_enters(root, "elastic", out.strip())
        assert not await enters(root, "elastic", PASSWORD)

        code, out, err = await inferd(
            tmp_path, "reset-password", "jack", "--password-stdin", given="pässword 2\n"
        )
        assert (code, out, err) == (0, "", "the password of [jack] was changed\n")
        await until_enters(root, "jack", "pässword 2")
        assert not await enters(root, "jack", "password-1")
    changes = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    noted = [line for line in changes if line.get("action") == "reset-password"]
    assert [(line["target"], line["outcome"]) for line in noted] == [
        ("user/elastic", "password changed"),
        ("user/jack", "password changed"),
    ]
    assert all(line["user"] == f"uid {os.getuid()}" for line in noted)


async def test_reset_password_refuses(tmp_path: Path) -> None:
    """One plain line and exit code 1; a mistyped directory is not taken for a new one."""
    async with secured(tmp_path / "data"):
        pass
    home = tmp_path / "data"
    assert await inferd(home, "reset-password", "nobody") == (1, "", "inferd: there is no user [nobody]\n")
    code, _, err = await inferd(home, "reset-password", "elastic", "--password-stdin", given="12345\n")
    assert (code, err) == (1, "inferd: a password must have at least [6] characters\n")
    code, _, err = await inferd(tmp_path / "typo", "reset-password", "elastic")
    assert (code, err) == (
        1,
        f"inferd: no server has been started with the data directory [{tmp_path / 'typo'}]\n",
    )
    assert not (tmp_path / "typo").exists()


async def test_rotate_secrets_with_a_key_file(tmp_path: Path) -> None:
    """The file gets a new key; the running server goes on, and stores new secrets too."""
    async with running() as url, secured(tmp_path, url) as root:
        await create_endpoints(root)
        key = (tmp_path / "secret.key").read_text()
        code, _, err = await inferd(tmp_path, "rotate-secrets")
        assert (code, err) == (0, "[6] secrets are sealed under the new key\n")
        assert (tmp_path / "secret.key").read_text() != key
        update = {"service_settings": {"api_key": "another"}}
        assert (await root("PUT", "/_inference/text_embedding/dense/_update", update)).status == 200
        assert (await root("POST", "/_inference/dense", {"input": "a"})).status == 200
    async with running() as url, secured(tmp_path, url) as root:
        assert (await root("POST", "/_inference/rerank/rr", {"query": "a", "input": ["a"]})).status == 200
    assert '"action":"rotate-secrets"' in (tmp_path / "audit.log").read_text()


async def test_rotate_secrets_with_keys_from_the_environment(tmp_path: Path) -> None:
    """From one given key to the next; a server with both keys starts before and after."""
    from inferd.core.secrets import Secret

    async with running() as url:
        async with secured(tmp_path, url, secret_key=Secret(OLD)) as root:
            await create_endpoints(root)
        both = {"secret_key": Secret(NEW), "old_secret_key": Secret(OLD)}
        async with secured(tmp_path, url, **both) as root:
            assert (await root("POST", "/_inference/dense", {"input": "a"})).status == 200
        code, _, err = await inferd(tmp_path, "rotate-secrets", INFERD_SECRET_KEY=NEW)
        assert code == 1
        assert "INFERD_OLD_SECRET_KEY" in err
        environment = {"INFERD_SECRET_KEY": NEW, "INFERD_OLD_SECRET_KEY": OLD}
        code, _, err = await inferd(tmp_path, "rotate-secrets", **environment)
        assert (code, err) == (0, "[6] secrets are sealed under the new key\n")
        async with secured(tmp_path, url, secret_key=Secret(NEW)) as root:
            assert (await root("POST", "/_inference/dense", {"input": "a"})).status == 200


@pytest.mark.parametrize("command", ["reset-password", "rotate-secrets"])
async def test_help(tmp_path: Path, command: str) -> None:
    code, out, _ = await inferd(tmp_path, command, "--help")
    assert code == 0
    assert "Examples" in out
