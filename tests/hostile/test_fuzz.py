"""Anything may be asked of a real server: it answers, soon, in its own form, and never with a fault of its own."""

import http.client
import json
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile.conftest import furnished
from serverprocess import PASSWORD, ServerProcess, basic

fuzz = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE")
SEGMENTS = (
    *(
        "_inference",
        "_all",
        "_services",
        "_region_policy",
        "_ccm",
        ".diagnostics",
        "_stream",
        "_update",
        "*",
        "any",
    ),
    *("text_embedding", "sparse_embedding", "rerank", "completion", "chat_completion", "embedding"),
    *(
        "local",
        "sparse",
        "rank",
        "comp",
        "chat",
        "dense",
        ".elser-2-elasticsearch",
        "_security",
        "user",
        "api_key",
    ),
    *("v1", "v2", "embeddings", "chat", "completions", "models", "embed", "info", "health", "_authenticate"),
)
KEYS = (
    *(
        "input",
        "query",
        "top_n",
        "return_documents",
        "input_type",
        "task_settings",
        "task_type",
        "service",
        "model",
    ),
    *(
        "service_settings",
        "chunking_settings",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "tools",
        "tool_choice",
    ),
    *(
        "model_id",
        "num_threads",
        "num_allocations",
        "adaptive_allocations",
        "deployment_id",
        "api_key",
        "url",
    ),
    *(
        "strategy",
        "max_chunk_size",
        "overlap",
        "rate_limit",
        "region_policy",
        "allowed_geos",
        "enabled",
        "reasoning",
    ),
    *(
        "password",
        "roles",
        "cluster",
        "name",
        "expiration",
        "role_descriptors",
        "documents",
        "texts",
        "inputs",
    ),
)
WORDS = (
    *(
        "elasticsearch",
        "openai",
        "cohere",
        "elser",
        "hugging_face",
        "local",
        "search",
        "word",
        "sentence",
        "user",
    ),
    *(
        "text_embedding",
        "any",
        ".all-minilm-l6-v2",
        "http://127.0.0.1:1/x",
        "30s",
        "-1",
        "1e999",
        "\x00",
        "\ud800",
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([2**31, 2**63, -(2**63), 10**400]), st.floats(allow_nan=False)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=5),
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
PATHS = st.lists(
    st.one_of(
        st.sampled_from(SEGMENTS), st.text(max_size=6).map(lambda t: quote(t.encode("utf-8", "replace")))
    ),
    max_size=5,
).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "pretty",
                "human",
                "filter_path",
                "format",
                "error_trace",
                "timeout",
                "dry_run",
                "force",
                "x",
                "master_timeout",
            )
        ),
        st.one_of(
            st.sampled_from(
                ("", "true", "maybe", "yaml", "cbor", "smile", "30s", "1ms", "-5", "**.a*", "-a,b\\.c")
            ),
            st.text(max_size=6),
        ),
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{k}={quote(v.encode('utf-8', 'replace'))}" for k, v in pairs))
MEDIA = st.sampled_from(
    (
        *(
            "application/json",
            "application/yaml",
            "application/cbor",
            "application/smile",
            "text/plain",
            "*/*",
            "/",
            "",
        ),
        *(
            "application/vnd.elasticsearch+json; compatible-with=9",
            "application/vnd.elasticsearch+json;compatible-with=x",
        ),
        *(
            "text/event-stream",
            "application/json; charset=utf-8",
            "application/json, */*;q=0.1",
            "multipart/form-data",
        ),
    )
)
TOKEN = st.text(string.ascii_letters + string.digits + "-_!#$%&'*+.^`|~", min_size=1, max_size=12)
FIELD = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=24)
HEADERS = st.dictionaries(TOKEN.map(lambda n: f"X-{n}"), FIELD, max_size=4)


