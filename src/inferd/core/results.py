"""What inference gives back: embeddings, sparse vectors, a ranking, completions, chat chunks.

One result is rendered by every dialect, so the floats are the same whichever client asks.
"""

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Float32s = npt.NDArray[np.float32]


class ElementType(StrEnum):
    FLOAT = "float"
    BYTE = "byte"
    BIT = "bit"


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one call: given = used + dropped. ``used`` are those that the model saw."""

    given: int
    used: int
    output: int = 0
    cached: int | None = None
    reasoning: int | None = None

    @property
    def dropped(self) -> int:
        return self.given - self.used

    def as_chat(self) -> "ChatUsage":
        return ChatUsage(
            prompt_tokens=self.used,
            completion_tokens=self.output,
            total_tokens=self.used + self.output,
            cached_tokens=self.cached,
            reasoning_tokens=self.reasoning,
        )


class Embeddings(Struct, frozen=True, kw_only=True):
    """``vectors``: float32 (n, dimensions), or int8 (n, bytes) for byte and bit elements."""

    vectors: npt.NDArray[Any]
    element: ElementType = ElementType.FLOAT
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()
    """Indexes of the inputs that were cut."""
    notices: tuple[str, ...] = ()
    """What the caller must be told (stand-in models, fallbacks): Warning headers."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers of the provider's answer that go on to the caller, under the names the caller knows."""


class SparseVector(Struct, frozen=True):
    """Tokens by falling weight."""

    tokens: tuple[str, ...]
    weights: Float32s
    is_truncated: bool = False


class Sparse(Struct, frozen=True, kw_only=True):
    vectors: tuple[SparseVector, ...]
    usage: Usage | None = None
    notices: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def truncated(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate(self.vectors) if v.is_truncated)


class Ranked(Struct, frozen=True):
    """``score`` holds a float32 value; ``index`` is the position in the request."""

    index: int
    score: float
    text: str | None = None


class Ranking(Struct, frozen=True, kw_only=True):
    items: tuple[Ranked, ...]
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Completion(Struct, frozen=True, kw_only=True):
    texts: tuple[str, ...]
    usage: Usage | None = None
    truncated: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class CallDelta(Struct, frozen=True, kw_only=True, gc=False):
    """A piece of a tool call (or, in a whole answer, the call)."""

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    type: str | None = None


class Delta(Struct, frozen=True, kw_only=True, gc=False):
    """A piece of the model's message."""

    content: str | None = None
    refusal: str | None = None
    role: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[CallDelta, ...] | None = None
    reasoning_details: tuple[dict[str, Any], ...] | None = None


class Choice(Struct, frozen=True, kw_only=True, gc=False):
    delta: Delta
    index: int = 0
    finish_reason: str | None = None


class ChatUsage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class Chunk(Struct, frozen=True, kw_only=True, gc=False):
    """One step of a chat (api.md 7.4). A completion stream is made of the same chunks; only text is kept there.

    There are many of them and nothing in them refers back: the garbage collector need not know of them.
    """

    id: str
    choices: tuple[Choice, ...] = ()
    model: str | None = None
    usage: ChatUsage | None = None
    native: "Chunk | None" = None
    """The step as Elasticsearch prints it, where its provider's numbering and words differ from OpenAI's: block numbers as choice
    indexes, ``end_turn`` for ``stop``, usage in pieces. The members above are always in OpenAI's terms."""


class ChatAnswer(Struct, frozen=True, kw_only=True):
    """A whole chat answer: each choice's delta is the complete message."""

    id: str
    choices: tuple[Choice, ...]
    model: str | None = None
    usage: ChatUsage | None = None
    notices: tuple[str, ...] = ()


Result = Embeddings | Sparse | Ranking | Completion | ChatAnswer


def collect(chunks: list[Chunk]) -> ChatAnswer:
    """A stream's chunks as one answer: texts joined, tool calls put together by index."""
    first = chunks[0] if chunks else Chunk(id="")
    messages: dict[int, dict[str, Any]] = {}
    usage: ChatUsage | None = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            message = messages.setdefault(choice.index, {"calls": {}, "details": []})
            delta = choice.delta
            for name in ("content", "refusal", "reasoning"):
                piece = getattr(delta, name)
                if piece is not None:
                    message[name] = message.get(name, "") + piece
            if delta.role is not None:
                message["role"] = delta.role
            if choice.finish_reason is not None:
                message["finish"] = choice.finish_reason
            message["details"].extend(delta.reasoning_details or ())
            for piece in delta.tool_calls or ():
                call = message["calls"].setdefault(piece.index, {"arguments": ""})
                call["arguments"] += piece.arguments or ""
                for name in ("id", "name", "type"):
                    if getattr(piece, name) is not None:
                        call[name] = getattr(piece, name)
    choices = tuple(
        Choice(
            index=index,
            finish_reason=m.get("finish"),
            delta=Delta(
                content=m.get("content"),
                refusal=m.get("refusal"),
                role=m.get("role", "assistant"),
                reasoning=m.get("reasoning"),
                tool_calls=tuple(
                    CallDelta(
                        index=n,
                        id=c.get("id"),
                        name=c.get("name"),
                        arguments=c["arguments"],
                        type=c.get("type", "function"),
                    )
                    for n, c in sorted(m["calls"].items())
                )
                or None,
                reasoning_details=tuple(m["details"]) or None,
            ),
        )
        for index, m in sorted(messages.items())
    )
    return ChatAnswer(
        id=next((c.id for c in chunks if c.id), first.id),
        choices=choices,
        model=next((c.model for c in chunks if c.model), None),
        usage=usage,
    )
