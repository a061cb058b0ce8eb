"""Streams of vendors that number content blocks, in OpenAI's terms: one choice, tool calls numbered by themselves.

The chunks' native form, which Elasticsearch prints, has a block's number as the choice's index, and every call has index 0.
"""

from msgspec.structs import replace

from inferd.core.results import CallDelta, Choice, Chunk, Delta


class ToolBlocks:
    """The tool calls of one stream, by the numbers of their blocks."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._empty: int | None = None
        """The open call, as long as no piece of its arguments has come."""

    def start(self, block: int, call: CallDelta) -> tuple[CallDelta, ...]:
        """The call's first piece under its own number, after what the call before it still owes."""
        owed = self.owed()
        number = self._numbers.setdefault(block, len(self._numbers))
        self._empty = None if call.arguments else number
        return (*owed, replace(call, index=number, type="function"))

    def piece(self, block: int, arguments: str) -> CallDelta:
        if arguments:
            self._empty = None
        return CallDelta(index=self._numbers.get(block, 0), arguments=arguments)

    def owed(self) -> tuple[CallDelta, ...]:
        """A call without arguments gets no piece from these vendors; its caller still has to be able to read them."""
        number, self._empty = self._empty, None
        return () if number is None else (CallDelta(index=number, arguments="{}"),)


def step(
    base: Chunk, delta: Delta, *, native: Delta | None = None, block: int = 0, finish: str | None = None
) -> Chunk:
    """``base`` with one choice; ``native`` is given where the vendor's delta differs."""
    chunk = replace(base, choices=(Choice(delta=delta, finish_reason=finish),))
    if native is None and block == 0:
        return chunk
    shown = Choice(delta=delta if native is None else native, index=block, finish_reason=finish)
    return replace(chunk, native=replace(base, choices=(shown,)))