class Line:
    """One connection that is opened again when it was closed."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.connection = self._open()

    def _open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)

    def ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        sent = {"Authorization": basic("elastic", PASSWORD), **headers}
        try:
            self.connection.request(method, path, body=body, headers=sent)
            answer = self.connection.getresponse()
        except (http.client.HTTPException, ConnectionError):  # it was closed after the answer before
            self.connection.close()
            self.connection = self._open()
            self.connection.request(method, path, body=body, headers=sent)
            answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, provider: Any) -> Iterator[ServerProcess]:
    """One of its own: what it holds may be deleted and changed."""
    with furnished(tmp_path_factory.mktemp("server"), provider.url) as running:
        yield running


@pytest.fixture(scope="module")
def line(server: ServerProcess) -> Iterator[Line]:
    opened = Line(server)
    yield opened
    opened.connection.close()


BY_CONTRACT = ("Failed to parse [task_type] in update request",)
"""What api.md itself answers with 500 (4.3)."""


def judge(line: Line, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
    status, told, content = line.ask(method, path, body, headers)
    assert told["x-elastic-product"] == "Elasticsearch"
    if status >= 500:
        assert any(text in content.decode() for text in BY_CONTRACT), (method, path, body, headers, content)
    if status >= 400 and method != "HEAD":
        assert content
    assert line.server.process.poll() is None


@fuzz
@given(method=st.sampled_from(METHODS), path=PATHS, query=QUERIES, media=MEDIA, headers=HEADERS)
def test_any_path(
    line: Line, method: str, path: str, query: str, media: str, headers: dict[str, str]
) -> None:
    """Any method on any path with any parameters and headers."""
    judge(line, method, f"{path}?{query}" if query else path, None, {"Accept": media, **headers})


@fuzz
@given(
    body=OBJECTS, task=st.sampled_from(("", "any/", *SEGMENTS[10:16])), id=st.sampled_from(SEGMENTS[16:22])
)
def test_any_question(line: Line, body: Any, task: str, id: str) -> None:
    """Any JSON object is a question or a 4xx, for every task and endpoint."""
    task = "" if not task else task.rstrip("/") + "/"
    judge(line, "POST", f"/_inference/{task}{id}", dumped(body), {"Content-Type": "application/json"})


@fuzz
@given(
    body=OBJECTS,
    task=st.sampled_from(("", *SEGMENTS[10:16])),
    id=st.text("ab-_.A", max_size=4),
    update=st.booleans(),
)
def test_any_endpoint(line: Line, body: Any, task: str, id: str, update: bool) -> None:
    """Any JSON object creates or changes an endpoint, or is a 4xx."""
    path = "/".join(part for part in ("/_inference", task, id or "x", "_update" if update else "") if part)
    judge(line, "PUT", f"{path}?timeout=2s", dumped(body), {"Content-Type": "application/json"})


@fuzz
@given(
    body=OBJECTS,
    path=st.sampled_from(
        ("v1/embeddings", "v1/chat/completions", "v2/embed", "v2/rerank", "embed", "rerank", "v1/completions")
    ),
)
def test_any_dialect(line: Line, body: Any, path: str) -> None:
    """The same for the routes of other vendors' clients."""
    judge(line, "POST", f"/{path}", dumped({"model": "local", **body}), {"Content-Type": "application/json"})


@fuzz
@given(
    body=st.one_of(st.binary(max_size=60), OBJECTS.map(lambda o: dumped(o)[:-1])),
    media=MEDIA,
    method=st.sampled_from(("POST", "PUT", "DELETE", "GET")),
    path=st.sampled_from(
        ("/_inference/local", "/_inference/rerank/rank", "/_inference/x/_update", "/_inference/_ccm")
    ),
    encoding=st.sampled_from(("", "gzip", "br", "identity")),
)
def test_any_bytes(line: Line, body: bytes, media: str, method: str, path: str, encoding: str) -> None:
    """Any bytes of any type in any encoding."""
    judge(line, method, path, body, {"Content-Type": media, "Content-Encoding": encoding})


@fuzz
@given(authorization=st.one_of(FIELD, FIELD.map(lambda t: f"Basic {t}"), FIELD.map(lambda t: f"ApiKey {t}")))
def test_any_credentials(line: Line, authorization: str) -> None:
    """Whatever stands in Authorization is a 401 and nothing else."""
    status, _, _ = line.ask("GET", "/_inference", None, {"Authorization": authorization})
    assert status == 401


def dumped(value: Any) -> bytes:
    """JSON as any client may write it: lone surrogates escaped."""
    return json.dumps(value).encode()


def test_nothing_was_logged_as_a_bug(line: Line) -> None:
    """After all that the log holds no traceback, and an answer is still right."""
    assert "Traceback" not in line.server.log
    path = "/_inference/.elser-2-elasticsearch"
    status, _, content = line.ask("POST", path, b'{"input":"sky"}', {"Content-Type": "application/json"})
    assert (status, next(iter(json.loads(content)["sparse_embedding"][0]["embedding"]))) == (200, "sky")
