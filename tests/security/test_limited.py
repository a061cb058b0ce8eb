"""Roles and keys that are limited to endpoints by pattern, in every dialect."""

from typing import Any

import pytest

from contract.house import Answer, Client, put_body
from inferd.security.principal import matches

INSIDE = {
    "search-dense": ("text_embedding", "S1"),
    "search-sparse": ("sparse_embedding", "S2"),
    "search-rr": ("rerank", "S2"),
    "search-comp": ("completion", "S2"),
    "search-chat": ("chat_completion", "S2"),
}
OUTSIDE = {id.replace("search", "other"): row for id, row in INSIDE.items()}
LIMIT = {"inference": [{"names": ["search-*"], "privileges": ["monitor_inference"]}]}


@pytest.fixture
async def house(root: Client) -> Client:
    for id, (task, service) in {**INSIDE, **OUTSIDE}.items():
        assert (await root("PUT", f"/_inference/{task}/{id}", put_body(service))).status == 200
    assert (await root("PUT", "/_security/role/limited", LIMIT)).status == 200
    return root


@pytest.fixture(params=["role", "key", "key of a limited user", "limited key of a limited user"])
async def limited(request: pytest.FixtureRequest, house: Client, user: Any, key: Any) -> Client:
    """Someone who may use ``search-*`` and nothing else, in each way there is."""
    client = await user("ann", "limited")
    if request.param == "key":
        client = await key(role_descriptors={"r": LIMIT})
    elif request.param != "role":
        await house("PUT", "/_security/role/own", {"cluster": ["manage_own_api_key"]})
        await house("PUT", "/_security/user/ann", {"roles": ["limited", "own"]})
        wide = {"inference": [{"names": ["*"], "privileges": ["manage_inference"]}]}
        descriptors = {"r": wide} if "limited key" in request.param else {}
        client = await key(client, role_descriptors=descriptors)
    return client


def calls(prefix: str) -> list[tuple[str, str, Any]]:
    """A question to every endpoint by every dialect that can ask it."""
    chat = [{"role": "user", "content": "a"}]
    return [
        ("GET", f"/_inference/{prefix}-dense", None),
        ("GET", f"/_inference/rerank/{prefix}-rr", None),
        ("POST", f"/_inference/{prefix}-dense", {"input": "a"}),
        ("POST", f"/_inference/sparse_embedding/{prefix}-sparse", {"input": "a"}),
        ("POST", f"/_inference/rerank/{prefix}-rr", {"query": "a", "input": ["a"]}),
        ("POST", f"/_inference/completion/{prefix}-comp", {"input": "a"}),
        ("POST", f"/_inference/completion/{prefix}-comp/_stream", {"input": "a"}),
        ("POST", f"/_inference/chat_completion/{prefix}-chat/_stream", {"messages": chat}),
        ("GET", f"/v1/models/{prefix}-dense", None),
        ("POST", "/v1/embeddings", {"model": f"{prefix}-dense", "input": "a"}),
        ("POST", "/v1/chat/completions", {"model": f"{prefix}-chat", "messages": chat}),
        ("POST", "/v1/chat/completions", {"model": f"{prefix}-chat", "messages": chat, "stream": True}),
        ("POST", "/v1/completions", {"model": f"{prefix}-comp", "prompt": "a"}),
        ("POST", "/v1/embed", {"model": f"{prefix}-dense", "texts": ["a"], "input_type": "search_query"}),
        ("POST", "/v2/embed", {"model": f"{prefix}-dense", "texts": ["a"], "input_type": "search_query"}),
        ("POST", "/v1/rerank", {"model": f"{prefix}-rr", "query": "a", "documents": ["a"]}),
        ("POST", "/v2/rerank", {"model": f"{prefix}-rr", "query": "a", "documents": ["a"]}),
        ("POST", "/v2/chat", {"model": f"{prefix}-chat", "messages": chat}),
        ("POST", f"/tei/{prefix}-dense", {"inputs": "a"}),
        ("POST", f"/tei/{prefix}-dense/embed", {"inputs": "a"}),
        ("POST", f"/tei/{prefix}-rr/rerank", {"query": "a", "texts": ["a"]}),
        ("GET", f"/tei/{prefix}-dense/health", None),
        ("GET", f"/tei/{prefix}-dense/info", None),
    ]


