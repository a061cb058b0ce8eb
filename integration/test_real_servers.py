"""Other people's servers from PyPI, behind endpoints of ours, with tiny models that are made here.

- ``llama.cpp`` (xllamacpp, MIT): OpenAI's chat, completions and embeddings; TEI's and Jina's rerank
- ``transformers serve`` (Apache-2.0): OpenAI's chat and completions, in a form of its own: no ``[DONE]``, no usage where
  it is not ready, sparse chunks
- ``infinity`` (MIT): OpenAI's embeddings, Cohere's rerank

What an endpoint answers must be what the server says when it is asked directly: the same numbers, the same words.
"""

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import tiny_models

from serverprocess import Answer, ServerProcess, clean_environ, started

pytestmark = pytest.mark.timeout(400)

INFINITY = Path(os.environ.get("INFINITY_PYTHON", Path(sys.prefix).parent / "infinity/bin/python"))
KEY = "sk-planted-key"
PROMPT = "the sky"
TEXTS = ["the sky above the port", "television", "naïve 日本 \U0001f600 dead channel"]
DOCUMENTS = ["the color of television", "a dead channel", "the sky above the port", "port"]

LLAMA_CPP = """
import sys, xllamacpp
model, kind, port, key = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = model
params.port = int(port)
params.api_keys = [key]
params.n_ctx, params.n_parallel, params.n_predict, params.warmup = 512, 2, 12, False
params.sampling.temp = 0.0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
pooling = xllamacpp.llama_pooling_type
if kind != "chat":
    params.embedding = True
    params.pooling_type = (
        pooling.LLAMA_POOLING_TYPE_MEAN if kind == "embed" else pooling.LLAMA_POOLING_TYPE_RANK
    )
server = xllamacpp.Server(params)
sys.stdin.read()
"""

TRANSFORMERS = """
import sys
from transformers.cli.transformers import main
sys.argv[1:] = ["serve", "--host", "127.0.0.1", "--port", sys.argv[1], "--device", "cpu"]
main()
"""

INFINITY_SERVER = """
import sys, uvicorn
from infinity_emb import create_server
from infinity_emb.args import EngineArgs
folder, port, key = sys.argv[1:]
engines = [
    EngineArgs(
        model_name_or_path=f"{folder}/{name}", served_model_name=name, device="cpu", engine="torch", dtype="float32",
        model_warmup=False, bettertransformer=False,
    )
    for name in ("tiny-bert", "tiny-cross")
]
uvicorn.run(create_server(engine_args_list=engines, api_key=key), host="127.0.0.1", port=int(port))
"""


