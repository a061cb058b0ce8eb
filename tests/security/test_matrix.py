"""Every route of every dialect × every role: who may, as the contract says it (api.md 12.3 to 12.5, trained-models.md 1).

What is expected is written down here once more, by path, and knows nothing of the route table.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from contract.house import Client, create_endpoints, put_body
from inferd.api.http import Route

MONITOR_INFERENCE = {"monitor_inference", "manage_inference", "monitor", "manage", "all"}
MANAGE_INFERENCE = {"manage_inference", "manage", "all"}
MONITOR_ML = {"monitor_ml", "manage_ml", "monitor", "manage", "all"}
MANAGE_ML = {"manage_ml", "manage", "all"}
MANAGE_SECURITY = {"manage_security", "all"}
READ_SECURITY = {"read_security", *MANAGE_SECURITY}
OWN_KEYS = {"manage_own_api_key", "manage_api_key", *MANAGE_SECURITY}
EVERYONE: set[str] = set()
"""Authentication is enough."""

RULES: tuple[tuple[str, str, set[str]], ...] = (
    ("GET|HEAD", r"/", {"monitor", "manage", "all", "cluster:monitor/main"}),
    ("GET|POST", r"/_inference(/.*)?", MONITOR_INFERENCE),
    ("PUT|DELETE", r"/_inference/.*", MANAGE_INFERENCE),
    ("GET|POST", r"/(v1|v2|tei)/.*", MONITOR_INFERENCE),
    ("POST", r"/_ml/trained_models/[^/]*/_infer", MONITOR_ML | MONITOR_INFERENCE),
    ("POST", r"/_ml/trained_models/[^/]*/deployment/_(start|stop|update)", MANAGE_ML | MANAGE_INFERENCE),
    ("GET", r"/openapi\.json", MONITOR_INFERENCE),
    ("GET", r"/_ml/.*", MONITOR_ML),
    ("PUT|POST|DELETE", r"/_ml/.*", MANAGE_ML),
    ("GET", r"/_security/_authenticate", EVERYONE),
    ("GET|POST", r"/_security/user/_has_privileges", EVERYONE),
    ("GET|POST", r"/_security/user/[^/]*/_has_privileges", READ_SECURITY),
    ("PUT|POST", r"/_security/user/_password", EVERYONE),
    ("PUT|POST|DELETE", r"/_security/(user|role)/.*", MANAGE_SECURITY),
    ("GET", r"/_security/(user|role|privilege)(/.*)?", READ_SECURITY),
    ("GET", r"/_security/api_key", OWN_KEYS | READ_SECURITY),
    ("PUT|POST|DELETE", r"/_security/api_key(/.*)?", OWN_KEYS),
)

ROLES: dict[str, set[str]] = {
    "superuser": {"all"},
    "inference_admin": {"manage_inference"},
    "inference_user": {"monitor_inference"},
    "machine_learning_admin": {"manage_ml"},
    "machine_learning_user": {"monitor_ml"},
    "monitoring_user": {"cluster:monitor/main"},
    "viewer": set(),
    "editor": set(),
}
PRIVILEGES = (
    "all",
    "manage",
    "monitor",
    "manage_inference",
    "monitor_inference",
    "manage_ml",
    "monitor_ml",
    "manage_security",
    "read_security",
    "manage_api_key",
    "manage_own_api_key",
    "none",
)
"""Each as the only one of a role of its own."""

LISTS = {
    "cluster:admin/xpack/inference/": "manage_inference,manage,all",
    "cluster:monitor/xpack/inference/": "monitor_inference,manage_inference,monitor,manage,all",
    "cluster:monitor/main": "monitor,manage,all",
}
"""Privilege lists that api.md 12.3 pins."""

BODIES: dict[str, Any] = {
    "/_inference/_region_policy": {"region_policy": {"allowed_geos": ["us"]}},
    "/_inference/_ccm": {"enabled": False},
    "/_inference/{id}": put_body("S1", task_type="text_embedding"),
    "/_inference/{task}/{id}": put_body("S1"),
    "/v1/embeddings": {"model": "dense", "input": "a"},
    "/v1/chat/completions": {"model": "chat", "messages": [{"role": "user", "content": "a"}]},
    "/v1/completions": {"model": "comp", "prompt": "a"},
    "/v1/embed": {"model": "dense", "texts": ["a"], "input_type": "search_query"},
    "/v2/embed": {"model": "dense", "texts": ["a"], "input_type": "search_query"},
    "/v1/rerank": {"model": "rr", "query": "a", "documents": ["a"]},
    "/v2/rerank": {"model": "rr", "query": "a", "documents": ["a"]},
    "/v2/chat": {"model": "chat", "messages": [{"role": "user", "content": "a"}]},
}
VALUES = {"id": "dense", "task": "text_embedding", "name": "nobody", "ids": "dense", "part": "0"}


def granting(route: Route) -> set[str] | None:
    """The privileges that the contract names; None: no rule knows the route."""
    return next(
        (
            names
            for methods, path, names in RULES
            if re.fullmatch(methods, route.method) and re.fullmatch(path, route.template)
        ),
        None,
    )


def asked(route: Route) -> tuple[str, str, Any]:
    path = re.sub(r"\{(\w+)\}", lambda name: VALUES[name[1]], route.template)
    body = BODIES.get(route.template, {}) if route.method in ("PUT", "POST") else None
    if route.body == "none":
        body = None
    elif body is None:
        body = {}
    return route.method, path, body


def told(body: bytes) -> str:
    return body.decode().replace("\\u003d", "=")


async def walk(root: Client, client: Client, who: str, may: Callable[[set[str]], bool]) -> int:
    """Every route once; how many were refused."""
    refused = 0
    for dialect, route in root.app.router.routes:
        names = granting(route)
        assert names is not None, f"no rule for {route.method} {route.template}"
        answer = await client(*asked(route))
        where = (
            f"{who}: {dialect.name} {route.method} {route.template} → {answer.status} {answer.body[:200]!r}"
        )
        if names is EVERYONE or may(names):
            assert answer.status != 401, where
            assert answer.status != 403 or b"Cloud Connected Mode" in answer.body, where
            continue
        refused += 1
        assert answer.status == 403, where
        if route.method == "HEAD":
            continue
        listed = next((text for action, text in LISTS.items() if route.action.startswith(action)), None)
        expected = (
            f"action [{route.action}] is unauthorized for user [{who}] with effective roles [{who}], "
            f"this action is granted by the cluster privileges [{listed or ','.join(route.privileges)}]"
        )
        assert expected in told(answer.body), where
        if listed is None:
            assert set(route.privileges) == names, where
    return refused


@pytest.mark.parametrize("role", ROLES)
async def test_built_in_roles(root: Client, user: Any, role: str) -> None:
    """Exactly what the contract says, in its words, on every route."""
    await create_endpoints(root)
    held = ROLES[role]
    refused = await walk(root, await user(role, role), role, lambda names: bool(names & held))
    assert (refused == 0) == (role == "superuser")


@pytest.mark.parametrize("privilege", PRIVILEGES)
async def test_privileges(root: Client, user: Any, privilege: str) -> None:
    """A role of one privilege."""
    await create_endpoints(root)
    await root("PUT", f"/_security/role/{privilege}", {"cluster": [privilege]})
    await walk(root, await user(privilege, privilege), privilege, lambda names: privilege in names)


async def test_every_action_has_a_name(root: Client) -> None:
    """One action and the same privileges wherever an action is named; only ``_authenticate`` needs none."""
    seen: dict[str, tuple[str, ...]] = {}
    for _, route in root.app.router.routes:
        assert route.action.startswith("cluster:"), route.template
        assert bool(route.privileges) == (route.template != "/_security/_authenticate")
        assert seen.setdefault(route.action, route.privileges) == route.privileges


async def test_action_patterns(root: Client, user: Any) -> None:
    """Elasticsearch takes patterns over action names among the privileges."""
    for number, (pattern, path, status) in enumerate(
        (
            ("cluster:monitor/xpack/inference*", "/_inference", 200),
            ("cluster:monitor/*", "/", 200),
            ("cluster:monitor/main", "/_inference", 403),
            ("cluster:*", "/_security/user", 200),
            ("cluster:admin/xpack/security/user/*", "/_security/role", 403),
        )
    ):
        await root("PUT", f"/_security/role/r{number}", {"cluster": [pattern]})
        assert (await (await user(f"u{number}", f"r{number}"))("GET", path)).status == status, pattern


async def test_security_off(tmp_path: Any) -> None:
    """Without security everything but ``_security`` answers, and that says why."""
    from contract.house import serving
    from contract.model_server import running

    async with running() as url, serving(tmp_path, url) as client:
        await create_endpoints(client)
        for _, route in client.app.router.routes:
            answer = await client(*asked(route))
            assert answer.status not in (401, 403) or b"Cloud Connected Mode" in answer.body, route.template
            if route.template.startswith("/_security"):
                assert answer.status == 400
                assert answer.json["error"]["reason"].startswith("security is off on this server")
