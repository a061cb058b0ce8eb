"""Server-sent events from bytes, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.service import BadReply, Event
from inferd.upstream import sse
from inferd.upstream.sse import Sse

STREAM = (
    ": a comment\n\n"
    'data: {"a": "ü🦆"}\n\n'
    "event: message_start\ndata: one\ndata: two\n\n"
    "id: 7\nretry: 10\ndata:no blank\n\n"
    "event: nothing\n\n"
    "data\n\n"
    "data:  two blanks\n\n"
    "data: [DONE]\n\n"
)
EVENTS = [
    Event('{"a": "ü🦆"}'),
    Event("one\ntwo", "message_start"),
    Event("no blank"),
    Event(""),
    Event(" two blanks"),
    Event("[DONE]"),
]


def parsed(*pieces: bytes) -> list[Event]:
    reader = Sse()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_cut_anywhere(end: str) -> None:
    """LF, CRLF and CR give the same events, whole, byte by byte, or cut in two at any place (half characters too)."""
    raw = STREAM.replace("\n", end).encode()
    assert parsed(raw) == EVENTS
    assert parsed(*(raw[n : n + 1] for n in range(len(raw)))) == EVENTS
    for place in range(len(raw) + 1):
        assert parsed(raw[:place], raw[place:]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=8))
def test_cut_in_many_pieces(places: list[int]) -> None:
    """Any number of cuts, empty pieces among them."""
    raw = STREAM.replace("\n", "\r\n").encode()
    bounds = [0, *sorted(min(place, len(raw)) for place in places), len(raw)]
    assert parsed(*(raw[a:b] for a, b in pairwise(bounds))) == EVENTS


@given(st.binary(max_size=200), st.integers(0, 200))
def test_garbage_never_breaks_the_reader(raw: bytes, place: int) -> None:
    """Any bytes are read, and where they are cut makes no difference."""
    assert parsed(raw) == parsed(raw[:place], raw[place:])


def test_mixed_line_ends() -> None:
    """A stream may change its line ends."""
    assert parsed(b"data: a\r\n\rdata: b\n\r\n") == [Event("a"), Event("b")]


def test_byte_order_marks() -> None:
    """One at the start belongs to the format; Elasticsearch writes one before every event."""
    assert parsed("\ufeffdata: a\n\n\ufeffevent: x\n\ufeffdata: b\n\n".encode()) == [
        Event("a"),
        Event("b", "x"),
    ]


def test_the_last_blank_line_may_be_missing() -> None:
    """Some servers end with the last event's line."""
    assert parsed(b"data: a\n\ndata: b") == [Event("a"), Event("b")]


def test_bytes_that_are_not_utf8() -> None:
    """They are replaced, as the specification says."""
    assert parsed(b"data: \xff\xfe\n\n") == [Event("\ufffd\ufffd")]


def test_the_name_ends_with_its_event() -> None:
    """A name does not carry over to the next event."""
    assert parsed(b"event: a\ndata: 1\n\ndata: 2\n\n") == [Event("1", "a"), Event("2")]


@pytest.mark.parametrize("data", ["[DONE]", "[done]", " [Done] "])
def test_the_end_mark(data: str) -> None:
    """``[DONE]`` in any letter case ends a stream."""
    assert Sse.is_last(Event(data))
    assert not Sse.is_last(Event(f'"{data}"'))


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 100, b"x" * 100, b"data: x\n" * 30])
def test_an_endless_line_or_event(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """Neither a line without an end nor an event without an end is kept beyond the limit."""
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    with pytest.raises(BadReply, match=r"longer than \[1000\] bytes"):
        parsed(*[piece] * 100)
