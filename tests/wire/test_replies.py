"""Reading provider answers: what fits, what is refused and how it is named."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.results import Usage
from inferd.core.service import BadReply
from inferd.wire.replies import decode, float32, integers, missing, sparse, spent

LARGEST = 3.4028234663852886e38


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": "1"}', b"[" * 100_000, b'{"a": 1e999}'])
def test_decode(body: bytes) -> None:
    """Bytes of another shape are one kind of failure, whatever is wrong with them."""
    with pytest.raises(BadReply) as caught:
        decode(msgspec.json.Decoder(dict[str, int]), body)
    assert str(caught.value).startswith("Failed to parse the response: ")


def test_missing() -> None:
    """A missing field is named in the contract's words."""
    text = "Failed to find required field [results] in Watsonx rerank response"
    assert str(missing("results", "Watsonx rerank")) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_float32(value: float) -> None:
    """A score is the nearest float32, or is refused for not being one."""
    if abs(value) <= LARGEST:
        assert float32(value) == np.float32(value)
    else:
        with pytest.raises(BadReply):
            float32(value)


def test_integers() -> None:
    """Rows of signed bytes make a matrix."""
    found = integers([[1, -128], [127, 0]])
    assert found.dtype == np.int8
    assert found.tolist() == [[1, -128], [127, 0]]
    assert integers([]).shape == (0, 0)
    assert integers([[], []]).shape == (2, 0)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[1, 128]], "Value [128] is out of range for a byte"),
        ([[-129, 300]], "Value [-129] is out of range for a byte"),
        ([[2**70]], f"Value [{2**70}] is out of range for a byte"),
        ([[1], [1, 2]], "The embeddings of one response differ in length"),
    ],
)
def test_no_bytes(rows: list[list[int]], text: str) -> None:
    """What is no signed byte is refused, never wrapped around."""
    with pytest.raises(BadReply) as caught:
        integers(rows)
    assert str(caught.value) == text


def test_sparse() -> None:
    """Tokens come by falling weight; of two with one name the larger stays."""
    found = sparse([("a", 0.25), ("b", 0.5), ("a", 0.75), ("c", -1.0), ("c", -2.0)])
    assert found.tokens == ("a", "b", "c")
    assert found.weights.tolist() == [0.75, 0.5, -1.0]
    assert found.weights.dtype == np.float32
    assert sparse([]).tokens == ()


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"a": 5}, Usage(given=5, used=5)),
        ({"b": 5}, Usage(given=5, used=5)),
        ({"a": 1, "b": 5}, Usage(given=1, used=1)),
        ({"a": "1", "b": 5, "out": 2}, Usage(given=5, used=5, output=2)),
        ({"a": True}, None),
        ({"a": 1.5}, None),
        ({"out": 2}, None),
        ([1], None),
        (None, None),
    ],
)
def test_spent(usage: Any, found: Usage | None) -> None:
    """Usage is read where it is there, and missed by nobody where it is not."""
    assert spent(usage, "a", "b", output="out") == found