@dataclass
class Peer:
    """Somebody else's server; ``ready`` is a path that it answers with 200 when it can work."""

    python: Path | str
    script: str
    arguments: list[str]
    ready: str
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> "Peer":
        self.port = self.port or free_port()
        arguments = [str(self.port) if argument == "PORT" else argument for argument in self.arguments]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(self.python), "-c", self.script, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self.log.parent,
                env=clean_environ(HF_HUB_OFFLINE="1", DO_NOT_TRACK="1", OMP_NUM_THREADS="1"),
            )
        return self

    def wait(self, seconds: float = 240.0) -> "Peer":
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-4000:]
            try:
                if self.ask(self.ready, None, timeout=5).status == 200:
                    return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"not ready in {seconds} s: {self.log.read_text(errors='replace')[-4000:]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any, timeout: float = 60.0) -> Answer:
        """Directly: POST, or GET without a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        try:
            connection.request(
                "GET" if body is None else "POST", path, json.dumps(body) if body else None, headers
            )
            reply = connection.getresponse()
            return Answer(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def says(self, path: str, body: Any) -> Any:
        answer = self.ask(path, body)
        assert answer.status == 200, answer.body
        return answer.json

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Peers:
    chat: Peer
    embed: Peer
    rank: Peer
    transformers: Peer
    infinity: Peer
    model: str
    """What ``transformers serve`` calls its model: the folder."""


@contextmanager
def running(folder: Path) -> Iterator[Peers]:
    """All of them, started side by side."""
    tiny_models.chat_gguf(folder / "chat.gguf")
    tiny_models.rank_gguf(folder / "rank.gguf")
    tiny_models.llama_folder(folder / "tiny-llama")
    tiny_models.bert_folder(folder / "tiny-bert")
    tiny_models.cross_encoder_folder(folder / "tiny-cross")

    def llama_cpp(file: str, kind: str) -> Peer:
        arguments = [str(folder / file), kind, "PORT", KEY]
        return Peer(sys.executable, LLAMA_CPP, arguments, "/health", folder / f"{kind}.log")

    assert INFINITY.exists(), f"{INFINITY} is missing: integration/run makes it"
    peers = Peers(
        chat=llama_cpp("chat.gguf", "chat"),
        embed=llama_cpp("chat.gguf", "embed"),
        rank=llama_cpp("rank.gguf", "rank"),
        transformers=Peer(sys.executable, TRANSFORMERS, ["PORT"], "/health", folder / "transformers.log"),
        infinity=Peer(
            INFINITY, INFINITY_SERVER, [str(folder), "PORT", KEY], "/health", folder / "infinity.log"
        ),
        model=str(folder / "tiny-llama"),
    )
    each = [peers.chat, peers.embed, peers.rank, peers.transformers, peers.infinity]
    with ExitStack() as stack:
        for peer in each:
            stack.callback(peer.start().stop)
        for peer in each:
            peer.wait()
        yield peers


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with running(tmp_path_factory.mktemp("peers")) as started_peers:
        yield started_peers


@pytest.fixture(scope="module")
def server(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """``openai`` without a URL goes to llama.cpp's embeddings, as an operator would set it."""
    environ = {"INFERD_SERVICES__OPENAI__BASE_URL": peers.embed.url}
    with started(tmp_path_factory.mktemp("inferd"), environ=environ) as server:
        yield server


def put(server: ServerProcess, task: str, id: str, service: str, **settings: Any) -> Any:
    """The endpoint as stored: its creation called the real server once."""
    answer = server.ask("PUT", f"/_inference/{task}/{id}", {"service": service, "service_settings": settings})
    assert answer.status == 200, answer.body
    stored = server.ask("GET", f"/_inference/{task}/{id}").json["endpoints"][0]
    assert stored == answer.json
    assert KEY not in json.dumps(stored)
    return stored


def infer(server: ServerProcess, task: str, id: str, **body: Any) -> Any:
    answer = server.ask("POST", f"/_inference/{task}/{id}", body)
    assert answer.status == 200, answer.body
    return answer.json


def stream(server: ServerProcess, task: str, id: str, **body: Any) -> list[Any]:
    """The data of each event; the last must be ``[DONE]``."""
    answer = server.ask("POST", f"/_inference/{task}/{id}/_stream", body)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event.splitlines() for event in answer.body.decode().strip().split("\n\n")]
    assert all(event[0] == "event: message" for event in events), events
    assert events[-1][1] == "data: [DONE]"
    return [json.loads(event[1].removeprefix("data: ")) for event in events[:-1]]


def singles(vectors: list[list[float]]) -> list[bytes]:
    """As 32-bit floats, which is what they are."""
    return [struct.pack(f"{len(vector)}f", *vector) for vector in vectors]


def dense(server: ServerProcess, id: str) -> list[list[float]]:
    answer = infer(server, "text_embedding", id, input=TEXTS)
    return [item["embedding"] for item in answer["text_embedding"]]


def openai_vectors(peer: Peer, path: str, model: str) -> list[list[float]]:
    found = peer.says(path, {"model": model, "input": TEXTS})["data"]
    return [item["embedding"] for item in sorted(found, key=lambda item: item["index"])]


def chat_messages(text: str = PROMPT) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def chat_text(peer: Peer, **body: Any) -> str:
    whole = peer.says("/v1/chat/completions", {"messages": chat_messages(), "temperature": 0, **body})
    text = whole["choices"][0]["message"]["content"]
    assert any(word in text for word in tiny_models.WORDS), text
    return str(text)


