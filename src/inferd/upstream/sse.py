"""Bytes into server-sent events. https://html.spec.whatwg.org/multipage/server-sent-events.html

Lines end in LF, CRLF or CR, wherever the network cuts them; characters are decoded only when their line is whole.
"""

from inferd.core.service import BadReply, Event

MAX_EVENT = 8 << 20
"""Bytes of one line and of one event; a provider that sends more is not answered any further."""

_BOM = b"\xef\xbb\xbf"


class Lines:
    """Bytes into whole lines, without their ends."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Lines that ``data`` completes. ``BadReply`` when a line grows beyond ``MAX_EVENT``."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > MAX_EVENT:
            raise BadReply(f"A line of the stream is longer than [{MAX_EVENT}] bytes")
        return lines

    def end(self) -> list[bytes]:
        """What stood after the last line end."""
        rest, self._parts, self._size = b"".join(self._parts), [], 0
        return [rest] if rest else []


class Sse:
    """Bytes into events: ``data`` lines joined, the ``event`` name; comments and other fields are left out."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""

    def feed(self, data: bytes) -> list[Event]:
        """Events that ``data`` completes. ``BadReply`` when an event grows beyond ``MAX_EVENT``."""
        return self._events(self._lines.feed(data))

    def end(self) -> list[Event]:
        """The last event where a provider leaves out the blank line after it."""
        return self._events([*self._lines.end(), b""])

    @staticmethod
    def is_last(event: Event) -> bool:
        """``[DONE]``, in any letter case."""
        return len(event.data) < 16 and event.data.strip().upper() == "[DONE]"

    def _events(self, lines: list[bytes]) -> list[Event]:
        events = []
        for line in lines:
            if line.startswith(b"data: "):  # nearly all of them
                self._add(line[6:])
            elif line:
                self._field(line)
            else:
                if self._data:
                    events.append(self._event())
                self._name = b""
        return events

    def _event(self) -> Event:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data, self._size = [], 0
        return Event(
            data=data.decode("utf-8", "replace"),
            name=self._name.decode("utf-8", "replace") if self._name else "",
        )

    def _field(self, line: bytes) -> None:
        # Elasticsearch writes a byte-order mark before every event, the specification allows one at the start.
        name, _, value = line.removeprefix(_BOM).partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._name = value

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value)
        if self._size > MAX_EVENT:
            raise BadReply(f"An event of the stream is longer than [{MAX_EVENT}] bytes")
