"""Names, deployments and their lives."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tiny_model import write

from inferd.core.inputs import RankQuery, Texts
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, NotFound, StatusError
from inferd.local import catalogue, shelf
from inferd.local.graphs import Head
from inferd.local.host import Host, HostOptions, Side
from inferd.local.shelf import BUNDLED

ADAPTIVE = {"enabled": True, "min_number_of_allocations": 0, "max_number_of_allocations": 32}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(HostOptions(models_dir=tmp_path))
    yield made
    await made.close(1.0)


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


def test_the_bundled_files_are_there_and_small() -> None:
    """Everything a bundled model needs, with its licence and origin, in at most 64 MB."""
    names = {path.name for path in BUNDLED.iterdir()}
    assert names == {
        "LICENSE",
        "README.md",
        "SHA256SUMS",
        "model.onnx",
        "tokenizer.json",
        "vocabulary.npz",
        "vocabulary.onnx",
    }
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 64_000_000


async def test_elastics_names_are_stand_ins_that_say_so(host: Host) -> None:
    """ELSER and the reranker are served by bundled models, with a notice; E5 is the true one or none."""
    for name in (".elser_model_1", ".elser_model_2", ".elser_model_2_linux-x86_64"):
        served = host.resolve(name)
        assert served is not None
        assert served.model.id == ".minilm-sparse"
        assert served.stand_in
        assert served.notices == (
            f"model [{name}] is served by the stand-in [.minilm-sparse]; see models.aliases",
        )
    served = host.resolve(".rerank-v1")
    assert served is not None
    assert (served.model.id, served.stand_in) == (".minilm-late-interaction", True)
    for name in (".multilingual-e5-small", ".multilingual-e5-small_linux-x86_64"):
        served = host.resolve(name)
        assert served is not None
        assert (served.model.id, served.stand_in, served.notices) == (
            "intfloat/multilingual-e5-small",
            False,
            (),
        )
    assert all(catalogue.find(target) for target in catalogue.STAND_INS.values())


async def test_names_of_models_and_sides(host: Host, tmp_path: Path) -> None:
    """A model's own name needs no notice; a sparse model may be told its side; nonsense is nobody."""
    served = host.resolve(".all-minilm-l6-v2")
    assert served is not None
    assert (served.stand_in, served.notice) == (False, None)
    served = host.resolve(".elser_model_2:query")
    assert served is not None
    assert (served.side, served.model.id) == (Side.QUERY, ".minilm-sparse")
    for name in ("nope", "", ".minilm-sparse:left", ".all-minilm-l6-v2:query", ":"):
        assert host.resolve(name) is None
    other = Host(
        HostOptions(
            models_dir=tmp_path,
            aliases={".multilingual-e5-small": ".all-minilm-l6-v2", "mine": ".minilm-sparse"},
        )
    )
    served = other.resolve(".multilingual-e5-small")
    assert served is not None
    assert served.stand_in
    served = other.resolve("mine")
    assert served is not None
    assert not served.stand_in
    await other.close()
    with pytest.raises(IllegalArgument, match=r"sparse_side \[top\]"):
        Host(HostOptions(models_dir=tmp_path, sparse_side="top"))


async def test_answers_of_a_stand_in_carry_its_notice(host: Host) -> None:
    """Sparse and ranking results alike."""
    await host.deploy("s", ".elser_model_2")
    await host.deploy("r", ".rerank-v1")
    sparse = await host.expand("s", Texts(("port",)), soon())
    ranking = await host.rank("r", RankQuery("port", ("sea",)), soon())
    assert "stand-in [.minilm-sparse]" in sparse.notices[0]
    assert "stand-in [.minilm-late-interaction]" in ranking.notices[0]


async def test_an_absent_model_says_what_to_run(host: Host) -> None:
    """The true E5 is not here: 404 with the command; nothing is left behind."""
    with pytest.raises(StatusError, match=r"inferd models pull intfloat/multilingual-e5-small") as caught:
        await host.deploy("e5", ".multilingual-e5-small", adaptive=ADAPTIVE)
    assert caught.value.status == 404
    assert not host.deployed("e5")
    with pytest.raises(NotFound, match=r"\[nope\]"):
        await host.deploy("x", "nope")


