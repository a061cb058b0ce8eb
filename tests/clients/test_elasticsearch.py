"""The official Elasticsearch client, unmodified, against a real server process; blocking and asyncio."""

import json
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from elastic_transport import ConnectionTimeout
from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    AuthenticationException,
    AuthorizationException,
    BadRequestError,
    Elasticsearch,
    NotFoundError,
)
from elasticsearch.exceptions import ElasticsearchWarning, GeneralAvailabilityWarning

from serverprocess import PASSWORD, ServerProcess

SKY = "The sky above the port was the color of television tuned to a dead channel."
LOCAL = {"num_allocations": 1, "num_threads": 1}


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Elasticsearch]:
    with Elasticsearch(server.url, basic_auth=("elastic", PASSWORD), request_timeout=60) as opened:
        yield opened


@pytest.fixture
async def aclient(server: ServerProcess) -> AsyncIterator[AsyncElasticsearch]:
    async with AsyncElasticsearch(
        server.url, basic_auth=("elastic", PASSWORD), request_timeout=60, http_compress=True
    ) as opened:
        yield opened


def openai(url: str, path: str = "embeddings") -> dict[str, Any]:
    settings = {"api_key": "sk-1", "model_id": "m", "url": f"{url}/openai/{path}"}
    return {"service": "openai", "service_settings": settings}


@pytest.fixture(scope="module")
def endpoints(client: Elasticsearch, provider: Any) -> None:
    """``dense``, ``comp``, ``chat`` at the provider; ``local``, ``sparse``, ``rank`` by the bundled models."""
    put = client.inference.put
    put(task_type="text_embedding", inference_id="dense", inference_config=openai(provider.url))
    put(task_type="completion", inference_id="comp", inference_config=openai(provider.url, "chat"))
    put(task_type="chat_completion", inference_id="chat", inference_config=openai(provider.url, "chat"))
    for task, id, model in (
        ("text_embedding", "local", ".all-minilm-l6-v2"),
        ("sparse_embedding", "sparse", ".minilm-sparse"),
        ("rerank", "rank", ".minilm-late-interaction"),
    ):
        config = {"service": "elasticsearch", "service_settings": {**LOCAL, "model_id": model}}
        put(task_type=task, inference_id=id, inference_config=config)


def test_ping_and_info(client: Elasticsearch) -> None:
    """The product check passes and the version is the contract's line."""
    assert client.ping()
    info = client.info()
    assert (info["version"]["number"], info["tagline"]) == ("9.5.0", "You Know, for Search")
    assert info.meta.headers["x-elastic-product"] == "Elasticsearch"
    assert info.meta.headers["content-type"] == "application/vnd.elasticsearch+json;compatible-with=9"


def test_endpoints_come_and_go(client: Elasticsearch, provider: Any) -> None:
    """put, get by id, task and wildcard, update, dry run, delete."""
    inference = client.inference
    stored = inference.put(
        inference_id="tmp", task_type="completion", inference_config=openai(provider.url, "chat")
    )
    assert stored["inference_id"] == "tmp"
    assert "api_key" not in stored["service_settings"]
    assert inference.get(inference_id="tmp")["endpoints"] == [stored]
    assert stored.body in inference.get(task_type="completion", inference_id="_all")["endpoints"]
    everything = [e["inference_id"] for e in inference.get()["endpoints"]]
    assert everything == sorted(everything)
    changed = inference.update(
        inference_id="tmp", task_type="completion", inference_config={"task_settings": {"user": "me"}}
    )
    assert changed["task_settings"] == {"user": "me"}
    dry = inference.delete(inference_id="tmp", dry_run=True)
    assert dry.body == {"acknowledged": False, "pipelines": [], "indexes": [], "error_message": ""}
    assert inference.delete(inference_id="tmp", task_type="completion")["acknowledged"] is True
    with pytest.raises(NotFoundError):
        inference.get(inference_id="tmp")


