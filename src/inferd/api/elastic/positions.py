"""JSON token by token, each with its line and column: for bodies that are wrong, huge or odd.

Lines and columns start at 1; a column counts bytes, as the reference's parser of UTF-8 does. Unpaired surrogates in
strings become U+FFFD.
"""

import json
import re
from enum import StrEnum
from typing import Any

from inferd.errors import BadBody, TruncatedBody

DEEPEST = 200
MOST_TOKENS = 1_000_000
LONGEST_STRING = 50_000_000
"""Bytes. One string is read in one piece, and nothing else runs meanwhile."""
_LONGEST_NUMBER = 1000


class Kind(StrEnum):
    START_OBJECT = "START_OBJECT"
    END_OBJECT = "END_OBJECT"
    START_ARRAY = "START_ARRAY"
    END_ARRAY = "END_ARRAY"
    FIELD_NAME = "FIELD_NAME"
    VALUE_STRING = "VALUE_STRING"
    VALUE_NUMBER = "VALUE_NUMBER"
    VALUE_BOOLEAN = "VALUE_BOOLEAN"
    VALUE_NULL = "VALUE_NULL"


class Malformed(BadBody):
    """Not JSON at all, or beyond a limit: told as it is, never as the fault of one field."""


_BLANK = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)((?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)")
_SHOWN = 12
"""Characters of a word that is none."""
_WORD = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$]*+")
_WORDS: dict[bytes, tuple[Kind, Any]] = {
    b"true": (Kind.VALUE_BOOLEAN, True),
    b"false": (Kind.VALUE_BOOLEAN, False),
    b"null": (Kind.VALUE_NULL, None),
}
_BOM = b"\xef\xbb\xbf"


