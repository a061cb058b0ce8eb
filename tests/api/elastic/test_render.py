"""Results into bodies (api.md 3, 5.1, 6.3, 7.4)."""

import json
import struct

import cbor2
import numpy as np
import pytest
import yaml
from asked import asked
from hypothesis import given
from hypothesis import strategies as st

from inferd.api.elastic import render
from inferd.api.elastic.render import encode, facts, pretty, result_json, to_yaml, warning
from inferd.core.endpoint import Endpoint
from inferd.core.results import (
    CallDelta,
    ChatAnswer,
    ChatUsage,
    Choice,
    Chunk,
    Completion,
    Delta,
    ElementType,
    Embeddings,
    Ranked,
    Ranking,
    Sparse,
    SparseVector,
    Usage,
)
from inferd.core.tasks import TaskType
from inferd.errors import StatusError

TEXT = TaskType.TEXT_EMBEDDING


def floats(*rows) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_dense_vectors():
    """One entry an input, in shortest float32 digits."""
    body = result_json(Embeddings(vectors=floats([0.1, -0.2], [1e-4, 3.0])), TEXT, "e")
    assert body == b'{"text_embedding":[{"embedding":[0.1,-0.2]},{"embedding":[0.0001,3.0]}]}'


@pytest.mark.parametrize(
    ("task", "element", "key"),
    [
        (TEXT, ElementType.BYTE, "text_embedding_bytes"),
        (TEXT, ElementType.BIT, "text_embedding_bits"),
        (TaskType.EMBEDDING, ElementType.FLOAT, "embeddings"),
        (TaskType.EMBEDDING, ElementType.BYTE, "embeddings_bytes"),
        (TaskType.EMBEDDING, ElementType.BIT, "embeddings_bits"),
    ],
)
def test_keys_by_task_and_element(task, element, key):
    """Bytes and packed bits are signed integers under names of their own."""
    vectors = floats([1.5]) if element is ElementType.FLOAT else np.array([[-128, 127]], dtype=np.int8)
    assert json.loads(result_json(Embeddings(vectors=vectors, element=element), task, "e")) == {
        key: [{"embedding": vectors[0].tolist()}]
    }


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_float_survives(numbers):
    """What is printed reads back as the same 32 bits."""
    vectors = floats(numbers)
    printed = json.loads(result_json(Embeddings(vectors=vectors), TEXT, "e"))["text_embedding"][0][
        "embedding"
    ]
    assert struct.pack(f"{len(numbers)}f", *printed) == vectors.tobytes()


def test_any_layout_of_the_matrix():
    """Transposed, strided, double precision and empty matrices render as what they hold."""
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    for vectors in (base.T, base[:, ::2], base.astype(np.float64), base[:0]):
        rows = json.loads(result_json(Embeddings(vectors=vectors), TEXT, "e"))["text_embedding"]
        assert [row["embedding"] for row in rows] == vectors.tolist()


async def test_large_results_leave_the_loop_and_stay_whole():
    """Rendered in slices off the loop, the same as in one piece."""
    vectors = np.random.default_rng(1).standard_normal((3000, 100), dtype=np.float32)
    body = await render.result(Embeddings(vectors=vectors), TEXT, "e")
    rows = json.loads(body)["text_embedding"]
    assert np.array_equal(np.array([row["embedding"] for row in rows], dtype=np.float32), vectors)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_that_is_none_leaves(bad):
    """500 that names the endpoint: dense, sparse and scores."""
    results = (
        Embeddings(vectors=floats([1, bad])),
        Sparse(vectors=(SparseVector(("a",), np.array([bad], np.float32)),)),
        Ranking(items=(Ranked(0, bad),)),
    )
    for value in results:
        with pytest.raises(StatusError, match=r"endpoint \[my-e\]") as caught:
            result_json(value, TEXT, "my-e")
        assert caught.value.status == 500


