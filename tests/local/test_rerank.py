"""A query and documents into scores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tiny_model import row, tokenizer, write

from inferd.core.inputs import Item, RankQuery
from inferd.core.results import Ranking
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.local import engine
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Activation, Recipe
from inferd.local.engine import Precision
from inferd.local.graphs import Head
from inferd.local.host import Host, HostOptions
from inferd.local.rerank import CrossEncoder, activate, best_match
from inferd.local.session import Weights
from inferd.local.tokens import Tokenizer

STARS = ("luke", "like", "leia", "chewy", "r2d2", "star", "wars")


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host(HostOptions(models_dir=Path("/nonexistent")))
    await made.deploy("r", ".minilm-late-interaction")
    yield made
    await made.close(1.0)


async def rank(host: Host, query: str | Item, *documents: str | Item, **more) -> Ranking:
    options = more.pop("options", None)
    deadline = asyncio.get_running_loop().time() + 60
    return await host.rank("r", RankQuery(query, documents, **more), deadline, "60s", options)


async def test_luke_is_the_main_character(host: Host) -> None:
    """The mission's example, scores to two digits; usage counts query and documents."""
    found = await rank(host, "star wars main character", *STARS)
    assert [(item.text, round(item.score, 2)) for item in found.items] == [
        ("luke", 0.51),
        ("leia", 0.49),
        ("star", 0.45),
        ("wars", 0.35),
        ("chewy", 0.31),
        ("r2d2", 0.28),
        ("like", 0.16),
    ]
    assert all(item.score == float(np.float32(item.score)) for item in found.items)
    assert found.usage is not None
    assert found.usage.given == found.usage.used == 32


async def test_top_n_and_return_documents(host: Host) -> None:
    """top_n cuts; the request's return_documents goes over the endpoint's."""
    found = await rank(host, "star wars", *STARS, top_n=2, options={"return_documents": False})
    assert [(item.index, item.text) for item in found.items] == [(5, None), (6, None)] or len(
        found.items
    ) == 2
    assert all(item.text is None for item in found.items)
    found = await rank(host, "star wars", *STARS, return_documents=True, options={"return_documents": False})
    assert all(item.text == STARS[item.index] for item in found.items)


async def test_equal_documents_keep_their_order(host: Host) -> None:
    """Same text, same score, to the bit; ties stay as they came."""
    found = await rank(host, "ports", "sea", "harbour", "sea", "harbour")
    assert [item.index for item in found.items] == [1, 3, 0, 2]
    assert found.items[0].score == found.items[1].score


async def test_a_long_document_is_cut_or_read_in_pieces(host: Host) -> None:
    """truncate: what stands at the end is not seen and the index is named; chunk: the best piece counts."""
    hidden = "the " * 400 + "luke skywalker is the main character of star wars"
    cut = await rank(host, "star wars main character", hidden, "bread")
    assert cut.truncated == (0,)
    assert cut.usage is not None
    assert cut.usage.dropped > 100
    whole = await rank(
        host, "star wars main character", hidden, "bread", options={"long_document_strategy": "chunk"}
    )
    assert whole.truncated == ()
    assert whole.items[0].index == 0
    assert whole.items[0].score > next(item.score for item in cut.items if item.index == 0) + 0.1
    some = await rank(
        host,
        "star wars main character",
        hidden,
        options={"long_document_strategy": "chunk", "max_chunks_per_doc": 1},
    )
    assert some.truncated == (0,)


async def test_items_of_text_are_texts_and_others_are_refused(host: Host) -> None:
    """The object form of queries and documents; images are another service's."""
    found = await rank(host, Item("port"), Item("harbour"), "bread")
    assert found.items[0].index == 0
    with pytest.raises(StatusError, match=r"only reads text, not \[image\]"):
        await rank(host, "port", Item("data:image/png;base64,AA==", "image"))


async def test_a_query_longer_than_the_model_is_cut_and_said(host: Host) -> None:
    """No silent cut: a notice tells how much of the query was read."""
    found = await rank(host, "port " * 300, "harbour")
    assert found.notices == ("the query was cut to 256 of its 302 tokens",)


def cross(tmp_path: Path, activation: Activation) -> CrossEncoder:
    directory = write(tmp_path, Head.CLASSES)
    weights = Weights(
        lambda: engine.find("openvino").open(
            directory / "model.onnx", output=None, threads=1, width=1, precision=Precision.F32
        )
    )
    model = row(TaskType.RERANK, Recipe.CROSS_ENCODER, activation=activation)
    return CrossEncoder(model, Tokenizer(tokenizer()), weights)


def test_a_cross_encoder_reads_both_texts_together(tmp_path: Path) -> None:
    """Its score is the activated logit of the pair as the tokenizer builds it."""
    runner = cross(tmp_path, Activation.SIGMOID)
    pieces = runner.documents(runner.query("a b"), "c d", 1)
    (score,) = runner.run([Text(pieces[0])], Lane.SEARCH)
    pair = tokenizer().encode("a b", "c d")
    with runner.weights.lease(Lane.SEARCH) as session:
        logit = session.run(np.array([pair.ids]), np.array([pair.type_ids]))[0, 0]
    assert score == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
    raw = cross(tmp_path / "raw", Activation.IDENTITY)
    assert raw.run([Text(pieces[0])], Lane.SEARCH) == [pytest.approx(float(logit), rel=1e-5)]


def test_a_long_query_leaves_room_for_the_document(tmp_path: Path) -> None:
    """A query takes half of the model's room at most, so every document is read in part."""
    runner = cross(tmp_path, Activation.SIGMOID)
    query = runner.query("a b c d e f g h i j k l")
    assert (len(query.ids), query.given) == (4, 12)
    (piece,) = runner.documents(query, "c d e f g h i j", 1)
    assert (len(piece.ids), piece.truncated) == (12, True)


def test_sigmoid_of_huge_logits_is_a_score() -> None:
    """No overflow: far out it is 0 and 1."""
    assert list(activate(np.array([-1e9, 0, 1e9], np.float32), Activation.SIGMOID)) == pytest.approx(
        [0, 0.5, 1]
    )


def test_best_match_is_the_mean_of_the_best_cosines() -> None:
    """Each query token finds its best document token."""
    query = np.array([[1, 0], [0, 1]], np.float32)
    document = np.array([[0.6, 0.8], [1, 0]], np.float32)
    assert best_match(query, document) == pytest.approx((1 + 0.8) / 2)
