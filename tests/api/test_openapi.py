"""``GET /openapi.json``: valid, complete, and true of what the server answers."""

from typing import Any

import pytest
import pytest_asyncio
from dialects import WHOLE, Served
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from inferd.api.openapi import BODIES

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def document(served: Served) -> dict[str, Any]:
    answer = await served.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_it_is_valid(document: dict[str, Any]):
    """By the specification's own schema, references and all."""
    assert document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


async def test_it_has_every_route(document: dict[str, Any], served: Served):
    """Each row of every dialect's table, once; nothing is described that is not there."""
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.template) for _, route in served.app.router.routes}
    assert {tuple(name.split(" ")) for name in BODIES} <= described
    bare = {f"{method} {path}" for method, path in described} - set(BODIES)
    assert not [name for name in bare if name.split(" ")[1].startswith(("/v1", "/v2", "/tei"))]
    ids = [op["operationId"] for methods in document["paths"].values() for op in methods.values()]
    assert len(ids) == len(set(ids))
    assert {"elastic", "openai", "cohere", "tei"} == {
        tag for methods in document["paths"].values() for op in methods.values() for tag in op["tags"]
    }


async def test_who_may_read_it(served: Served):
    """Whoever may see an endpoint; with the ways to say who one is."""
    answer = await served.http.get("/openapi.json", auth=None)
    assert answer.status_code == 401
    bearer = {"Authorization": f"Bearer {served.narrow}"}
    shown = (await served.http.get("/openapi.json", auth=None, headers=bearer)).json()
    assert set(shown["components"]["securitySchemes"]) == {"basic", "bearer", "apiKey"}
    refused = await served.http.request("GET", "/openapi.json", json={})
    assert refused.status_code == 400


def schema_at(document: dict[str, Any], path: str, method: str, status: str) -> OAS31Validator:
    response = document["paths"][path][method]["responses"][status]
    schema = {**response["content"]["application/json"]["schema"], "components": document["components"]}
    return OAS31Validator(schema)


CASES: list[tuple[str, str, Any]] = [
    ("/_inference/{task}/{id}", "/_inference/text_embedding/dense", {"input": "a"}),
    ("/_inference/{id}", "/_inference/rank", {"query": "a", "input": ["b"]}),
    ("/_inference/{id}", "/_inference/sparse", {"input": "a"}),
    ("/_inference/{task}/{id}", "/_inference/chat_completion/chat", {"messages": [{"role": "user"}]}),
    ("/v1/models", "/v1/models", None),
    ("/v1/models/{id}", "/v1/models/dense", None),
    ("/v1/embeddings", "/v1/embeddings", {"model": "dense", "input": "a"}),
    ("/v1/embeddings", "/v1/embeddings", {"model": "dense", "input": "a", "encoding_format": "base64"}),
    ("/v1/chat/completions", "/v1/chat/completions", {"model": "chat", "messages": [{"role": "user"}]}),
    ("/v1/completions", "/v1/completions", {"model": "chat", "prompt": "a"}),
    ("/v1/embed", "/v1/embed", {"model": "dense", "texts": ["a"]}),
    ("/v2/embed", "/v2/embed", {"model": "dense", "texts": ["a"], "embedding_types": ["base64", "int8"]}),
    (
        "/v1/rerank",
        "/v1/rerank",
        {"model": "rank", "query": "a", "documents": ["b"], "return_documents": True},
    ),
    ("/v2/rerank", "/v2/rerank", {"model": "rank", "query": "a", "documents": ["b"]}),
    ("/v2/chat", "/v2/chat", {"model": "chat", "messages": [{"role": "user"}]}),
    ("/tei/{id}", "/tei/sparse", {"inputs": "a"}),
    ("/tei/{id}/embed", "/tei/dense/embed", {"inputs": "a"}),
    ("/tei/{id}/embed_sparse", "/tei/sparse/embed_sparse", {"inputs": "a"}),
    ("/tei/{id}/rerank", "/tei/rank/rerank", {"query": "a", "texts": ["b"], "return_text": True}),
    ("/tei/{id}/tokenize", "/tei/dense/tokenize", {"inputs": "a"}),
    ("/tei/{id}/info", "/tei/dense/info", None),
    ("/_inference/_services", "/_inference/_services", None),
    ("/_inference", "/_inference", None),
    ("/", "/", None),
]


@pytest.mark.parametrize(("template", "path", "body"), CASES)
async def test_answers_are_as_described(
    document: dict[str, Any], served: Served, template: str, path: str, body: Any
):
    """What is sent fits the described request, what comes back the described answer; so does an error."""
    served.answers(WHOLE)
    method = "get" if body is None else "post"
    if body is not None:
        asked = document["paths"][template][method]["requestBody"]["content"]["application/json"]["schema"]
        OAS31Validator({**asked, "components": document["components"]}).validate(body)
    answer = await served.http.request(method.upper(), path, json=body)
    assert answer.status_code == 200, answer.text
    schema_at(document, template, method, "200").validate(answer.json())
    refused = await served.http.request(method.upper(), path, json=body, auth=None)
    assert refused.status_code == 401
    schema_at(document, template, method, "default").validate(refused.json())
