"""Tool calls of vendors that number content blocks."""

from inferd.core.results import CallDelta, Chunk, Delta
from inferd.wire.blocks import ToolBlocks, step


def test_calls_without_arguments() -> None:
    """Each call is numbered by itself, and one without arguments is owed an empty object before the next begins."""
    tools = ToolBlocks()
    first = tools.start(3, CallDelta(id="a", name="f", arguments=""))
    assert first == (CallDelta(index=0, id="a", name="f", arguments="", type="function"),)
    assert tools.piece(3, "") == CallDelta(index=0, arguments="")
    owed, second = tools.start(5, CallDelta(id="b", name="g", arguments=""))
    assert owed == CallDelta(index=0, arguments="{}")
    assert (second.index, second.id) == (1, "b")
    assert tools.piece(5, '{"x":1}') == CallDelta(index=1, arguments='{"x":1}')
    assert tools.owed() == ()
    assert len(tools.start(6, CallDelta(id="c", name="h", arguments='{"y":2}'))) == 1
    assert tools.owed() == ()
    tools.start(7, CallDelta(id="d", name="i"))
    assert tools.owed() == (CallDelta(index=3, arguments="{}"),)
    assert tools.owed() == ()


def test_native_steps() -> None:
    """The native form is there only where it differs."""
    base = Chunk(id="x", model="m")
    assert step(base, Delta(content="a")).native is None
    moved = step(base, Delta(content="a"), block=2, finish="stop")
    assert moved.native is not None
    assert (moved.choices[0].index, moved.native.choices[0].index) == (0, 2)
    assert moved.native.choices[0].delta == moved.choices[0].delta
    other = step(base, Delta(content="a"), native=Delta())
    assert other.native is not None
    assert other.native.choices[0].delta == Delta()