def test_sparse_vectors():
    """Tokens by falling weight, whether the model sorted them or not; equal weights keep their order."""
    vectors = (
        SparseVector(("port", "sky"), np.array([2.1259406, 1.7073475], np.float32)),
        SparseVector(("a", "b", "c"), np.array([0.5, 1.0, 0.5], np.float32), is_truncated=True),
        SparseVector((), np.array([], np.float32)),
    )
    assert result_json(Sparse(vectors=vectors), TaskType.SPARSE_EMBEDDING, "e") == (
        b'{"sparse_embedding":[{"is_truncated":false,"embedding":{"port":2.1259406,"sky":1.7073475}},'
        b'{"is_truncated":true,"embedding":{"b":1.0,"a":0.5,"c":0.5}},{"is_truncated":false,"embedding":{}}]}'
    )


def test_ranking():
    """Text only where documents are returned; scores as float32."""
    value = Ranking(items=(Ranked(6, 0.50955844, "wars"), Ranked(0, float(np.float32(0.1)))))
    assert result_json(value, TaskType.RERANK, "e") == (
        b'{"rerank":[{"index":6,"relevance_score":0.50955844,"text":"wars"},{"index":0,"relevance_score":0.1}]}'
    )


def test_completion():
    """One result a text; an unpaired surrogate in a model's text becomes U+FFFD."""
    assert json.loads(result_json(Completion(texts=("a", "b\ud800")), TaskType.COMPLETION, "e")) == {
        "completion": [{"result": "a"}, {"result": "b\ufffd"}]
    }


CALL = CallDelta(index=0, id="call_1", name="f", arguments='{"a":1}', type="function")
FULL = Delta(
    content="Hi", refusal="..", role="assistant", reasoning="r", tool_calls=(CALL,),
    reasoning_details=({"type": "reasoning.text", "text": "t"},),
)  # fmt: skip
USAGE = ChatUsage(
    prompt_tokens=16,
    completion_tokens=28,
    total_tokens=44,
    cached_tokens=20,
    cache_write_tokens=25,
    reasoning_tokens=10,
)


def test_a_chat_chunk_in_the_contracts_order():
    """Every member where api.md 7.4 has it."""
    chunk = Chunk(id="c", choices=(Choice(delta=FULL, finish_reason="stop"),), model="m", usage=USAGE)
    assert encode(render.chat_chunk(chunk)).decode() == (
        '{"id":"c","choices":[{"delta":{"content":"Hi","refusal":"..","role":"assistant","reasoning":"r",'
        '"tool_calls":[{"index":0,"id":"call_1","function":{"arguments":"{\\"a\\":1}","name":"f"},"type":"function"}],'
        '"reasoning_details":[{"type":"reasoning.text","text":"t"}]},"finish_reason":"stop","index":0}],'
        '"model":"m","object":"chat.completion.chunk","usage":{"completion_tokens":28,"prompt_tokens":16,'
        '"total_tokens":44,"prompt_tokens_details":{"cached_tokens":20,"cache_write_tokens":25},'
        '"completion_tokens_details":{"reasoning_tokens":10}}}'
    )


def test_what_a_chat_does_not_say_is_left_out():
    """id, model, object, index and the wrapper stay; the rest goes when unset."""
    assert render.chat_chunk(Chunk(id="c", choices=(Choice(delta=Delta()),), model="m")) == {
        "id": "c",
        "choices": [{"delta": {}, "index": 0}],
        "model": "m",
        "object": "chat.completion.chunk",
    }
    usage = ChatUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    last = render.chat_chunk(Chunk(id="c", model="m", usage=usage))
    assert last["choices"] == []
    assert last["usage"] == {"completion_tokens": 2, "prompt_tokens": 1, "total_tokens": 3}
    answer = ChatAnswer(id="c", choices=(Choice(delta=Delta(content="HI", role="assistant")),), model="m")
    assert json.loads(result_json(answer, TaskType.CHAT_COMPLETION, "e")) == {
        "id": "c",
        "choices": [{"message": {"content": "HI", "role": "assistant"}, "index": 0}],
        "model": "m",
        "object": "chat.completion",
    }


