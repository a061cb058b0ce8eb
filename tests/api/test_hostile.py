"""Bodies that nobody should send, to every route of the dialects: an answer or a 4xx in the dialect's envelope, never a 500."""

import json
from typing import Any

import pytest
from dialects import WHOLE, Served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHATS = ("chat", "complete")
ROUTES = {
    "/v1/embeddings": ("dense", "rank"),
    "/v1/chat/completions": CHATS,
    "/v1/completions": CHATS,
    "/v1/embed": ("dense", "sparse"),
    "/v2/embed": ("dense",),
    "/v1/rerank": ("rank",),
    "/v2/rerank": ("rank", "chat"),
    "/v2/chat": CHATS,
    "/tei/dense": ("",),
    "/tei/sparse": ("",),
    "/tei/rank": ("",),
    "/tei/dense/embed": ("",),
    "/tei/sparse/embed_sparse": ("",),
    "/tei/rank/rerank": ("",),
    "/tei/sparse/tokenize": ("",),
}
GOOD: dict[str, Any] = {
    "input": "a",
    "messages": [{"role": "user", "content": "a"}],
    "prompt": "a",
    "texts": ["a"],
    "query": "a",
    "documents": ["a"],
    "inputs": "a",
}
NAMES = """
    messages tools tool_choice stop stop_sequences stream_options reasoning_effort thinking input prompt
    encoding_format dimensions output_dimension embedding_types input_type truncate texts query
    documents top_n top_k return_documents max_tokens_per_doc inputs prompt_name return_text
    temperature top_p p max_tokens max_completion_tokens truncation_direction model stream
"""
KEYS = (
    "role content type text function name image_url url id tool_calls arguments file document data thinking"
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["", "user", "text", "function", "image_url", "enabled", "\0", "\ud7ff\U0001f600", "float"]
    )
)
VALUE = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A route, and a body whose members are partly good."""
    route = draw(st.sampled_from(list(ROUTES)))
    good = draw(st.lists(st.sampled_from(list(GOOD)), unique=True))
    body = {name: GOOD[name] for name in good} | {"model": draw(st.sampled_from(ROUTES[route]))}
    body |= draw(st.dictionaries(st.sampled_from(NAMES.split()), VALUE, max_size=3))
    if body.get("stream") is True:
        del body["stream"]  # the provider has one answer, and it is no stream
    return route, body


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
async def test_hostile_members(served: Served, request: tuple[str, dict[str, Any]]):
    """Any value under any known name, beside members that are good."""
    route, body = request
    if not served.fake.requests:
        served.answers(WHOLE)
    answer = await served.http.post(
        route, content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400, 404, 413), answer.text
    if answer.status_code != 200:
        assert message(route, answer.json())


def message(route: str, told: Any) -> str:
    """The text of an error, where this dialect has it."""
    if route.startswith("/tei"):
        assert told["error_type"] == "Validation"
        return str(told["error"])
    if "embed" in route.split("/") or "rerank" in route or route == "/v2/chat":
        return str(told["message"])
    assert set(told["error"]) == {"message", "type", "param", "code"}
    return str(told["error"]["message"])


@pytest.mark.parametrize("route", ROUTES)
async def test_bodies_that_are_no_objects(served: Served, route: str):
    """Empty, cut short, not JSON, not an object, too deep: 400 in the dialect's envelope."""
    for raw in (b"", b"{", b"[]", b"1", b'"x"', b"\xff", b'{"model": "\\ud800"}', b"[" * 100_000, b"{}{}"):
        answer = await served.http.post(route, content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, raw
        assert message(route, answer.json())
    refused = await served.http.patch(route)
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"
