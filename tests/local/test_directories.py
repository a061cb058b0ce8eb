"""Models of the user's own: what their files say, and that they run."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fake_hub import tiny_files
from tiny_model import tokenizer

from inferd.core.inputs import RankQuery, Texts
from inferd.errors import StatusError
from inferd.local.catalogue import Activation, Model, Recipe
from inferd.local.directories import read
from inferd.local.host import Host, HostOptions
from inferd.local.shelf import ShelfError

POOLING = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}


def write(directory: Path, head: str, architecture: str = "bert", **config: Any) -> Path:
    """A tiny model as transformers saves it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in tiny_files(architecture, head).items():
        (directory / name).write_bytes(content)
    tokenizer().save(str(directory / "tokenizer.json"))
    known = json.loads((directory / "config.json").read_text())
    if head == "classes":
        known["id2label"] = {"0": "LABEL_0"}
    (directory / "config.json").write_text(json.dumps({**known, **config}))
    return directory


def sentence_transformer(directory: Path, *kinds: str, **files: Any) -> Path:
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}" if i else "",
            "type": f"sentence_transformers.x.{kind}",
        }
        for i, kind in enumerate(("Transformer", *kinds))
    ]
    for name, content in {"modules": modules, **files}.items():
        path = directory / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return directory


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


def test_the_head_tells_the_task(tmp_path: Path) -> None:
    """An encoder embeds, a masked head makes sparse vectors, a classifier of one label ranks."""
    found = [read("mine", write(tmp_path / head, head)) for head in ("states", "masked", "classes")]
    assert [x.recipe for x in found] == [Recipe.DENSE, Recipe.MLM_SPARSE, Recipe.CROSS_ENCODER]
    assert [x.activation for x in found[1:]] == [Activation.LOG1P_RELU, Activation.SIGMOID]
    assert (found[0].dimensions, found[0].pooling, found[0].normalise, found[0].max_tokens) == (
        16,
        "mean",
        True,
        40,
    )


def test_the_files_of_sentence_transformers_count(tmp_path: Path) -> None:
    """Pooling, normalisation, prompts, similarity and the longest text are those that the model was trained with,
    whatever head its config.json remembers."""
    directory = sentence_transformer(
        write(tmp_path, "masked"),
        "Pooling",
        **{"1_Pooling__config": POOLING},
        sentence_bert_config={"max_seq_length": 9},
        config_sentence_transformers={
            "prompts": {"query": "ask: ", "document": "tell: "},
            "similarity_fn_name": "dot",
        },
    )
    found = read("mine", directory)
    assert (found.recipe, found.pooling, found.normalise, found.max_tokens) == (Recipe.DENSE, "cls", False, 9)
    assert (found.query_prefix, found.passage_prefix, found.similarity) == ("ask: ", "tell: ", "dot_product")


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
    ],
)
def test_poolings_old_and_new(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    """The keys of sentence-transformers before and since 5."""
    directory = sentence_transformer(
        write(tmp_path, "states"), "Pooling", "Normalize", **{"1_Pooling__config": config}
    )
    found = read("mine", directory)
    assert (found.pooling, found.normalise) == (pooling, True)


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({"activation_function": "relu"}, Activation.LOG1P_RELU),
        ({"activation_function": "log1p_relu", "pooling_strategy": "max"}, Activation.LOG1P_LOG1P_RELU),
    ],
)
def test_sparse_encoders(tmp_path: Path, config: dict[str, Any], activation: Activation) -> None:
    """SpladePooling makes sparse vectors of a masked head, with one logarithm or two."""
    directory = sentence_transformer(
        write(tmp_path, "masked"), "SpladePooling", **{"1_SpladePooling__config": config}
    )
    found = read("mine", directory)
    assert (found.recipe, found.activation) == (Recipe.MLM_SPARSE, activation)


def test_a_reranker_whose_logit_is_its_score(tmp_path: Path) -> None:
    """The activation is the one that the config names, in both of its spellings."""
    identity = "torch.nn.modules.linear.Identity"
    for config in (
        {"sbert_ce_default_activation_function": identity},
        {"sentence_transformers": {"activation_fn": identity}},
    ):
        found = read("mine", write(tmp_path, "classes", **config))
        assert found.activation is Activation.IDENTITY


