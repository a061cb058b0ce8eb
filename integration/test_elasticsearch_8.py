"""The official client of the 8.x line, blocking and asyncio, against a real server process.

It cannot live beside the 9.x client in one process: its folder comes first on PYTHONPATH of a process of its own.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from serverprocess import PASSWORD, clean_environ, provider, started

pytestmark = pytest.mark.timeout(400)

FOLDER = Path(os.environ.get("ES8_PACKAGES", Path(sys.prefix) / "es8"))

BLOCKING = """
import elasticsearch, warnings
from elasticsearch import AuthenticationException, BadRequestError, Elasticsearch, NotFoundError

assert elasticsearch.VERSION[0] == 8, elasticsearch.VERSION

def refused(kind, call, **arguments):
    try:
        call(**arguments)
    except kind as error:
        return error.body["error"]["reason"]
    raise AssertionError("it was not refused")

client = Elasticsearch(url, basic_auth=("elastic", password), http_compress=True, request_timeout=60)
assert client.ping()
info = client.info()
assert info.meta.headers["content-type"] == "application/vnd.elasticsearch+json;compatible-with=8"
inference = client.inference

local = {"num_allocations": 1, "num_threads": 1}
dense = inference.put(
    task_type="text_embedding",
    inference_id="dense",
    inference_config={"service": "elasticsearch", "service_settings": {**local, "model_id": ".all-minilm-l6-v2"}},
)
assert dense["service_settings"]["dimensions"] == 384
inference.put_elasticsearch(
    task_type="rerank",
    elasticsearch_inference_id="rank",
    service="elasticsearch",
    service_settings={**local, "model_id": ".minilm-late-interaction"},
)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    inference.put_elser(
        task_type="sparse_embedding", elser_inference_id="sparse", service="elser", service_settings=local
    )
assert any("elser" in str(w.message) for w in caught), caught
comp = inference.put_openai(
    task_type="completion",
    openai_inference_id="comp",
    service="openai",
    service_settings={"api_key": "sk-1", "model_id": "m", "url": provider + "/openai/chat"},
)
assert "api_key" not in comp["service_settings"]
found = inference.get(inference_id="_all")["endpoints"]
assert {"dense", "rank", "sparse", "comp"} <= {e["inference_id"] for e in found}

assert len(inference.text_embedding(inference_id="dense", input="a")["text_embedding"][0]["embedding"]) == 384
assert inference.rerank(inference_id="rank", query="a", input=["b", "a"])["rerank"][0]["index"] == 1
warnings.simplefilter("ignore")  # the stand-in's
assert inference.sparse_embedding(inference_id="sparse", input="a")["sparse_embedding"][0]["embedding"]
assert inference.completion(inference_id="comp", input="hi").body == {"completion": [{"result": "HI"}]}
assert inference.inference(inference_id="dense", task_type="text_embedding", input=["a", "b"])["text_embedding"]
changed = inference.update(inference_id="comp", task_type="completion", inference_config={"task_settings": {"user": "u"}})
assert changed["task_settings"] == {"user": "u"}

assert refused(NotFoundError, inference.get, inference_id="nope") == "Inference endpoint not found [nope]"
assert "Incompatible task_type" in refused(BadRequestError, inference.rerank, inference_id="dense", query="q", input=["a"])
refused(AuthenticationException, client.options(basic_auth=("elastic", "no")).inference.get)
assert inference.delete(inference_id="rank", dry_run=True)["acknowledged"] is False
for id in ("dense", "rank", "sparse", "comp"):
    assert inference.delete(inference_id=id)["acknowledged"] is True
client.close()
"""

ASYNCIO = """
import asyncio
from elasticsearch import AsyncElasticsearch, NotFoundError

async def main():
    async with AsyncElasticsearch(url, basic_auth=("elastic", password), http_compress=True) as client:
        assert await client.ping()
        inference = client.inference
        await inference.put(
            task_type="completion",
            inference_id="comp",
            inference_config={
                "service": "openai",
                "service_settings": {"api_key": "sk-1", "model_id": "m", "url": provider + "/openai/chat"},
            },
        )
        assert (await inference.get(inference_id="comp"))["endpoints"][0]["task_type"] == "completion"
        assert (await inference.completion(inference_id="comp", input="hi"))["completion"] == [{"result": "HI"}]
        assert (await inference.inference(inference_id="comp", input="hi"))["completion"]
        await inference.delete(inference_id="comp")
        try:
            await inference.get(inference_id="comp")
        except NotFoundError:
            return
        raise AssertionError("it is still there")

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [BLOCKING, ASYNCIO], ids=["blocking", "asyncio"])
def test_client_8(script: str, tmp_path: Path) -> None:
    """Version, endpoints, each kind of inference, errors and compression, as the 9.x client's test does."""
    with provider() as vendor, started(tmp_path) as server:
        setup = f"url, password, provider = {server.url!r}, {PASSWORD!r}, {vendor.url!r}\n"
        done = subprocess.run(
            [sys.executable, "-c", setup + textwrap.dedent(script)],
            env=clean_environ(PYTHONPATH=str(FOLDER)),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr + server.log
