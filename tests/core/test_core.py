"""Ids, tasks, secrets, collected streams."""

import pickle

import pytest

from inferd.core.endpoint import check_id
from inferd.core.results import CallDelta, ChatUsage, Choice, Chunk, Delta, collect
from inferd.core.secrets import Secret, masked
from inferd.core.tasks import TaskType, default_timeout
from inferd.errors import InferdError, InvalidRequest, StatusError


@pytest.mark.parametrize("id", ["a", "7", "my-e5", "a.b_c-d", "x" * 1000])
def test_good_ids(id: str) -> None:
    """Lower case, digits, inner punctuation; no length limit."""
    check_id(id)


@pytest.mark.parametrize("id", ["", "A", "my id", "-a", "a-", ".a", "ä", "a\n", "a/b", "٣"])
def test_bad_ids(id: str) -> None:
    """The contract's text, whatever is wrong."""
    with pytest.raises(InvalidRequest) as told:
        check_id(id)
    assert told.value.reason == (
        f"Validation Failed: 1: Invalid inference_id; '{id}' can contain lowercase alphanumeric (a-z and 0-9), hyphens or "
        "underscores; must start and end with alphanumeric;"
    )


def test_tasks_are_parsed_in_any_case() -> None:
    """Blanks around and letter case do not matter."""
    assert TaskType.parse(" Text_Embedding ") is TaskType.TEXT_EMBEDDING
    with pytest.raises(StatusError, match=r"Unknown task_type \[foo\]"):
        TaskType.parse("foo")


def test_default_timeouts() -> None:
    """Chat kinds get two minutes."""
    assert (default_timeout(TaskType.RERANK), default_timeout(TaskType.CHAT_COMPLETION)) == (30.0, 120.0)


def test_a_secret_never_prints() -> None:
    """repr, str, formatting and nesting give stars; pickling is refused."""
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {masked({'a': [secret]})}"
    assert "hunter2" not in shown
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("x")
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_every_failure_has_status_and_type() -> None:
    """The tree is walked: no class without both."""
    classes = [InferdError]
    for kind in classes:
        classes.extend(kind.__subclasses__())
    assert len(classes) > 10
    assert all(kind.type for kind in classes)


def test_a_stream_is_collected() -> None:
    """Text joined, tool calls put together by index, the last usage kept."""

    def chunk(**delta: object) -> Chunk:
        return Chunk(id="1", model="m", choices=(Choice(delta=Delta(**delta)),))  # type: ignore[arg-type]

    usage = ChatUsage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    answer = collect(
        [
            chunk(role="assistant", content="Hel"),
            chunk(content="lo"),
            chunk(tool_calls=(CallDelta(index=0, id="c", name="f", arguments='{"a"'),)),
            chunk(tool_calls=(CallDelta(index=0, arguments=":1}"),)),
            Chunk(id="1", choices=(Choice(delta=Delta(), finish_reason="stop"),)),
            Chunk(id="1", usage=usage),
        ]
    )
    (choice,) = answer.choices
    assert choice.delta.content == "Hello"
    assert choice.finish_reason == "stop"
    assert choice.delta.tool_calls == (
        CallDelta(index=0, id="c", name="f", arguments='{"a":1}', type="function"),
    )
    assert (answer.usage, answer.model, answer.id) == (usage, "m", "1")


def test_an_empty_stream_is_an_empty_answer() -> None:
    """No chunk, no choice."""
    assert collect([]).choices == ()
