"""Large requests: they are answered or refused, the others are served meanwhile, and the memory comes back."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from serverprocess import PASSWORD, ServerProcess, basic

MB = 1 << 20
LIMIT = 100 * MB
SLACK = 80 * MB

PROBE = """
    import http.client, sys, time
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    longest, stop = 0.0, False
    print("up", flush=True)
    import select
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        start = time.perf_counter()
        connection.request("GET", "/_inference/local", headers={"Authorization": sys.argv[2]})
        assert connection.getresponse().read()
        longest = max(longest, time.perf_counter() - start)
    print(longest)
"""


@contextmanager
def others_wait_less_than(seconds: float, server: ServerProcess) -> Iterator[None]:
    """Another process asks for an endpoint all the time."""
    command = [sys.executable, "-c", textwrap.dedent(PROBE), str(server.port), basic("elastic", PASSWORD)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdout is not None
        assert probe.stdout.readline() == "up\n"
        yield
        longest = float(probe.communicate("stop\n", timeout=60)[0])
    assert longest < seconds


def test_a_body_just_beyond_the_limit(server: ServerProcess) -> None:
    """413, and the next request is served."""
    answer = server.ask("POST", "/_inference/local", b" " * (LIMIT + 1))
    assert answer.status == 413
    assert server.ask("GET", "/_inference/local").status == 200


def test_bodies_just_below_the_limit(server: ServerProcess) -> None:
    """They are parsed while others are answered; what they took is given back."""
    texts = b'{"input":[' + b",".join([b'"' + b"x" * 99_997 + b'"'] * 1048) + b'],"nope":1}'
    one = b'{"input":"' + b"x" * (LIMIT - 12) + b'"}'
    deep = b"[" * LIMIT
    assert max(len(texts), len(one), len(deep)) <= LIMIT < 1.001 * len(texts)
    sizes = []
    with others_wait_less_than(5.0, server):
        for _ in range(3):
            for body, told in (
                (texts, "unknown field [nope]"),
                (one, "String value length"),
                (deep, "Expected START_OBJECT"),
            ):
                answer = server.ask("POST", "/_inference/text_embedding/local", body)
                assert answer.status == 400
                assert told in answer.json["error"]["reason"]
            sizes.append(server.rss)
    # What is kept grows every round, by 100 MB at least; what the allocator holds back moves once.
    assert min(after - before for before, after in pairwise(sizes)) < SLACK


def test_a_long_fault_is_told_short(server: ServerProcess) -> None:
    """What a client sent is quoted in the reason up to a limit."""
    config = {"service": "x" * (10 * MB), "service_settings": {}}
    answer = server.ask("PUT", "/_inference/rerank/x", config)
    assert answer.status == 400
    assert len(answer.body) < MB


def test_ten_thousand_inputs_for_a_provider(server: ServerProcess) -> None:
    """Every input has its vector, in order."""
    answer = server.ask("POST", "/_inference/dense", {"input": ["x" * (n % 7) for n in range(10_000)]})
    vectors = answer.json["text_embedding"]
    assert [vector["embedding"][0] for vector in vectors] == [float(n % 7) for n in range(10_000)]


def test_ten_thousand_inputs_for_a_local_model(server: ServerProcess) -> None:
    """Work that is too much for its time is a 408 at that time; what is left of it is dropped, and memory stays."""
    before = server.rss
    with others_wait_less_than(2.0, server):
        answer = server.ask("POST", "/_inference/local?timeout=500ms", {"input": ["a", "b c"] * 5000})
        assert answer.status == 408
        assert answer.json["error"]["reason"].startswith("timeout [500ms] waiting for inference result")
        following = server.ask("POST", "/_inference/local?timeout=10s", {"input": ["a", "b c"]})
    assert following.status == 200
    assert server.rss - before < SLACK


def test_many_inputs_for_a_local_model(server: ServerProcess) -> None:
    """In order, and each with the bits that it has alone."""
    texts = [("a", "b c", "the sky above")[n % 3] for n in range(300)]
    many = server.ask("POST", "/_inference/local?timeout=60s", {"input": texts}).json["text_embedding"]
    alone = {
        text: server.ask("POST", "/_inference/local", {"input": text}).json["text_embedding"][0]
        for text in set(texts)
    }
    assert [alone[text] for text in texts] == many


def test_texts_that_are_no_unicode(server: ServerProcess) -> None:
    """NUL, lone surrogates, the last code point and every other plane are text for every model."""
    texts = ["\x00", "a\x00b", "\ud800", "x\udfffy", "\U0010ffff", "\ufeff", "𝕒😀", " ", "", "\u202e"]
    body = json.dumps({"input": texts})
    assert "\\ud800" in body
    for id, key in (("local", "text_embedding"), ("sparse", "sparse_embedding"), ("dense", "text_embedding")):
        answer = server.ask("POST", f"/_inference/{id}", body.encode())
        assert (answer.status, len(answer.json[key])) == (200, len(texts)), answer.body
    ranked = server.ask("POST", "/_inference/rank", json.dumps({"query": "\udc00", "input": texts}).encode())
    assert sorted(entry["index"] for entry in ranked.json["rerank"]) == list(range(len(texts)))


def test_ids_and_settings_that_are_no_unicode(server: ServerProcess, provider: Any) -> None:
    """NUL and surrogates in ids are refused or unknown; in settings they are stored and shown, or refused."""
    for id in ("%00", "a%00b", "%ED%A0%80", "%FF", "a%2Fb", "..%2f", "%F0%9F%98%80"):
        assert server.ask("GET", f"/_inference/{id}").status == 404
        put = server.ask("PUT", f"/_inference/completion/{id}", {"service": "openai", "service_settings": {}})
        assert (put.status, put.json["error"]["type"]) == (400, "action_request_validation_exception")
    for text in ("\x00", "\ud800", "😀", "a\r\nb"):
        settings = {"api_key": text, "model_id": text, "url": f"{provider.url}/nowhere"}
        body = json.dumps({"service": "openai", "service_settings": settings}).encode()
        answer = server.ask("PUT", "/_inference/completion/odd", body)
        assert answer.status == 400, answer.body
        assert server.ask("GET", "/_inference/odd").status == 404
