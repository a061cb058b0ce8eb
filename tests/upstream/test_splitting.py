"""More inputs than a provider takes at once."""

import asyncio
from typing import Any

import pytest
from acme import Provider

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Contents, Item, RankQuery, Texts
from inferd.core.results import Ranked, Ranking, Result, Usage
from inferd.core.service import Ask, BadReply
from inferd.core.tasks import TaskType
from inferd.errors import Rejected, UpstreamError
from inferd.testing import Answer, FakeUpstream
from inferd.upstream.parts import joined


class Echo(FakeUpstream):
    """Answers each text with a vector made of it, the later parts first."""

    broken: str | None = None

    def _next(self, path: str) -> Answer:
        import msgspec

        body = self.requests[-1].json
        if self.broken is not None and self.broken in body.get("input", ()):
            return Answer(status=400, body=b'{"error":{"message":"bad"}}')
        if "documents" in body:
            found: Any = {
                "results": [{"index": n, "score": float(d)} for n, d in enumerate(body["documents"])]
            }
        elif path.endswith("sparse"):
            found = {"vectors": [{text: 1.0} for text in body["input"]]}
        else:
            found = {"vectors": [[float(text)] for text in body["input"]]}
        return Answer(body=msgspec.json.encode(found), delay=0.02 / len(self.requests))


@pytest.fixture
async def echo() -> Any:
    async with Echo() as fake:
        yield Provider(fake, fake.client("acme"))


NUMBERS = Texts(tuple(str(n) for n in range(10)))


@pytest.mark.parametrize(("most", "requests"), [(3, 4), (5, 2), (9, 2), (10, 1), (11, 1), (1, 10)])
async def test_parts_come_back_in_order(echo: Provider, most: int, requests: int) -> None:
    """Any limit gives the same vectors in the order of the inputs; usage is summed."""
    echo.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=most)
    result = await echo.call(NUMBERS)
    assert result.vectors.ravel().tolist() == list(range(10))
    assert result.usage == Usage(given=10, used=10)
    assert len(echo.fake.requests) == requests
    assert max(len(r.json["input"]) for r in echo.fake.requests) <= most


async def test_the_limit_may_depend_on_the_ask(echo: Provider) -> None:
    """A function of the ask gives the limit."""
    echo.settings = {"model_id": "x"}
    echo.changed_call(
        TaskType.TEXT_EMBEDDING, max_inputs=lambda ask: 5 if ask.settings["model_id"] == "x" else 1
    )
    await echo.call(NUMBERS)
    assert len(echo.fake.requests) == 2


async def test_sparse_parts(echo: Provider) -> None:
    """Sparse vectors are joined in order too."""
    echo.changed_call(TaskType.SPARSE_EMBEDDING, max_inputs=4)
    result = await echo.call(NUMBERS, TaskType.SPARSE_EMBEDDING)
    assert [vector.tokens[0] for vector in result.vectors] == list(NUMBERS.texts)


async def test_ranking_parts(echo: Provider) -> None:
    """Documents keep the index they had, the best come first, and no more than asked for."""
    echo.changed_call(TaskType.RERANK, max_inputs=3)
    query = RankQuery("q", ("5", "1", "4", "9", "2", "6", "5"), top_n=4)
    result = await echo.call(query, TaskType.RERANK)
    assert [(item.index, item.score) for item in result.items] == [(3, 9), (5, 6), (0, 5), (6, 5)]


@pytest.mark.parametrize(("index", "kept"), [(-1, -1), (2, None), (-2, None)])
def test_a_place_outside_its_part(index: int, kept: int | None) -> None:
    """It never becomes a document of another part; -1 stays the place of an unnamed one."""
    endpoint = Endpoint(id="e", task=TaskType.RERANK, service="acme", settings={})
    ask = Ask(endpoint=endpoint, inputs=RankQuery("q", ("a", "b", "c", "d")))
    parts: list[Result] = [Ranking(items=()), Ranking(items=(Ranked(index=index, score=0.5),))]
    if kept is None:
        with pytest.raises(BadReply, match="ranks a document"):
            joined(ask, parts, 2)
        return
    result = joined(ask, parts, 2)
    assert isinstance(result, Ranking)
    assert [item.index for item in result.items] == [kept]


async def test_cut_inputs_keep_their_places(echo: Provider) -> None:
    """The marks of cut inputs are indexes of the whole request."""
    echo.settings = {"max_input_tokens": 1}
    echo.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=2)
    result = await echo.call(Texts(("1", "2222", "3", "4", "5555")))
    assert result.truncated == (1, 4)


async def test_a_failing_part_names_its_inputs(echo: Provider) -> None:
    """The error says which inputs it is about, and the other parts are given up."""
    assert isinstance(echo.fake, Echo)
    echo.fake.broken = "7"
    echo.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=3)
    with pytest.raises(UpstreamError) as caught:
        await echo.call(NUMBERS)
    assert caught.value.reason.endswith("Error message: [bad] (inputs [6] to [8] of [10])")
    assert caught.value.status == 400


async def test_not_more_than_a_few_at_once(provider: Provider) -> None:
    """Parts are sent four at a time."""
    provider.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=1)
    provider.fake.answer(headers={"Content-Length": "5"}, hang=True)
    task = asyncio.create_task(provider.call(NUMBERS))
    await asyncio.sleep(0.2)
    assert len(provider.fake.requests) == 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(provider.fake.left.wait(), 1)


async def test_a_part_with_the_wrong_number_of_vectors(provider: Provider) -> None:
    """Vectors that cannot be placed are an error, not silently shifted."""
    provider.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=2)
    provider.fake.answer(json={"vectors": [[1]]})
    with pytest.raises(UpstreamError, match=r"Expected \[2\] embeddings in the response but found \[1\]"):
        await provider.call(Texts(("a", "b", "c", "d")))


async def test_parts_of_different_width(provider: Provider) -> None:
    """Vectors of different length cannot be one answer."""
    provider.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=1)
    provider.fake.answer(json={"vectors": [[1]]})
    provider.fake.answer(json={"vectors": [[1, 2]]})
    with pytest.raises(UpstreamError, match="differ in length"):
        await provider.call(Texts(("a", "b")))


async def test_parts_wait_for_the_rate_limit(provider: Provider) -> None:
    """Each part is a request of its own to the rate limiter; closing refuses those in line."""
    provider.settings = {"rate_limit": {"requests_per_minute": 1}}
    provider.changed_call(TaskType.TEXT_EMBEDDING, max_inputs=1)
    provider.fake.answer(json={"vectors": [[1]]})
    await provider.call()
    task = asyncio.create_task(provider.call(Texts(("a", "b"))))
    await asyncio.sleep(0.02)
    await provider.upstream.close()
    with pytest.raises(Rejected, match="has shutdown prior to executing request"):
        await task
    assert len(provider.fake.requests) == 1


async def test_groups_of_contents(echo: Provider) -> None:
    """The embedding task's groups are split the same way."""
    from inferd.core.service import Ask

    def body(ask: Ask) -> Any:
        assert isinstance(ask.inputs, Contents)
        return {"input": [group[0].value for group in ask.inputs.groups]}

    embed = echo.service.calls[TaskType.TEXT_EMBEDDING]
    from msgspec.structs import replace

    echo.changed(calls={TaskType.EMBEDDING: replace(embed, body=body, max_inputs=2)})
    result = await echo.call(Contents(tuple((Item(str(n)),) for n in range(5))), TaskType.EMBEDDING)
    assert result.vectors.ravel().tolist() == [0, 1, 2, 3, 4]
