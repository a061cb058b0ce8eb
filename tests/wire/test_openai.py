"""OpenAI's chunks: read in one pass where they are plain, member by member where they are not, with the same outcome."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.results import Chunk
from inferd.core.service import BadReply, Event
from inferd.wire import openai

TEXT = st.none() | st.text(max_size=5) | st.integers(0, 3)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("content", "role", "refusal", "reasoning", "reasoning_content"), TEXT),
        "odd": TEXT,
    },
)
CHOICE = st.fixed_dictionaries(
    {"delta": DELTA, "index": st.integers(-1, 3) | st.booleans()}, optional={"finish_reason": TEXT}
)
CHUNK = st.fixed_dictionaries(
    {"id": st.text(max_size=3) | st.integers(0, 3), "choices": st.lists(CHOICE, max_size=2)},
    optional={"model": TEXT, "object": TEXT, "usage": st.none()},
)


def outcome(read: Any, body: Any) -> Any:
    try:
        return list(read(Event(data=msgspec.json.encode(body).decode())))
    except BadReply as bad:
        return str(bad)


@given(CHUNK)
def test_plain_chunks_are_read_like_all_others(body: dict[str, Any]):
    """A usage that is none of a known kind makes the reader careful, and changes nothing else."""
    careful = {**body, "usage": "none"}
    for read in (openai.chunks(None), openai.lenient_chunks(None)):
        assert outcome(read, body) == outcome(read, careful)


def test_plain_and_not():
    """A plain chunk, one with a tool call, one with usage, one that is none."""
    read = openai.chunks(None)

    def chunk(more: str = "", delta: str = '{"content":"a"}') -> list[Chunk]:
        return list(read(Event(data=f'{{"id":"i","choices":[{{"index":1,"delta":{delta}}}]{more}}}')))

    (plain,) = chunk()
    assert (plain.id, plain.choices[0].index, plain.choices[0].delta.content) == ("i", 1, "a")
    (called,) = chunk(delta='{"tool_calls":[{"index":2,"function":{"name":"f"}}]}')
    assert (called.choices[0].delta.tool_calls[0].index, called.choices[0].delta.tool_calls[0].name) == (
        2,
        "f",
    )
    (used,) = chunk(more=',"usage":{"prompt_tokens":1,"completion_tokens":2}')
    assert used.usage is not None
    assert used.usage.total_tokens == 3
    assert outcome(read, {"id": "i"}) == "Required [choices]"
    for choices in ({}, "", "none", 1, None):
        assert outcome(read, {"id": "i", "choices": choices}) == "Required [choices]"