def listed(answer: Answer) -> set[str]:
    assert answer.status == 200, answer.body
    body = answer.json
    return (
        {e["inference_id"] for e in body["endpoints"]}
        if "endpoints" in body
        else {e["id"] for e in body["data"]}
    )


async def test_inside_works(limited: Client) -> None:
    for call in calls("search"):
        answer = await limited(*call)
        assert answer.status == 200, (call, answer.body)


async def test_outside_is_403(limited: Client) -> None:
    """Whether there is such an endpoint or not."""
    for prefix in ("other", "nope"):
        for call in calls(prefix):
            answer = await limited(*call)
            assert answer.status == 403, (call, answer.body)
            assert b"is unauthorized for" in answer.body


async def test_lists_leave_out_the_rest(limited: Client, house: Client) -> None:
    for path in ("/_inference", "/_inference/_all", "/_inference/*", "/v1/models"):
        assert listed(await limited("GET", path)) == set(INSIDE), path
        assert listed(await house("GET", path)) >= {*INSIDE, *OUTSIDE}, path
    assert listed(await limited("GET", "/_inference/rerank/_all")) == {"search-rr"}


async def test_nothing_else(limited: Client) -> None:
    """Neither changes inside the pattern, nor anything about the whole house."""
    for method, path, body in (
        ("PUT", "/_inference/text_embedding/search-new", put_body("S1")),
        ("PUT", "/_inference/text_embedding/search-dense/_update", {"service_settings": {"api_key": "x"}}),
        ("DELETE", "/_inference/search-dense", None),
        ("GET", "/_inference/_region_policy", None),
        ("GET", "/_inference/.diagnostics", None),
        ("GET", "/", None),
        ("GET", "/_security/user", None),
    ):
        assert (await limited(method, path, body)).status == 403, path


async def test_managing_inside(house: Client, user: Any) -> None:
    """``manage_inference`` on a pattern creates, changes and deletes there; the region policy is everybody's and stays closed."""
    wide = {"inference": [{"names": ["search-*"], "privileges": ["manage_inference"]}]}
    await house("PUT", "/_security/role/limited", wide)
    ann = await user("ann", "limited")
    for status, prefix in ((200, "search"), (403, "other")):
        path = f"/_inference/text_embedding/{prefix}-new"
        assert (await ann("PUT", path, put_body("S1"))).status == status
        assert (await ann("PUT", f"{path}/_update", {"service_settings": {"api_key": "x"}})).status == status
        assert (await ann("DELETE", path)).status == status
    policy = {"region_policy": {"allowed_geos": ["us"]}}
    assert (await ann("PUT", "/_inference/_region_policy", policy)).status == 403
    assert (await ann("DELETE", "/_inference/_region_policy")).status == 403


async def test_beside_a_wide_role(house: Client, user: Any) -> None:
    """Roles add up: a limit in one takes nothing from another."""
    ann = await user("ann", "limited", "inference_user")
    assert listed(await ann("GET", "/_inference")) >= {*INSIDE, *OUTSIDE}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"names": ["a"]},
        {"privileges": ["monitor_inference"]},
        {"names": [], "privileges": ["monitor_inference"]},
        {"names": ["a"], "privileges": ["all"]},
        {"names": ["a"], "privileges": ["monitor_inference"], "more": 1},
        {"names": [1], "privileges": ["monitor_inference"]},
        {"names": ["a" * 513], "privileges": ["monitor_inference"]},
        "search-*",
    ],
)
async def test_malformed_limits(root: Client, entry: Any) -> None:
    for path, body in (
        ("/_security/role/r", {"inference": [entry]}),
        ("/_security/api_key", {"name": "k", "role_descriptors": {"r": {"inference": [entry]}}}),
    ):
        assert (await root("PUT", path, body)).status == 400, body


def test_patterns() -> None:
    """``*`` and ``?``, nothing else is special, and no pattern is slow."""
    for pattern, text, expected in (
        ("search-*", "search-a", True),
        ("search-*", "search-", True),
        ("search-*", "xsearch-a", False),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("*a*b", "xaxb", True),
        ("*a*b", "xaxbx", False),
        ("a*", "a\nb", True),
        ("ü*", "über", True),
        ("*" * 250 + "b", "a" * 500, False),
        ("*a" * 250 + "b", "a" * 500, False),
        ("a" * 513, "a" * 513, False),
    ):
        assert matches(pattern, text) is expected, (pattern, text)