def test_helpers_of_single_services(client: Elasticsearch, provider: Any) -> None:
    """``put_openai``, ``put_hugging_face``, ``put_elasticsearch`` and ``put_elser`` store what they say."""
    inference = client.inference
    dense = inference.put_openai(
        task_type="text_embedding",
        openai_inference_id="by-openai",
        service="openai",
        service_settings=openai(provider.url)["service_settings"],
        chunking_settings={"strategy": "word", "max_chunk_size": 50, "overlap": 10},
    )
    assert (dense["service_settings"]["dimensions"], dense["chunking_settings"]["strategy"]) == (4, "word")
    face = inference.put_hugging_face(
        task_type="text_embedding",
        huggingface_inference_id="by-hf",
        service="hugging_face",
        service_settings={"api_key": "hf", "url": f"{provider.url}/hf"},
    )
    assert face["service"] == "hugging_face"
    local = inference.put_elasticsearch(
        task_type="text_embedding",
        elasticsearch_inference_id="by-elasticsearch",
        service="elasticsearch",
        service_settings={**LOCAL, "model_id": ".all-minilm-l6-v2"},
    )
    assert local["service_settings"]["model_id"] == ".all-minilm-l6-v2"
    with (
        pytest.warns(ElasticsearchWarning, match=r"The \[elser\] service is deprecated"),
        pytest.warns(ElasticsearchWarning, match=r"served by the stand-in \[.minilm-sparse\]"),
    ):
        elser = inference.put_elser(
            task_type="sparse_embedding",
            elser_inference_id="by-elser",
            service="elser",
            service_settings=LOCAL,
        )
    assert (elser["service"], elser["service_settings"]["model_id"]) == ("elasticsearch", ".elser_model_2")
    for id in ("by-openai", "by-hf", "by-elasticsearch", "by-elser"):
        inference.delete(inference_id=id)


def test_put_cohere_reaches_the_configured_address(tmp_path: Any, provider: Any) -> None:
    """``services.cohere.base_url`` sends a service's calls elsewhere: ``put_cohere`` and ``rerank`` through it."""
    import serverprocess

    environ = {"INFERD_SERVICES__COHERE__BASE_URL": provider.url}
    with (
        serverprocess.started(tmp_path, "--no-security", environ=environ) as server,
        Elasticsearch(server.url) as client,
    ):
        client.inference.put_cohere(
            task_type="rerank",
            cohere_inference_id="r",
            service="cohere",
            service_settings={"api_key": "k", "model_id": "rerank-v3.5"},
        )
        ranked = client.inference.rerank(inference_id="r", query="q", input=["a", "ccc", "bb"])["rerank"]
        assert [r["index"] for r in ranked] == [1, 2, 0]