def ranked(answer: Any, key: str = "relevance_score") -> list[tuple[int, float]]:
    return [(item["index"], pytest.approx(item[key], rel=1e-6)) for item in answer]


# Embeddings


def test_openai_embeddings_of_llama_cpp(server: ServerProcess, peers: Peers) -> None:
    """Dimensions are found out at creation; the vectors are the server's, bit for bit."""
    stored = put(
        server,
        "text_embedding",
        "oc",
        "openai",
        api_key=KEY,
        model_id="m",
        url=f"{peers.embed.url}/v1/embeddings",
    )
    assert stored["service_settings"]["dimensions"] == 64
    assert singles(dense(server, "oc")) == singles(openai_vectors(peers.embed, "/v1/embeddings", "m"))


def test_openai_elsewhere_by_configuration(server: ServerProcess, peers: Peers) -> None:
    """``services.openai.base_url`` replaces scheme, host and port of OpenAI's address and keeps the path."""
    stored = put(server, "text_embedding", "ob", "openai", api_key=KEY, model_id="m")
    assert "url" not in stored["service_settings"]
    assert singles(dense(server, "ob")) == singles(openai_vectors(peers.embed, "/v1/embeddings", "m"))


def test_openai_embeddings_of_infinity(server: ServerProcess, peers: Peers) -> None:
    """Another implementation of the same format, other vectors."""
    stored = put(
        server,
        "text_embedding",
        "oi",
        "openai",
        api_key=KEY,
        model_id="tiny-bert",
        url=f"{peers.infinity.url}/embeddings",
    )
    assert stored["service_settings"]["dimensions"] == 64
    # Its batches are padded, so the last bits of a vector depend on what it shared the batch with.
    direct = openai_vectors(peers.infinity, "/embeddings", "tiny-bert")
    for ours, theirs in zip(dense(server, "oi"), direct, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_custom_embeddings_of_infinity(server: ServerProcess, peers: Peers) -> None:
    """The same server by a template and a path, more texts than its batch size of 2."""
    put(
        server,
        "text_embedding",
        "ci",
        "custom",
        secret_parameters={"key": KEY},
        url=f"{peers.infinity.url}/embeddings",
        headers={"Authorization": "Bearer ${key}", "Content-Type": "application/json"},
        request='{"model": "tiny-bert", "input": ${input}}',
        response={"json_parser": {"text_embeddings": "$.data[*].embedding"}},
        batch_size=2,
    )
    direct = openai_vectors(peers.infinity, "/embeddings", "tiny-bert")
    for ours, theirs in zip(dense(server, "ci"), direct, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


# Completion and chat: every service that speaks this format, over both servers


@pytest.fixture(params=["llama.cpp", "transformers"])
def talker(request: pytest.FixtureRequest, peers: Peers) -> tuple[Peer, str]:
    """A server, and what it calls its model."""
    return (peers.chat, "m") if request.param == "llama.cpp" else (peers.transformers, peers.model)


@pytest.mark.parametrize("service", ["openai", "llama", "hugging_face"])
def test_completion(server: ServerProcess, talker: tuple[Peer, str], service: str) -> None:
    """Whole and streamed, the words are the server's own; the stream comes in pieces."""
    peer, model = talker
    id = f"completion-{service}-{peer.port}"
    url = f"{peer.url}/v1/chat/completions"
    put(server, "completion", id, service, api_key=KEY, model_id=model, url=url)
    expected = chat_text(peer, model=model)
    assert infer(server, "completion", id, input=PROMPT) == {"completion": [{"result": expected}]}
    pieces = stream(server, "completion", id, input=PROMPT)
    said = [part["delta"] for event in pieces for part in event["completion"]]
    assert len(said) > 2
    assert "".join(said) == expected


@pytest.mark.parametrize("service", ["openai", "llama", "hugging_face"])
def test_chat(server: ServerProcess, talker: tuple[Peer, str], service: str) -> None:
    """A streamed chat says what the server says, ends for the same reason, and tells tokens where they are told."""
    peer, model = talker
    id = f"chat-{service}-{peer.port}"
    url = f"{peer.url}/v1/chat/completions"
    put(server, "chat_completion", id, service, api_key=KEY, model_id=model, url=url)
    expected = chat_text(peer, model=model, max_tokens=5)
    chunks = stream(
        server, "chat_completion", id, messages=chat_messages(), max_completion_tokens=5, temperature=0.0
    )
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == expected
    assert choices[0]["delta"]["role"] == "assistant"
    assert [c["finish_reason"] for c in choices if c.get("finish_reason")] == ["length"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if service != "llama":
        assert [found["completion_tokens"] for found in usage] == [5]


def test_custom_completion(server: ServerProcess, peers: Peers) -> None:
    """The older completions route of two servers, by template."""
    for peer, model in ((peers.chat, "m"), (peers.transformers, peers.model)):
        id = f"custom-{peer.port}"
        put(
            server,
            "completion",
            id,
            "custom",
            secret_parameters={"key": KEY},
            url=f"{peer.url}/v1/completions",
            headers={"Authorization": "Bearer ${key}"},
            request=f'{{"model": {json.dumps(model)}, "prompt": ${{input}}, "max_tokens": 6, "temperature": 0}}',
            response={"json_parser": {"completion_result": "$.choices[*].text"}},
        )
        body = {"model": model, "prompt": PROMPT, "max_tokens": 6, "temperature": 0}
        direct = peer.says("/v1/completions", body)["choices"][0]["text"]
        assert direct
        assert infer(server, "completion", id, input=PROMPT) == {"completion": [{"result": direct}]}


# Reranking


def test_hugging_face_rerank_of_llama_cpp(server: ServerProcess, peers: Peers) -> None:
    """The TEI form: texts in, a bare array out; sorted and cut as asked."""
    put(server, "rerank", "hr", "hugging_face", api_key=KEY, url=f"{peers.rank.url}/rerank")
    direct = peers.rank.says("/rerank", {"query": PROMPT, "texts": DOCUMENTS})
    expected = sorted(direct, key=lambda item: -item["score"])
    answer = infer(server, "rerank", "hr", query=PROMPT, input=DOCUMENTS)["rerank"]
    assert ranked(answer) == ranked(expected, "score")
    assert sorted(item["index"] for item in answer) == [0, 1, 2, 3]
    best = infer(server, "rerank", "hr", query=PROMPT, input=DOCUMENTS, top_n=2)["rerank"]
    assert ranked(best) == ranked(expected[:2], "score")
    told = infer(server, "rerank", "hr", query=PROMPT, input=DOCUMENTS, return_documents=True)["rerank"]
    assert {item["text"] for item in told} == set(DOCUMENTS)
    assert all(DOCUMENTS[item["index"]] == item["text"] for item in told)


@pytest.mark.parametrize("peer", ["infinity", "llama.cpp"])
def test_cohere_rerank(server: ServerProcess, peers: Peers, peer: str) -> None:
    """Cohere's form, from two servers that borrowed it."""
    url, path, asked = (
        (peers.infinity, "/rerank", "tiny-cross") if peer == "infinity" else (peers.rank, "/v1/rerank", "m")
    )
    put(server, "rerank", f"cr-{url.port}", "cohere", api_key=KEY, model_id=asked, url=f"{url.url}{path}")
    direct = url.says(path, {"model": asked, "query": PROMPT, "documents": DOCUMENTS})["results"]
    answer = infer(server, "rerank", f"cr-{url.port}", query=PROMPT, input=DOCUMENTS)["rerank"]
    assert ranked(answer) == ranked(direct)
    assert len(answer) == len(DOCUMENTS)
    assert len({item["relevance_score"] for item in answer}) == len(DOCUMENTS)
    best = infer(server, "rerank", f"cr-{url.port}", query=PROMPT, input=DOCUMENTS, top_n=1)["rerank"]
    assert ranked(best) == ranked(direct[:1])


def test_custom_rerank_of_infinity(server: ServerProcess, peers: Peers) -> None:
    """With the documents, which this server tells as plain text."""
    put(
        server,
        "rerank",
        "cur",
        "custom",
        secret_parameters={"key": KEY},
        url=f"{peers.infinity.url}/rerank",
        headers={"Authorization": "Bearer ${key}"},
        request='{"model": "tiny-cross", "query": ${query}, "documents": ${input}, "return_documents": true}',
        response={
            "json_parser": {
                "relevance_score": "$.results[*].relevance_score",
                "reranked_index": "$.results[*].index",
                "document_text": "$.results[*].document",
            }
        },
    )
    direct = peers.infinity.says("/rerank", {"model": "tiny-cross", "query": PROMPT, "documents": DOCUMENTS})
    answer = infer(server, "rerank", "cur", query=PROMPT, input=DOCUMENTS)["rerank"]
    assert ranked(answer) == ranked(direct["results"])
    assert all(DOCUMENTS[item["index"]] == item["text"] for item in answer)


# Refusals and absences


@pytest.mark.parametrize("peer", ["llama.cpp", "infinity"])
def test_a_wrong_key(server: ServerProcess, peers: Peers, peer: str) -> None:
    """Their 401 ends the creation; the key is in no error, and nothing is stored."""
    url = f"{peers.infinity.url}/embeddings" if peer == "infinity" else f"{peers.embed.url}/v1/embeddings"
    settings = {"api_key": "sk-wrong-key", "model_id": "tiny-bert", "url": url}
    answer = server.ask(
        "PUT", "/_inference/text_embedding/wrong", {"service": "openai", "service_settings": settings}
    )
    assert answer.status == 400, answer.body
    assert b"authentication" in answer.body.lower()
    assert b"sk-wrong" not in answer.body
    assert "sk-wrong" not in server.log
    assert server.ask("GET", "/_inference/text_embedding/wrong").status == 404


def test_what_they_refuse(server: ServerProcess, peers: Peers) -> None:
    """A model that infinity has not, a text longer than llama.cpp's context: their reason reaches the user."""
    settings = {"api_key": KEY, "model_id": "no-such", "url": f"{peers.infinity.url}/embeddings"}
    answer = server.ask(
        "PUT", "/_inference/text_embedding/none", {"service": "openai", "service_settings": settings}
    )
    assert answer.status == 400
    assert b"no-such" in answer.body
    url = f"{peers.chat.url}/v1/chat/completions"
    put(server, "completion", "long", "openai", api_key=KEY, model_id="m", url=url)
    answer = server.ask("POST", "/_inference/completion/long", {"input": "sky " * 2000})
    assert answer.status == 400, answer.body
    assert b"context" in answer.body
    assert KEY.encode() not in answer.body


def test_one_that_dies_and_comes_back(server: ServerProcess, tmp_path: Path) -> None:
    """While it is away the answer is an error in time, afterwards it is an answer again."""
    tiny_models.chat_gguf(tmp_path / "chat.gguf")
    arguments = [str(tmp_path / "chat.gguf"), "embed", "PORT", KEY]
    peer = Peer(sys.executable, LLAMA_CPP, arguments, "/health", tmp_path / "log").start()
    try:
        url = f"{peer.wait().url}/v1/embeddings"
        put(server, "text_embedding", "mortal", "openai", api_key=KEY, model_id="m", url=url)
        before = dense(server, "mortal")
        peer.process.send_signal(signal.SIGKILL)
        peer.process.wait()
        began = time.monotonic()
        answer = server.ask("POST", "/_inference/text_embedding/mortal?timeout=5s", {"input": TEXTS})
        assert answer.status >= 500 or answer.status == 408, answer.body
        assert time.monotonic() - began < 60
        peer.stop()
        peer.start().wait()
        assert singles(dense(server, "mortal")) == singles(before)
    finally:
        peer.stop()