async def test_a_fetched_model_is_served(tmp_path: Path) -> None:
    """A model on the shelf is run from there, with its prefixes counted."""
    model = catalogue.find("intfloat/multilingual-e5-small")
    assert model is not None
    home = tmp_path / shelf.slug(model.id)
    directory = write(home / "one", Head.STATES)
    held = tuple(
        shelf.Held(name=path.name, size=path.stat().st_size, sha256="") for path in directory.iterdir()
    )
    manifest = shelf.Manifest(
        id=model.id, repository=model.repository, commit=None, directory="one", files=held
    )
    (home / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    host = Host(HostOptions(models_dir=tmp_path))
    await host.deploy("e5", ".multilingual-e5-small")
    found = await host.embed("e5", Texts(("a b",)), soon())
    assert found.vectors.shape == (1, 16)
    assert found.notices == ()
    assert found.usage is not None
    assert found.usage.given > 4
    await host.close(1.0)


async def test_many_first_requests_deploy_once(host: Host) -> None:
    """Twenty at the same time: one deployment, everybody waits for it."""
    await asyncio.gather(*(host.deploy("d", ".all-minilm-l6-v2", adaptive=ADAPTIVE) for _ in range(20)))
    assert len(host.statistics()) == 1
    assert host.allocations("d") == 1


async def test_a_start_past_its_deadline_is_408_and_goes_on(host: Host) -> None:
    """The caller is told; the model is there a little later."""
    with pytest.raises(StatusError) as caught:
        await host.deploy("d", ".all-minilm-l6-v2", deadline=asyncio.get_running_loop().time(), timeout="1ms")
    assert caught.value.status == 408
    assert "[1ms]" in caught.value.reason
    await host.deploy("d", ".all-minilm-l6-v2")
    assert (await host.embed("d", Texts(("port",)), soon())).vectors.shape == (1, 384)


async def test_deployments_of_the_same_model_share_its_weights(host: Host) -> None:
    """Dense, sparse and rerank over one encoder load it once; the last one to go frees it."""
    for id, model in (("d", ".all-minilm-l6-v2"), ("s", ".minilm-sparse"), ("r", ".rerank-v1")):
        await host.deploy(id, model, adaptive=ADAPTIVE)
    assert len(host._weights) == 2
    assert len(host._tokenizers) == 1
    for id in ("d", "s", "r"):
        await host.undeploy(id)
    gc.collect()
    assert len(host._weights) == 0
    assert len(host._tokenizers) == 0


async def test_allocations_are_bounded_by_the_processors(host: Host) -> None:
    """32 adaptive allocations are a wish; workers are what the machine has."""
    await host.deploy("d", ".all-minilm-l6-v2", adaptive=ADAPTIVE)
    (found,) = host.statistics()
    assert (found.least, found.allocations) == (0, 1)
    assert 1 <= found.most <= 32
    await host.update("d", num_allocations=1)
    (found,) = host.statistics()
    assert (found.least, found.most) == (1, 1)
    await host.update("unknown", num_allocations=3)
    small = Host(HostOptions(models_dir=Path("/nonexistent"), max_allocations=1))
    await small.deploy("d", ".all-minilm-l6-v2", num_allocations=8)
    assert small.allocations("d") == 1
    await small.close(1.0)


async def test_what_is_not_deployed_or_does_something_else_is_refused(host: Host) -> None:
    """404 for an unknown deployment, 400 for the wrong task."""
    with pytest.raises(StatusError, match=r"Cannot find deployment \[d\]"):
        await host.embed("d", Texts(("a",)), soon())
    await host.deploy("d", ".all-minilm-l6-v2")
    with pytest.raises(StatusError, match=rf"does not serve \[{TaskType.SPARSE_EMBEDDING}\]"):
        await host.expand("d", Texts(("a",)), soon())
    assert host.allocations("x") is None
    await host.undeploy("x")


async def test_closing_stops_everything(tmp_path: Path) -> None:
    """After close nothing is deployed any more and nothing starts."""
    host = Host(HostOptions(models_dir=tmp_path))
    await host.deploy("d", ".all-minilm-l6-v2")
    await host.close(1.0)
    assert not host.deployed("d")
    with pytest.raises(StatusError, match="stopping"):
        await host.deploy("d", ".all-minilm-l6-v2")