def test_positions_that_no_token_may_have(tmp_path: Path) -> None:
    """RoBERTa counts from its padding id on: two positions fewer; a tokenizer's limit beyond them is no limit."""
    directory = write(tmp_path, "states", "roberta")
    (directory / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert read("mine", directory).max_tokens == 38


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", None, r"no file \[config.json\]"),
        ("config.json", "[]", "cannot be read"),
        ("config.json", "\xff", "cannot be read"),
        ("config.json", "{}", "hidden_size"),
        ("config.json", '{"max_position_embeddings": 1}', "too few"),
        ("config.json", '{"architectures": ["BertForSequenceClassification"]}', "2 labels"),
        ("modules.json", "{", "cannot be read"),
        ("modules.json", '[{"type": "a.Transformer"}, {"type": "a.Dense"}]', r"layer \[Dense\]"),
        ("modules.json", '[{"type": "a.Pooling", "path": "no"}]', r"no file \[no/config.json\]"),
        ("modules.json", '[{"type": "a.Pooling", "path": "."}]', "names no pooling"),
    ],
)
def test_what_is_no_model_here_is_said(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    """A directory that cannot be run is refused with the file and the reason."""
    write(tmp_path, "states")
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ShelfError, match=reason):
        read("mine", tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> dict[str, str]:
    heads = {"dense": "states", "sparse": "masked", "rank": "classes", ".elser_model_2": "masked"}
    return {id: str(write(tmp_path / id, head)) for id, head in heads.items()}


async def test_models_of_ones_own_answer(tmp_path: Path, repository: dict[str, str]) -> None:
    """Named in models.repository they are taken from their directories by the first deployment, and run."""
    host = Host(HostOptions(models_dir=tmp_path / "models", repository=repository))
    for id in repository:
        await host.deploy(id, id)
    vectors = await host.embed("dense", Texts(("a b", "c")), soon())
    assert vectors.vectors.shape == (2, 16)
    assert (vectors.vectors**2).sum(axis=1) == pytest.approx(1, abs=1e-5)
    for id in ("sparse", ".elser_model_2"):
        sparse = await host.expand(id, Texts(("a b",)), soon())
        assert len(sparse.vectors[0].tokens) > 0
        assert sparse.notices == ()
    ranking = await host.rank("rank", RankQuery("a", ("b", "c")), soon())
    assert all(0 < item.score < 1 for item in ranking.items)
    await host.close(1.0)


async def test_a_copy_elsewhere_replaces_what_was_fetched(tmp_path: Path) -> None:
    """Files that came from another place are not those that models.repository names now."""
    options = HostOptions(
        models_dir=tmp_path / "models", repository={"m": str(write(tmp_path / "a", "states"))}
    )
    host = Host(options)
    await host.deploy("m", "m")
    first = await host.embed("m", Texts(("a",)), soon())
    await host.close(1.0)
    other = Host(
        HostOptions(
            models_dir=tmp_path / "models", repository={"m": str(write(tmp_path / "b", "states", "mpnet"))}
        )
    )
    await other.deploy("m", "m")
    assert (await other.embed("m", Texts(("a",)), soon())).vectors.tolist() != first.vectors.tolist()
    await other.close(1.0)


async def test_a_directory_that_cannot_be_run_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start in the log, at a PUT as a 400; a graph that cannot be written as well."""
    broken = write(tmp_path / "broken", "states")
    (broken / "model.safetensors").write_bytes(b"nothing")
    repository = {"gone": str(tmp_path / "nowhere"), "broken": str(broken)}
    host = Host(HostOptions(models_dir=tmp_path / "models", repository=repository))
    assert "has no file [config.json]" in caplog.text
    with pytest.raises(StatusError, match="has no file") as gone:
        host.resolve("gone")
    with pytest.raises(StatusError, match=r"\[broken\] do not make a model") as bad:
        await host.deploy("d", "broken")
    assert (gone.value.status, bad.value.status) == (400, 400)
    assert not host.deployed("d")
    await host.close(1.0)


def test_a_row_is_a_row(tmp_path: Path) -> None:
    """What is read has the shape of the catalogue's rows."""
    found = read("mine", write(tmp_path, "states"))
    assert isinstance(found, Model)
    assert found.id == "mine"
    assert not found.bundled
