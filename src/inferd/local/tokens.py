"""Text into token ids, with the model's own tokenizer; what does not fit is counted, not lost silently.

Texts are encoded without special tokens and wrapped here, so that a long text is cut before it is wrapped and every
text tells how many tokens it was given.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from inferd.errors import IllegalArgument

_PIECE = 16_384
"""Characters given to the tokenizer at once: it needs some hundred bytes a character while it works."""

_OVER: ContextVar[Callable[[], bool] | None] = ContextVar("over", default=None)


@contextmanager
def until(over: Callable[[], bool]) -> Iterator[None]:
    """In this block a long text is given up between two pieces, with ``TimeoutError``, once ``over()``."""
    token = _OVER.set(over)
    try:
        yield
    finally:
        _OVER.reset(token)


class Tokens(Struct, frozen=True, gc=False):
    """``ids`` as the model reads them. ``given``: how many the whole text has, special tokens included."""

    ids: list[int]
    given: int
    types: list[int] | None = None
    """Token types of a pair."""

    @property
    def truncated(self) -> bool:
        return self.given > len(self.ids)


class _Wrap(Struct, frozen=True):
    """The special tokens around one text, or around and between two; with the token type of each."""

    head: list[int]
    middle: list[int]
    tail: list[int]
    types: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)

    @property
    def size(self) -> int:
        return len(self.head) + len(self.middle) + len(self.tail)


class Tokenizer:
    """Thread-safe; encoding releases the interpreter lock."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._one = self._probe()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a ``tokenizer.json``."""
        import tokenizers

        return cls(tokenizers.Tokenizer.from_file(str(path)))

    def _probe(self) -> _Wrap:
        """Which special tokens go where, read off an example."""
        bare = self._bare("a")
        full = self._tokenizer.encode("a").ids
        start = _position(full, bare, 0)
        return _Wrap(full[:start], [], full[start + len(bare) :])

    @cached_property
    def _two(self) -> _Wrap:
        first, second = self._bare("a"), self._bare("b")
        encoded = self._tokenizer.encode("a", "b")
        ids, types = encoded.ids, encoded.type_ids
        one = _position(ids, first, 0)
        end = one + len(first)
        two = _position(ids, second, end)
        after = two + len(second)
        kinds = (
            types[0],
            types[one],
            types[end] if two > end else types[one],
            types[two],
            types[-1],
        )
        return _Wrap(ids[:one], ids[end:two], ids[after:], kinds)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Tokens by id."""
        known = self._tokenizer.get_vocab(with_added_tokens=True)
        tokens = [""] * (max(known.values()) + 1)
        for token, id in known.items():
            tokens[id] = token
        return tuple(tokens)

    @cached_property
    def special(self) -> frozenset[int]:
        """Ids of the tokens that stand for no text."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    def _bare(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _ids(self, text: str, keep: int) -> tuple[list[int], int]:
        """The first ``keep`` ids of a text and the number of all."""
        if len(text) <= _PIECE:
            ids = self._bare(text)
            return ids[:keep], len(ids)
        kept: list[int] = []
        count = 0
        over = _OVER.get()
        for piece in pieces(text, _PIECE):
            if over is not None and over():
                raise TimeoutError
            ids = self._bare(piece)
            count += len(ids)
            kept.extend(ids[: keep - len(kept)])
        return kept, count

    def encode(self, text: str, limit: int, prefix: str = "") -> Tokens:
        """One text, cut to ``limit`` tokens at its end; special tokens count."""
        wrap = self._one
        ids, count = self._ids(clean(prefix + text), max(0, limit - wrap.size))
        return _whole([*wrap.head, *ids, *wrap.tail], count + wrap.size)

    def encode_all(self, texts: Iterable[str], limit: int, prefix: str = "") -> list[Tokens]:
        return [self.encode(text, limit, prefix) for text in texts]

    def bare(self, text: str, keep: int) -> tuple[list[int], int]:
        """The first ``keep`` ids of a text without special tokens, and the number of all."""
        return self._ids(clean(text), keep)

    def encode_pieces(self, text: str, limit: int, most: int) -> list[Tokens]:
        """A long text as up to ``most`` inputs of at most ``limit`` tokens; what does not fit counts on the last."""
        wrap = self._one
        kept, count = self.bare(text, (limit - wrap.size) * most)
        made = [
            _whole([*wrap.head, *piece, *wrap.tail], wrap.size + len(piece))
            for piece in windows(kept, limit - wrap.size, most)
        ]
        return _with_dropped(made, count - len(kept))

    def pair_pieces(self, first: Sequence[int], text: str, limit: int, most: int) -> list[Tokens]:
        """The same after a first text's bare ids, which must leave room (``room``)."""
        size = self.room(limit) - len(first)
        kept, count = self.bare(text, size * most)
        made = [self._pair(first, piece) for piece in windows(kept, size, most)]
        return _with_dropped(made, count - len(kept))

    def _pair(self, first: Sequence[int], second: Sequence[int]) -> Tokens:
        wrap = self._two
        parts = (wrap.head, first, wrap.middle, second, wrap.tail)
        ids = [id for part in parts for id in part]
        types = [kind for part, kind in zip(parts, wrap.types, strict=True) for _ in part]
        return Tokens(ids, len(ids), types)

    def room(self, limit: int) -> int:
        """Tokens that two texts may have together."""
        return limit - self._two.size


def clean(text: str) -> str:
    """Lone surrogates are no text: each becomes U+FFFD, as in any UTF-8 encoder."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def pieces(text: str, size: int) -> Iterator[str]:
    """The text in pieces of at most ``size`` characters, cut before white space where there is some."""
    start = 0
    while len(text) - start > size:
        end = start + size
        cut = next((at for at in range(end, start + size // 2, -1) if text[at].isspace()), end)
        yield text[start:cut]
        start = cut
    yield text[start:]


def windows(ids: Sequence[int], size: int, most: int) -> list[Sequence[int]]:
    """A long text's ids in at most ``most`` pieces of ``size``; at least one, perhaps empty."""
    starts = range(0, max(1, len(ids)), size)
    return [ids[start : start + size] for start in starts[:most]]


def _whole(ids: list[int], given: int) -> Tokens:
    """No model reads nothing: where there are no special tokens, an empty text is entry 0, by habit the padding."""
    return Tokens(ids, given) if ids else Tokens([0], 1)


def _with_dropped(made: list[Tokens], dropped: int) -> list[Tokens]:
    last = made[-1]
    return [*made[:-1], Tokens(last.ids, last.given + dropped, last.types)]


def _position(ids: list[int], part: list[int], start: int) -> int:
    for at in range(start, len(ids) - len(part) + 1):
        if ids[at : at + len(part)] == part:
            return at
    raise IllegalArgument("The tokenizer changes a text's tokens when it adds special ones")
