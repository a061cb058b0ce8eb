"""The tokenizers of local models, for clients that speak in token ids (OpenAI's token arrays, ``/tei/{id}/tokenize``)."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from inferd.errors import IllegalArgument, StatusError
from inferd.local import shelf
from inferd.local.catalogue import Model
from inferd.local.host import TOKENIZER, Host
from inferd.local.tokens import clean

T = TypeVar("T")

_KEPT = 8
"""Tokenizers kept in memory."""
MOST = 1_000_000
"""Characters of one request for tokens: each takes some 150 bytes while the tokenizer works."""
_INLINE = 4096
"""Characters, or ids, that are worked on by the event loop; more goes to a thread."""


class Token(Struct, frozen=True):
    """One token of a text. ``start`` and ``stop`` are characters; a special token stands nowhere."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Lexicon:
    """Made anywhere; used on one event loop. Every method raises 400 for what is not a local model's name."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loaded: OrderedDict[str, Any] = OrderedDict()

    def model(self, name: str | None) -> Model | None:
        """The local model of this name; None where another server has the model."""
        served = self._host.resolve(name) if name else None
        return None if served is None else served.model

    async def texts_of(self, name: str | None, rows: Sequence[Sequence[int]]) -> tuple[str, ...]:
        """Token ids back into texts, special tokens left out."""
        tokenizer = await self._tokenizer(name)
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        for row in rows:
            for id in row:
                if not 0 <= id < size:
                    raise IllegalArgument(
                        f"token id [{id}] is not one of the [{size}] of model [{name}]; send texts, or ids of this model's tokenizer"
                    )
        return tuple(await _off(sum(map(len, rows)), lambda: [tokenizer.decode(list(row)) for row in rows]))

    async def token_ids(self, name: str | None, tokens: Sequence[str]) -> list[int]:
        """The ids of vocabulary entries. Raises 400 for one that is none."""
        tokenizer = await self._tokenizer(name)
        ids = []
        for token in tokens:
            id = tokenizer.token_to_id(token)
            if id is None:
                raise IllegalArgument(f"[{token}] is not in the vocabulary of model [{name}]")
            ids.append(int(id))
        return ids

    async def tokenize(self, name: str | None, texts: Sequence[str], special: bool) -> list[list[Token]]:
        """The tokens of each text, with the model's special tokens around them where ``special``. Raises 413."""
        tokenizer = await self._tokenizer(name)
        size = sum(map(len, texts))
        if size > MOST:
            raise StatusError(
                413, f"[{size}] characters; tokens are given for at most [{MOST}] in one request"
            )
        return await _off(size, lambda: [_tokens(tokenizer, clean(text), special) for text in texts])

    async def _tokenizer(self, name: str | None) -> Any:
        model = self.model(name)
        if model is None:
            raise IllegalArgument("token ids are only known for models that run here; send texts")
        found = self._loaded.get(model.id)
        if found is None:
            place = self._host.place(model)
            if place is None:
                raise StatusError(404, shelf.missing(model))
            found = await asyncio.to_thread(_load, str(place / TOKENIZER))
            self._loaded[model.id] = found
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        else:
            self._loaded.move_to_end(model.id)
        return found


def _load(path: str) -> Any:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _tokens(tokenizer: Any, text: str, special: bool) -> list[Token]:
    encoded = tokenizer.encode(text, add_special_tokens=special)
    rows = zip(encoded.ids, encoded.tokens, encoded.offsets, encoded.special_tokens_mask, strict=True)
    return [
        Token(id, token, bool(mask), None if mask else start, None if mask else stop)
        for id, token, (start, stop), mask in rows
    ]


async def _off(size: int, work: Callable[[], T]) -> T:
    return work() if size <= _INLINE else await asyncio.to_thread(work)
