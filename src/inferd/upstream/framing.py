"""How providers cut their streams into events: one framer a form (``core.service.Framing``).

A framer takes bytes as they come (``feed``, to be iterated to its end or given up), says what is left at the end (``end``)
and knows the event that ends a stream (``is_last``). All raise ``BadReply`` for bytes that are not of their form, after
the events before them, and bound what they hold.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from inferd.core.service import BadReply, Event, Framing
from inferd.upstream.sse import MAX_EVENT, Lines, Sse


class Framer(Protocol):
    def feed(self, data: bytes) -> Iterable[Event]: ...

    def end(self) -> Iterable[Event]: ...

    @staticmethod
    def is_last(event: Event) -> bool: ...


def framer(framing: Framing) -> Framer:
    """A fresh framer for one stream."""
    return _FRAMERS[framing]()


class JsonLines:
    """One JSON value a line; blank lines mean nothing."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, data: bytes) -> list[Event]:
        return self._events(self._lines.feed(data))

    def end(self) -> list[Event]:
        return self._events(self._lines.end())

    @staticmethod
    def is_last(event: Event) -> bool:
        return False

    @staticmethod
    def _events(lines: list[bytes]) -> list[Event]:
        return [Event(data=line.decode("utf-8", "replace")) for line in lines if line.strip()]


class SseOrJsonLines(Sse):
    """Lines that start with a brace are JSON by themselves, the others server-sent events."""

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if line.startswith(b"{"):
                events.append(Event(data=line.decode("utf-8", "replace")))
            else:
                events += super()._events([line])
        return events


class JsonArray:
    """The members of one JSON array that is written piece by piece (Google without ``alt=sse``)."""

    _MARKS = re.compile(rb'["\\{}\[\]]')

    def __init__(self) -> None:
        self._member = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[Event]:
        start = 0
        for mark in self._marks(data):
            opens = data[mark] in b"{["
            if opens and self._depth == 1:
                start = mark
            self._depth += 1 if opens else -1
            if self._depth < 0 or (opens and self._depth == 1 and data[mark] != 0x5B):
                raise BadReply("The stream is not a JSON array")
            if not opens and self._depth == 1:
                self._member += data[start : mark + 1]
                yield Event(data=self._member.decode("utf-8", "replace"))
                self._member.clear()
        if self._depth > 1:
            self._member += data[start:]
        if len(self._member) > MAX_EVENT:
            raise BadReply(f"A member of the stream is longer than [{MAX_EVENT}] bytes")

    def end(self) -> list[Event]:
        if self._depth:
            raise BadReply("The stream ended inside its JSON array")
        return []

    @staticmethod
    def is_last(event: Event) -> bool:
        return False

    def _marks(self, data: bytes) -> list[int]:
        """Places of brackets that are not inside a string."""
        found = []
        skip = -1
        if self._escaped and data:
            skip, self._escaped = 0, False
        for match in self._MARKS.finditer(data):
            place = match.start()
            mark = data[place]
            if place == skip:
                continue
            if mark == 0x22:
                self._in_string = not self._in_string
            elif mark == 0x5C:
                skip = place + 1
                self._escaped = skip == len(data)
            elif not self._in_string:
                found.append(place)
        return found


_PRELUDE = struct.Struct(">III")


class AwsFrames:
    """Amazon's binary event stream, checksums verified.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html describes the frames.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        self._held += data
        while len(self._held) >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(self._held)
            if zlib.crc32(self._held[:8]) != checksum:
                raise BadReply("The checksum of a frame's prelude is wrong")
            if total > MAX_EVENT or headers > total - 16:
                raise BadReply("The lengths of a frame are wrong")
            if len(self._held) < total:
                break
            frame = bytes(self._held[:total])
            del self._held[:total]
            yield _event(frame, headers)

    def end(self) -> list[Event]:
        if self._held:
            raise BadReply("The stream ended inside a frame")
        return []

    @staticmethod
    def is_last(event: Event) -> bool:
        return False


def _event(frame: bytes, headers_length: int) -> Event:
    if zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "big"):
        raise BadReply("The checksum of a frame is wrong")
    headers = _headers(frame[12 : 12 + headers_length])
    data = frame[12 + headers_length : -4].decode("utf-8", "surrogateescape")
    kind = headers.get(":message-type", "event")
    if kind == "exception":
        return Event(data=data, name=headers.get(":exception-type", ""), failed=True)
    if kind == "error":
        return Event(
            data=headers.get(":error-message", data), name=headers.get(":error-code", ""), failed=True
        )
    return Event(data=data, name=headers.get(":event-type", ""))


_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header value by its type; 6 (bytes) and 7 (string) carry their length."""


def _headers(raw: bytes) -> dict[str, str]:
    """The string headers of a frame; values of other types are skipped."""
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        name_length = raw[at]
        name = raw[at + 1 : at + 1 + name_length].decode("utf-8", "replace")
        at += 1 + name_length
        kind = raw[at] if at < len(raw) else -1
        at += 1
        if kind in (6, 7):
            length = int.from_bytes(raw[at : at + 2], "big")
            at += 2
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise BadReply("A frame's headers are wrong")
        if at + length > len(raw):
            raise BadReply("A frame's headers are wrong")
        if kind == 7:
            found[name] = raw[at : at + length].decode("utf-8", "replace")
        at += length
    return found


_FRAMERS: dict[Framing, type[Framer]] = {
    Framing.SSE: Sse,
    Framing.LINES: JsonLines,
    Framing.SSE_OR_LINES: SseOrJsonLines,
    Framing.JSON_ARRAY: JsonArray,
    Framing.AWS: AwsFrames,
}