def test_endpoint_object():
    """Members in order; what is empty is left out."""
    bare = Endpoint(id="i", task=TEXT, service="s", settings={})
    assert list(render.endpoint_object(bare, {"a": 1})) == [
        "inference_id",
        "task_type",
        "service",
        "service_settings",
    ]
    full = Endpoint(
        id="i", task=TEXT, service="s", settings={}, task_settings={"t": 1}, chunking={"strategy": "none"}, metadata={"m": 1}
    )  # fmt: skip
    assert list(render.endpoint_object(full, {}).items())[1:] == [
        ("task_type", "text_embedding"),
        ("service", "s"),
        ("service_settings", {}),
        ("task_settings", {"t": 1}),
        ("chunking_settings", {"strategy": "none"}),
        ("metadata", {"m": 1}),
    ]


def test_pretty():
    """Two blanks a level, a blank on both sides of the colon, a newline at the end (api.md 3)."""
    value = {"endpoints": [{"id": "a", "n": [1, 2.5]}, {}], "none": [], "é": None, "t": True}
    assert pretty(value).decode() == (
        '{\n  "endpoints" : [\n    {\n      "id" : "a",\n      "n" : [\n        1,\n        2.5\n      ]\n    },\n'
        '    { }\n  ],\n  "none" : [ ],\n  "é" : null,\n  "t" : true\n}\n'
    )
    assert pretty([]) == b"[ ]\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_every_form_says_the_same(value):
    """JSON, pretty JSON, YAML and CBOR read back as the same value."""
    assert json.loads(pretty(value)) == value
    assert cbor2.loads(cbor2.dumps(value)) == value
    text = to_yaml(value)
    assert text.startswith(b"---\n")
    assert yaml.safe_load(text) == value


async def test_replies_in_every_form():
    """`pretty`, `filter_path` and `format` work on results as on objects; large ones off the loop."""
    body = b'{"rerank":[{"index":0,"relevance_score":0.1,"text":"no"}]}'
    plain = await render.reply(asked("GET", "/x"), body)
    assert (plain.body, plain.content_type) == (body, "application/json")
    filtered = await render.reply(asked("GET", "/x?filter_path=rerank.index"), body)
    assert filtered.body == b'{"rerank":[{"index":0}]}'
    as_yaml = await render.reply(asked("GET", "/x?format=yaml"), body)
    assert as_yaml.body == b"---\nrerank:\n- index: 0\n  relevance_score: 0.1\n  text: 'no'\n"
    as_cbor = await render.reply(asked("GET", "/x?format=cbor"), body)
    assert cbor2.loads(as_cbor.body) == json.loads(body)
    vectors = await render.result(Embeddings(vectors=np.ones((100, 1000), np.float32)), TEXT, "e")
    assert (await render.reply(asked("GET", "/x?filter_path=-text_embedding"), vectors)).body == b"{}"
    empty = await render.reply(
        asked("GET", "/x?filter_path=none&pretty"), {"a": 1}, status=201, headers=[("X", "y")]
    )
    assert (empty.status, empty.headers, empty.body) == (201, [("X", "y")], b"{ }\n")


def test_whatever_was_stored_can_be_shown():
    """Unpaired surrogates and integers beyond 64 bits in settings do not make a second error."""
    assert json.loads(encode({"a\ud800": ["\udfff", 2**80, -(2**70), 10**400]})) == {
        "a\ufffd": ["\ufffd", float(2**80), -float(2**70), None]
    }


def test_facts():
    """Usage, truncation and notices travel in headers, bounded and safe."""
    usage = Usage(given=12, used=10)
    value = Embeddings(
        vectors=floats([1]), usage=usage, truncated=tuple(range(150)), notices=('stand-in "é"\r\n',)
    )
    headers = facts(value, "9.5.0")
    assert headers[0] == ("Warning", '299 Elasticsearch-9.5.0 "stand-in \\"?\\"\r\n"')
    assert headers[1] == ("X-Inferd-Usage", "given=12, used=10, dropped=2")
    assert headers[2][0] == "X-Inferd-Truncated"
    assert headers[2][1].startswith("0, 1, 2")
    assert headers[2][1].endswith("98, 99, ...")
    assert facts(Completion(texts=("a",)), "9.5.0") == []
    assert warning("9.5.0", "t") == '299 Elasticsearch-9.5.0 "t"'