@pytest.mark.usefixtures("endpoints")
class TestBlocking:
    def test_text_embedding(self, client: Elasticsearch, provider: Any) -> None:
        """The provider's vectors come back in the order of the inputs; the vendor's key was sent."""
        answer = client.inference.text_embedding(inference_id="dense", input=["a", "bcd"])
        assert [e["embedding"][0] for e in answer["text_embedding"]] == [1.0, 3.0]
        path, headers, body = provider.asked[-1]
        assert (path, headers["Authorization"], body["model"]) == ("/openai/embeddings", "Bearer sk-1", "m")

    def test_input_types(self, client: Elasticsearch) -> None:
        """``input_type`` in any case is taken by local models; a service that has none says so."""
        answer = client.inference.text_embedding(inference_id="local", input="a", input_type="SEARCH")
        assert len(answer["text_embedding"]) == 1
        with pytest.raises(BadRequestError) as refused:
            client.inference.text_embedding(inference_id="dense", input="a", input_type="search")
        assert "Invalid input_type [search]" in refused.value.body["error"]["reason"]

    def test_local_models(self, client: Elasticsearch) -> None:
        """The bundled models answer: 384 dimensions, weights by falling size, a sorted ranking."""
        dense = client.inference.text_embedding(inference_id="local", input=SKY)["text_embedding"]
        assert len(dense[0]["embedding"]) == 384
        (sparse,) = client.inference.sparse_embedding(inference_id="sparse", input=SKY)["sparse_embedding"]
        weights = list(sparse["embedding"].values())
        assert weights == sorted(weights, reverse=True)
        assert {"sky", "port", "television"} <= set(list(sparse["embedding"])[:8])
        ranked = client.inference.rerank(
            inference_id="rank", query="star wars main character", input=["luke", "like", "leia"], top_n=2
        )["rerank"]
        assert [r["text"] for r in ranked] == ["luke", "leia"]

    def test_the_untyped_method(self, client: Elasticsearch) -> None:
        """``inference`` with and without a task; the answers are the same bits."""
        plain = client.inference.inference(inference_id="local", input=SKY)
        typed = client.inference.inference(inference_id="local", task_type="text_embedding", input=[SKY])
        assert plain.body == typed.body
        ranked = client.inference.inference(inference_id="rank", query="a", input=["a", "b"])
        assert ranked["rerank"][0]["index"] == 0

    def test_completion(self, client: Elasticsearch) -> None:
        """``completion`` answers with the provider's text."""
        answer = client.inference.completion(inference_id="comp", input="hello", task_settings={"user": "u"})
        assert answer.body == {"completion": [{"result": "HELLO"}]}

    def test_streams(self, client: Elasticsearch) -> None:
        """The client has no method for streams, but carries them: events of completion and chat_completion."""
        accept = {"accept": "text/event-stream", "content-type": "application/json"}
        text = client.perform_request(
            "POST", "/_inference/completion/comp/_stream", headers=accept, body={"input": "one two"}
        )
        assert events(text.body) == [
            {"completion": [{"delta": "ONE"}]},
            {"completion": [{"delta": "TWO"}]},
            "[DONE]",
        ]
        chat = client.perform_request(
            "POST",
            "/_inference/chat_completion/chat/_stream",
            headers=accept,
            body={"messages": [{"role": "user", "content": "hi"}]},
        )
        first, done = events(chat.body)
        assert (first["choices"][0]["delta"], first["object"], done) == (
            {"content": "HI"},
            "chat.completion.chunk",
            "[DONE]",
        )

    def test_compressed(self, server: ServerProcess) -> None:
        """``http_compress``: bodies are gzip both ways."""
        with Elasticsearch(server.url, basic_auth=("elastic", PASSWORD), http_compress=True) as client:
            answer = client.inference.text_embedding(inference_id="local", input=[SKY] * 20)
        assert len(answer["text_embedding"]) == 20
        assert answer.meta.headers["content-encoding"] == "gzip"

    def test_common_parameters(self, client: Elasticsearch) -> None:
        """``filter_path``, ``pretty``, ``human``, ``opaque_id``, ``timeout``."""
        only = client.inference.get(filter_path="endpoints.inference_id", human=True, pretty=True)
        assert all(set(e) == {"inference_id"} for e in only["endpoints"])
        tagged = client.options(opaque_id="me").inference.completion(
            inference_id="comp", input="x", timeout="5s"
        )
        assert tagged.meta.headers["x-opaque-id"] == "me"

    def test_error_classes(self, client: Elasticsearch) -> None:
        """404, 400 and 401 are the client's own exceptions, with Elasticsearch's reasons."""
        with pytest.raises(NotFoundError) as missing:
            client.inference.inference(inference_id="nope", input="x")
        assert missing.value.message == "resource_not_found_exception"
        assert missing.value.body["error"]["reason"] == "Inference endpoint not found [nope]"
        with pytest.raises(BadRequestError) as wrong:
            client.inference.text_embedding(inference_id="sparse", input="x")
        assert "Incompatible task_type" in str(wrong.value)
        with pytest.raises(BadRequestError) as traced:
            client.inference.rerank(inference_id="rank", query="", input="a", error_trace=True)
        assert isinstance(traced.value.body["error"]["stack_trace"], str)
        with pytest.raises(AuthenticationException):
            client.options(basic_auth=("elastic", "wrong")).inference.get()
        with pytest.raises(AuthenticationException):
            client.options(api_key="bm86bm8=").inference.get()

    def test_a_wrong_task_in_the_update(self, client: Elasticsearch) -> None:
        """What is refused on update is a BadRequestError and changes nothing."""
        before = client.inference.get(inference_id="dense").body
        with pytest.raises(BadRequestError):
            client.inference.update(
                inference_id="dense", task_type="rerank", inference_config={"task_settings": {}}
            )
        assert client.inference.get(inference_id="dense").body == before

    def test_a_provider_that_refuses(self, client: Elasticsearch, provider: Any) -> None:
        """A PUT whose trial call fails is a 400 that names the provider's failure as its cause; nothing is stored."""
        with pytest.raises(BadRequestError) as refused:
            client.inference.put(
                task_type="completion", inference_id="bad", inference_config=openai(provider.url, "nowhere")
            )
        assert "no such model" in json.dumps(refused.value.body["error"]["caused_by"])
        assert "sk-1" not in json.dumps(refused.value.body)
        with pytest.raises(NotFoundError):
            client.inference.get(inference_id="bad")

    def test_ignored_statuses(self, client: Elasticsearch) -> None:
        """``ignore_status`` hands the error body over."""
        body = client.options(ignore_status=404).inference.get(inference_id="nope").body
        assert body["status"] == 404

    def test_region_policy(self, client: Elasticsearch) -> None:
        """The 9.5 methods: put, get, delete."""
        inference = client.inference
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GeneralAvailabilityWarning)
            inference.put_region_policy(region_policy={"allowed_geos": ["eu"]})
            policy = inference.get_region_policy()
            assert (policy["region_policy"], policy["created_by"]) == ({"allowed_geos": ["eu"]}, "elastic")
            assert inference.delete_region_policy()["acknowledged"] is True
            with pytest.raises(NotFoundError):
                inference.get_region_policy()

    def test_security(self, client: Elasticsearch, server: ServerProcess) -> None:
        """An API key of the ``security`` namespace that may only infer: inference goes, management is a 403."""
        made = client.security.create_api_key(
            name="infer-only", role_descriptors={"r": {"cluster": ["monitor_inference"]}}
        )
        with Elasticsearch(server.url, api_key=made["encoded"]) as limited:
            assert limited.security.authenticate()["api_key"]["name"] == "infer-only"
            assert limited.inference.completion(inference_id="comp", input="x")["completion"]
            with pytest.raises(AuthorizationException):
                limited.inference.delete(inference_id="comp")
            client.security.invalidate_api_key(ids=[made["id"]])
            with pytest.raises(AuthenticationException):
                limited.inference.get()


