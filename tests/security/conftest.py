from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from contract.house import Client, basic, secured
from contract.model_server import running
from inferd.security import passwords


@pytest.fixture(autouse=True)
def cheap_passwords(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2 with little memory, where its cost is not the point."""
    if request.module.__name__ != "security.test_authentication":
        monkeypatch.setattr(passwords, "MEMORY", 64)


@pytest.fixture
async def root(tmp_path: Path) -> AsyncIterator[Client]:
    """The superuser's client of a server with security on."""
    async with running() as url, secured(tmp_path, url) as client:
        yield client


Made = Callable[..., Awaitable[Client]]


@pytest.fixture
def user(root: Client) -> Made:
    """Makes a user with these roles and gives its client."""

    async def make(name: str, *roles: str) -> Client:
        answer = await root("PUT", f"/_security/user/{name}", {"password": "password-1", "roles": roles})
        assert answer.status == 200, answer.body
        return root.as_(basic(name, "password-1"))

    return make


@pytest.fixture
def key(root: Client) -> Made:
    """Makes an API key, the superuser's or another one's, and gives its client."""

    async def make(by: Client | None = None, name: str = "k", **body: Any) -> Client:
        answer = await (by or root)("POST", "/_security/api_key", {"name": name, **body})
        assert answer.status == 200, answer.body
        client = root.as_(f"ApiKey {answer.json['encoded']}")
        client.made = answer.json
        return client

    return make