class Tokens:
    """A cursor over one JSON text; ``kind``, ``value`` and ``mark`` tell of the token it stands on."""

    __slots__ = ("_at", "_body", "_count", "_fresh", "_names", "kind", "start", "value")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = len(_BOM) if body.startswith(_BOM) else 0
        self._names: list[set[str] | None] = []
        """One entry an open container: the names seen in an object, None for an array."""
        self._fresh = True
        self._count = 0
        self.start = self._at
        self.kind: Kind | None = None
        self.value: Any = None

    @property
    def mark(self) -> str:
        """``[line:column]`` of the current token."""
        newline = self._body.rfind(b"\n", 0, self.start)
        line = self._body.count(b"\n", 0, self.start) + 1
        return f"[{line}:{self.start - newline}]"

    def next(self) -> Kind:
        """Step to the next token. Errors: Malformed, TruncatedBody."""
        self._count += 1
        if self._count > MOST_TOKENS:
            raise self._malformed(f"more than [{MOST_TOKENS}] values in a request body")
        byte = self._skip()
        if not self._names or self.kind is Kind.FIELD_NAME:
            self.kind = self._value(byte)
        elif (names := self._names[-1]) is None:
            self.kind = self._item(byte)
        else:
            self.kind = self._member(byte, names)
        return self.kind

    def read(self) -> Any:
        """The whole value that starts at the current token; the cursor ends on its last one."""
        if self.kind is Kind.START_OBJECT:
            members = {}
            while self.next() is not Kind.END_OBJECT:
                name = self.value
                self.next()
                members[name] = self.read()
            return members
        if self.kind is Kind.START_ARRAY:
            items = []
            while self.next() is not Kind.END_ARRAY:
                items.append(self.read())
            return items
        return self.value

    def finish(self) -> None:
        """Nothing but blanks may follow the value."""
        self._at = self.start = self._blank(self._at)
        if self._at < len(self._body):
            raise self._unexpected("expected the end of the body")

    def _blank(self, at: int) -> int:
        match = _BLANK.match(self._body, at)
        return match.end() if match else at

    def _skip(self) -> int:
        """The first byte of the next token."""
        self.start = self._at = self._blank(self._at)
        if self._at >= len(self._body):
            raise self._truncated()
        return self._body[self._at]

    def _item(self, byte: int) -> Kind:
        if byte == 0x5D:
            return self._close(Kind.END_ARRAY)
        if not self._fresh:
            byte = self._comma(byte, "Array")
        return self._value(byte)

    def _member(self, byte: int, names: set[str]) -> Kind:
        if byte == 0x7D:
            return self._close(Kind.END_OBJECT)
        if not self._fresh:
            byte = self._comma(byte, "Object")
        if byte != 0x22:
            raise self._unexpected("was expecting double-quote to start field name")
        self._string()
        if self.value in names:
            raise self._malformed(f"Duplicate field '{self.value}'")
        names.add(self.value)
        self._colon()
        return Kind.FIELD_NAME

    def _colon(self) -> None:
        start = self.start
        if self._skip() != 0x3A:
            raise self._unexpected("was expecting a colon to separate field name and value")
        self._at += 1
        self.start = start

    def _comma(self, byte: int, container: str) -> int:
        if byte != 0x2C:
            raise self._unexpected(f"was expecting comma to separate {container} entries")
        self._at += 1
        return self._skip()

    def _value(self, byte: int) -> Kind:
        if byte == 0x22:
            self._string()
            self._fresh = False
            return Kind.VALUE_STRING
        if byte == 0x7B:
            return self._open(Kind.START_OBJECT, set())
        if byte == 0x5B:
            return self._open(Kind.START_ARRAY, None)
        self._fresh = False
        if byte == 0x2D or 0x30 <= byte <= 0x39:
            self._number()
            return Kind.VALUE_NUMBER
        return self._word()

    def _open(self, kind: Kind, names: set[str] | None) -> Kind:
        if len(self._names) >= DEEPEST:
            raise self._malformed(f"nested deeper than [{DEEPEST}] levels")
        self._names.append(names)
        self._fresh = True
        self._at += 1
        self.value = None
        return kind

    def _close(self, kind: Kind) -> Kind:
        self._names.pop()
        self._fresh = False
        self._at += 1
        self.value = None
        return kind

    def _string(self) -> None:
        match = _STRING.match(self._body, self._at)
        end = match.end() if match else self._at
        if self._body[end : end + 1] != b'"':
            raise self._unclosed(end)
        if end - self._at > LONGEST_STRING:
            raise self._malformed(
                f"String value length ({end - self._at - 1}) exceeds the maximum allowed ({LONGEST_STRING})"
            )
        raw = self._body[self._at : end + 1]
        try:
            text = json.loads(raw) if b"\\" in raw else raw[1:-1].decode()
        except UnicodeDecodeError as error:
            self.start = self._at + error.start + (b"\\" not in raw)
            raise self._malformed(f"Invalid UTF-8 byte 0x{error.object[error.start]:02x}") from None
        except json.JSONDecodeError as error:
            self.start = self._at + error.pos
            raise self._malformed(f"Unrecognized character escape: {error.msg}") from None
        self.value = mended(text)
        self._at = end + 1
        self._fresh = False

    def _unclosed(self, end: int) -> BadBody:
        rest = self._body[end : end + 2]
        if rest in (b"", b"\\"):
            return self._truncated()
        self.start = end
        code = self._body[end]
        return self._malformed(
            f"Illegal unquoted character ((CTRL-CHAR, code {code})): has to be escaped using backslash "
            "to be included in string value"
            if code < 0x20
            else f"Unrecognized character escape (CTRL-CHAR, code {self._body[end + 1]})"
        )

    def _number(self) -> None:
        match = _NUMBER.match(self._body, self._at)
        if match is None:
            self.start = self._at = self._at + 1
            if self._at >= len(self._body):
                raise self._truncated()
            raise self._unexpected("expected digit (0-9) to follow minus sign, for valid numeric value")
        raw = match[0]
        if len(raw) > _LONGEST_NUMBER:
            raise self._malformed(
                f"Number value length ({len(raw)}) exceeds the maximum allowed ({_LONGEST_NUMBER})"
            )
        self.value = float(raw) if match[1] else int(raw)
        if self.value in (float("inf"), float("-inf")):
            raise self._malformed(f"Number [{raw.decode()[:40]}] is out of range")
        self._at = match.end()

    def _word(self) -> Kind:
        match = _WORD.match(self._body, self._at)
        if match is None:
            raise self._unexpected(
                "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
            )
        if match[0] not in _WORDS:
            # A value that lost its quotes may be a secret: enough is shown to find it.
            shown = match[0].decode() if len(match[0]) <= _SHOWN else f"{match[0][:_SHOWN].decode()}…"
            raise self._malformed(
                f"Unrecognized token '{shown}': was expecting (JSON String, Number, Array, Object or token "
                "'null', 'true' or 'false')"
            )
        kind, self.value = _WORDS[match[0]]
        self._at = match.end()
        return kind

    def _malformed(self, reason: str) -> Malformed:
        return Malformed(f"{self.mark} {reason}")

    def _unexpected(self, expected: str) -> Malformed:
        self.start = self._at
        text = self._body[self._at : self._at + 4].decode("utf-8", "replace")[:1]
        return self._malformed(f"Unexpected character ('{text}' (code {ord(text)})): {expected}")

    def _truncated(self) -> TruncatedBody:
        self.start = len(self._body)
        opened = "" if not self._names else f" within {'Array' if self._names[-1] is None else 'Object'}"
        return TruncatedBody(f"{self.mark} Unexpected end-of-input{opened}")


def mended(text: str) -> str:
    """Unpaired surrogates replaced; any other text as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
