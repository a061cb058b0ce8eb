"""Chunking settings (api.md section 9)."""

from typing import Any

import pytest

from inferd.core import chunking
from inferd.errors import IllegalArgument, InferdError, Invalid

STORED = [
    (None, {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}),
    ({}, {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}),
    ({"strategy": "none"}, {"strategy": "none"}),
    (
        {"strategy": "word", "max_chunk_size": 250, "overlap": 100},
        {"strategy": "word", "max_chunk_size": 250, "overlap": 100},
    ),
    (
        {"strategy": "sentence", "max_chunk_size": 20, "sentence_overlap": 0},
        {"strategy": "sentence", "max_chunk_size": 20, "sentence_overlap": 0},
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 50, "separator_group": "plaintext"},
        {"strategy": "recursive", "max_chunk_size": 50, "separators": list(chunking.PLAINTEXT)},
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 10},
        {"strategy": "recursive", "max_chunk_size": 10, "separators": list(chunking.PLAINTEXT)},
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 10, "separators": ["a"]},
        {"strategy": "recursive", "max_chunk_size": 10, "separators": ["a"]},
    ),
]


@pytest.mark.parametrize(("raw", "stored"), STORED)
def test_the_stored_form(raw: Any, stored: dict[str, Any]) -> None:
    """Defaults are filled in, groups spelt out."""
    assert chunking.parse(raw) == stored


S = "[chunking_settings]"
FAULTS = [
    (
        {"strategy": "sentence", "max_chunk_size": 10},
        f"{S} Invalid value [10.0]. [max_chunk_size] must be greater than or equal to [20.0]",
    ),
    (
        {"strategy": "word", "max_chunk_size": 100, "overlap": 60},
        f"{S} Invalid value [60.0]. [overlap] must be less than or equal to [50.0]",
    ),
    (
        {"strategy": "word", "max_chunk_size": 0, "overlap": 1},
        f"{S} Invalid value [0]. [max_chunk_size] must be a positive integer",
    ),
    (
        {"strategy": "word", "max_chunk_size": 10, "overlap": 0},
        f"{S} Invalid value [0]. [overlap] must be a positive integer",
    ),
    ({"strategy": "word", "overlap": 5}, f"{S} does not contain the required setting [max_chunk_size]"),
    (
        {"strategy": "sentence", "max_chunk_size": 50, "overlap": 5},
        "Sentence based chunking settings can not have the following settings: [overlap]",
    ),
    (
        {"strategy": "word", "max_chunk_size": 50, "overlap": 5, "sentence_overlap": 1},
        "Word based chunking settings can not have the following settings: [sentence_overlap]",
    ),
    (
        {"strategy": "none", "overlap": 5},
        "None chunking settings can not have the following settings: [overlap]",
    ),
    (
        {"strategy": "sentence", "max_chunk_size": 50, "sentence_overlap": 2},
        "sentence_overlap[2] must be either 0 or 1",
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 50, "separators": ["a"], "separator_group": "plaintext"},
        "Recursive chunking settings can not have both separators and separator_set",
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 50, "separators": []},
        "Recursive chunking settings can not have an empty list of separators",
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 50, "separators": ["a"] * 51},
        "separators list size [51] must not exceed [50]",
    ),
    (
        {"strategy": "recursive", "max_chunk_size": 50, "separator_group": "html"},
        f"{S} Invalid value [html] received. [separator_group] must be one of [markdown, plaintext]",
    ),
    (
        {"strategy": "sentence", "max_chunk_size": "50"},
        "field [max_chunk_size] is not of the expected type. The value [50] cannot be converted to a [Integer]",
    ),
    (
        5,
        "field [chunking_settings] is not of the expected type. The value [5] cannot be converted to a [Map]",
    ),
]


@pytest.mark.parametrize(("raw", "message"), FAULTS)
def test_faults(raw: Any, message: str) -> None:
    """Each rule has its literal text, wrapped as a validation failure."""
    with pytest.raises(Invalid) as told:
        chunking.parse(raw)
    assert told.value.reason == f"Validation Failed: 1: {message};"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"max_chunk_size": 100}, "Can't generate Chunker without ChunkingStrategy provided"),
        ({"strategy": "foo"}, "Invalid chunkingStrategy foo"),
    ],
)
def test_strategies(raw: Any, message: str) -> None:
    """A missing or unknown strategy is an illegal argument, not a validation failure."""
    with pytest.raises(IllegalArgument) as told:
        chunking.parse(raw)
    assert told.value.reason == message


HOSTILE = [
    [],
    "x",
    {"strategy": 5},
    {"strategy": ["word"]},
    {"strategy": "recursive", "max_chunk_size": 10, "separator_group": {}},
]


@pytest.mark.parametrize("raw", HOSTILE)
def test_anything_else_is_refused_by_name(raw: Any) -> None:
    """Wrong types never get through, nor crash."""
    with pytest.raises(InferdError):
        chunking.parse(raw)