def events(text: str) -> list[Any]:
    found = []
    for block in text.split("\n\n"):
        if block:
            name, data = block.split("\n")
            assert name == "event: message"
            raw = data.removeprefix("data: ")
            found.append(raw if raw == "[DONE]" else json.loads(raw))
    return found


@pytest.mark.usefixtures("endpoints")
class TestAsyncio:
    async def test_everything_once(self, aclient: AsyncElasticsearch, provider: Any) -> None:
        """put, get, update, each kind of inference, delete; with compression."""
        assert await aclient.ping()
        inference = aclient.inference
        stored = await inference.put(
            task_type="completion", inference_id="async", inference_config=openai(provider.url, "chat")
        )
        assert (await inference.get(inference_id="async"))["endpoints"] == [stored]
        changed = await inference.update(
            inference_id="async",
            task_type="completion",
            inference_config={"service_settings": {"api_key": "sk-2"}},
        )
        assert changed.body == stored.body
        assert (await inference.completion(inference_id="async", input="x"))["completion"] == [
            {"result": "X"}
        ]
        assert provider.asked[-1][1]["Authorization"] == "Bearer sk-2"
        assert (
            len((await inference.text_embedding(inference_id="local", input=["a", "b"]))["text_embedding"])
            == 2
        )
        assert (await inference.sparse_embedding(inference_id="sparse", input="a"))["sparse_embedding"]
        assert (await inference.rerank(inference_id="rank", query="a", input=["a", "b"]))["rerank"]
        assert (await inference.inference(inference_id="dense", input="a"))["text_embedding"]
        assert (await inference.delete(inference_id="async"))["acknowledged"] is True

    async def test_errors(self, aclient: AsyncElasticsearch) -> None:
        """The same exception classes."""
        with pytest.raises(NotFoundError):
            await aclient.inference.get(inference_id="nope")
        with pytest.raises(BadRequestError):
            await aclient.inference.text_embedding(inference_id="local", input=[])
        with pytest.raises(AuthenticationException):
            await aclient.options(basic_auth=("nobody", "x")).inference.get()

    async def test_a_stream(self, aclient: AsyncElasticsearch) -> None:
        """Events arrive through the asynchronous transport too."""
        answer = await aclient.perform_request(
            "POST",
            "/_inference/completion/comp/_stream",
            headers={"accept": "text/event-stream", "content-type": "application/json"},
            body={"input": "one two"},
        )
        assert events(answer.body)[-1] == "[DONE]"

    async def test_a_client_timeout(self, aclient: AsyncElasticsearch, provider: Any) -> None:
        """A client that gives up is no trouble for the next one."""
        slow = {
            "service": "openai",
            "service_settings": {"api_key": "k", "model_id": "m", "url": f"{provider.url}/slow/chat"},
        }
        put = aclient.options(request_timeout=0.3, max_retries=0).inference.put
        with pytest.raises(ConnectionTimeout):
            await put(task_type="completion", inference_id="slow", inference_config=slow)
        provider.go.set()
        with pytest.raises(ApiError):
            await aclient.inference.get(inference_id="slow")
