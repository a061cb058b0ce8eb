"""Streams that are not server-sent events."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.service import BadReply, Event, Framing
from inferd.testing import aws_frame
from inferd.upstream import framing
from inferd.upstream.framing import framer

ARRAY = '[{"a": "]}[{\\"ü"}\n,\r\n{"b": [1, {"c": "\\\\"}], "d": {}},\n[2], 7, "x{", {"é": 1}]'
MEMBERS = [
    Event('{"a": "]}[{\\"ü"}'),
    Event('{"b": [1, {"c": "\\\\"}], "d": {}}'),
    Event("[2]"),
    Event('{"é": 1}'),
]
LINES = '{"a": "ü"}\n\n{"b":2}\r\n  \n{"c":3}'
OBJECTS = [Event('{"a": "ü"}'), Event('{"b":2}'), Event('{"c":3}')]
FRAMES = (
    aws_frame('{"role":"ü"}'.encode(), message_type="event", event_type="messageStart"),
    aws_frame(b"", message_type="event", event_type="contentBlockStop"),
    aws_frame(b'{"message":"slow"}', message_type="exception", exception_type="throttlingException"),
    aws_frame(b"", message_type="error", error_code="Internal", error_message="broken"),
)
FRAME_EVENTS = [
    Event('{"role":"ü"}', "messageStart"),
    Event("", "contentBlockStop"),
    Event('{"message":"slow"}', "throttlingException", True),
    Event("broken", "Internal", True),
]
STREAMS = [
    (Framing.JSON_ARRAY, ARRAY.encode(), MEMBERS),
    (Framing.LINES, LINES.encode(), OBJECTS),
    (Framing.AWS, b"".join(FRAMES), FRAME_EVENTS),
]


def parsed(form: Framing, *pieces: bytes) -> list[Event]:
    reader = framer(form)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


@pytest.mark.parametrize(("form", "raw", "events"), STREAMS)
def test_cut_anywhere(form: Framing, raw: bytes, events: list[Event]) -> None:
    """Whole, byte by byte, or in two pieces cut at any place: the same events."""
    assert parsed(form, raw) == events
    assert parsed(form, *(raw[n : n + 1] for n in range(len(raw)))) == events
    for place in range(len(raw) + 1):
        assert parsed(form, raw[:place], raw[place:]) == events


@given(st.sampled_from([Framing.JSON_ARRAY, Framing.AWS, Framing.LINES]), st.binary(max_size=300))
def test_garbage_is_refused_or_read(form: Framing, raw: bytes) -> None:
    """Bytes of no form give events or ``BadReply``, nothing else."""
    try:
        parsed(form, raw)
    except BadReply:
        return


@pytest.mark.parametrize(("form", "raw", "events"), [STREAMS[0], STREAMS[2]])
def test_a_stream_that_stops_early(form: Framing, raw: bytes, events: list[Event]) -> None:
    """An array without its end and a frame without its rest are noticed."""
    reader = framer(form)
    assert list(reader.feed(raw[:-1])) == events[: len(events) - (form is Framing.AWS)]
    with pytest.raises(BadReply, match="ended inside"):
        reader.end()


@pytest.mark.parametrize("raw", [b'{"a":1}', b"]", b"[]]", b"[}]"[:1] + b"]]"])
def test_not_an_array(raw: bytes) -> None:
    """A stream of another shape is not taken for an array."""
    with pytest.raises(BadReply):
        parsed(Framing.JSON_ARRAY, raw)


def test_checksums_are_verified() -> None:
    """One wrong bit anywhere in a frame, and nothing of it is used."""
    frame = FRAMES[0]
    for place in range(len(frame)):
        wrong = bytearray(frame)
        wrong[place] ^= 1
        reader = framer(Framing.AWS)
        with pytest.raises(BadReply, match="checksum"):
            list(reader.feed(bytes(wrong)))


def test_lengths_are_checked() -> None:
    """A frame that claims to be huge, or shorter than its headers, is refused at once."""
    for total, headers in ((1 << 30, 0), (10, 0), (20, 100)):
        prelude = struct.pack(">II", total, headers)
        with pytest.raises(BadReply, match="lengths"):
            list(framer(Framing.AWS).feed(prelude + struct.pack(">I", zlib.crc32(prelude))))


def test_headers_of_every_type() -> None:
    """Header values of other types than string are skipped by their length."""
    values = [b"\x00", b"\x01", b"\x02x", b"\x03xx", b"\x04xxxx", b"\x05" + b"x" * 8]
    values += [b"\x06\x00\x03xxx", b"\x08" + b"x" * 8, b"\x09" + b"x" * 16]
    packed = b"".join(b"\x01h" + value for value in values) + b"\x0b:event-type\x07\x00\x01e"
    prelude = struct.pack(">II", 16 + len(packed), len(packed))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed
    assert parsed(Framing.AWS, frame + struct.pack(">I", zlib.crc32(frame))) == [Event("", "e")]


@pytest.mark.parametrize("packed", [b"\x01h\x0f", b"\x01h\x07\x00\xff", b"\x05h", b"\x01h\x04x", b"\xff"])
def test_wrong_headers(packed: bytes) -> None:
    """Headers that run out of their place are refused."""
    prelude = struct.pack(">II", 16 + len(packed), len(packed))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed
    with pytest.raises(BadReply, match="headers"):
        parsed(Framing.AWS, frame + struct.pack(">I", zlib.crc32(frame)))


def test_bytes_of_a_frame_survive() -> None:
    """A payload that ends in half a character can be had back."""
    [event] = parsed(Framing.AWS, aws_frame(b"data: \xc3", message_type="event", event_type="PayloadPart"))
    assert event.data.encode("utf-8", "surrogateescape") == b"data: \xc3"


def test_an_endless_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of an array that does not end is not kept beyond the limit."""
    monkeypatch.setattr(framing, "MAX_EVENT", 1000)
    with pytest.raises(BadReply, match="longer than"):
        parsed(Framing.JSON_ARRAY, b'[{"a":"', *(b"x" * 100 for _ in range(20)))
