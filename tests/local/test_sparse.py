"""Weighted vocabulary entries."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tiny_model import row, tokenizer, write

from inferd.core.inputs import InputType, Texts
from inferd.core.results import Sparse
from inferd.core.tasks import TaskType
from inferd.local import engine, vocabulary
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Activation, Recipe
from inferd.local.engine import Precision
from inferd.local.graphs import Head
from inferd.local.host import Host, HostOptions
from inferd.local.session import Weights
from inferd.local.sparse import MlmSparse, TableSparse, heaviest
from inferd.local.tokens import Tokenizer

SKY = "The sky above the port was the color of television tuned to a dead channel."


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host(HostOptions(models_dir=Path("/nonexistent")))
    for side in ("both", "document", "query"):
        await made.deploy(side, f".minilm-sparse:{side}")
    yield made
    await made.close(1.0)


async def expand(host: Host, *texts: str, side: str = "both", kind: InputType | None = None) -> Sparse:
    return await host.expand(side, Texts(texts, kind), asyncio.get_running_loop().time() + 60)


async def test_a_text_is_its_words_and_words_near_them(host: Host) -> None:
    """The sky sentence: its own content words first, then plurals, synonyms and spellings; stop words weigh little."""
    (found,) = (await expand(host, SKY)).vectors
    weights = dict(zip(found.tokens, found.weights, strict=True))
    assert set(found.tokens[:7]) == {"sky", "port", "color", "television", "tuned", "dead", "channel"}
    assert {"colour", "channels", "tv", "skies", "ports"} <= weights.keys()
    assert "the" not in weights
    assert len(found.tokens) == 128
    assert list(found.weights) == sorted(found.weights, reverse=True)
    assert found.weights.dtype == np.float32
    assert min(found.weights) > 0


async def test_sides_differ_in_how_much_they_keep(host: Host) -> None:
    """A document keeps more entries than a query; the input type of a request changes nothing."""
    sizes = {}
    for side in ("both", "document", "query"):
        (found,) = (await expand(host, SKY, side=side)).vectors
        (other,) = (await expand(host, SKY, side=side, kind=InputType.SEARCH)).vectors
        assert found.tokens == other.tokens
        sizes[side] = len(found.tokens)
    assert sizes == {"query": 30, "both": 128, "document": 256}


async def test_what_belongs_together_scores_higher(host: Host) -> None:
    """The dot product prefers a passage about the same thing without a common word."""
    query, near, far = (await expand(host, "automobile repair", "he fixes cars", "baking bread")).vectors
    of_query = dict(zip(query.tokens, query.weights, strict=True))

    def score(tokens: tuple[str, ...], weights: np.ndarray) -> float:
        return sum(of_query.get(token, 0.0) * weight for token, weight in zip(tokens, weights, strict=True))

    assert score(near.tokens, near.weights) > 2 * score(far.tokens, far.weights)


async def test_texts_without_words_and_long_texts(host: Host) -> None:
    """Nothing to say gives no entry; a text that is cut says so."""
    found = await expand(host, "", "?! ...", "port " * 300)
    assert [len(vector.tokens) for vector in found.vectors[:2]] == [0, 0]
    assert found.truncated == (2,)
    assert found.usage is not None
    assert found.usage.used == 2 + 7 + 256


async def test_a_text_gives_the_same_bits_whatever_shares_its_batch(host: Host) -> None:
    """Alone and in random mixes, short and longer than one stride: no bit differs."""
    chance = random.Random(3)
    texts = [" ".join(chance.choices(SKY.split(), k=chance.choice([1, 3, 8, 90]))) for _ in range(12)]
    alone = [(await expand(host, text)).vectors[0] for text in texts]
    for _ in range(3):
        order = chance.sample(range(12), 12)
        mixed = (await expand(host, *(texts[i] for i in order))).vectors
        for i, found in zip(order, mixed, strict=True):
            assert found.tokens == alone[i].tokens
            assert found.weights.tobytes() == alone[i].weights.tobytes()


def weights_of(directory: Path, output: str | None = None) -> Weights:
    return Weights(
        lambda: engine.find("openvino").open(
            directory / "model.onnx", output=output, threads=1, width=1, precision=Precision.F32
        )
    )


@pytest.mark.parametrize("head", [Head.MAXIMA, Head.MASKED])
@pytest.mark.parametrize(
    ("activation", "function"),
    [(Activation.LOG1P_RELU, np.log1p), (Activation.LOG1P_LOG1P_RELU, lambda x: np.log1p(np.log1p(x)))],
)
def test_a_masked_head_is_pooled_and_activated(
    tmp_path: Path, head: Head, activation: Activation, function
) -> None:
    """log(1 + relu) of the maximum over the tokens, special tokens left out, by falling weight."""
    directory = write(tmp_path, head)
    model = row(TaskType.SPARSE_EMBEDDING, Recipe.MLM_SPARSE, activation=activation)
    runner = MlmSparse(model, Tokenizer(tokenizer()), weights_of(directory))
    pieces = runner.encode("a b c")
    (found,) = runner.run([Text(pieces[0])], Lane.SEARCH)
    logits = weights_of(write(tmp_path / "logits", Head.MASKED))
    with logits.lease(Lane.SEARCH) as session:
        highest = session.run(np.array([pieces[0].ids]))[0].max(axis=0)
    expected = {
        token: function(max(0.0, highest[id]))
        for token, id in tokenizer().get_vocab().items()
        if highest[id] > 0 and not token.startswith("[")
    }
    assert dict(zip(found.tokens, found.weights, strict=True)) == pytest.approx(expected, rel=1e-4)
    assert list(found.weights) == sorted(found.weights, reverse=True)


def test_a_query_without_a_model_is_its_tokens_from_a_table(tmp_path: Path) -> None:
    """Each token once, at its weight; unknown and special ones count nothing."""
    (tmp_path / "idf.json").write_text(json.dumps({"a": 2.5, "b": 4.0, "c": 0.0, "[CLS]": 9.0}))
    model = row(TaskType.SPARSE_EMBEDDING, Recipe.MLM_SPARSE, query_idf="idf.json")
    runner = TableSparse(model, Tokenizer(tokenizer()), tmp_path / "idf.json")
    (found,) = runner.run([Text(runner.encode("a b a c zzz")[0])], Lane.SEARCH)
    assert (found.tokens, list(found.weights)) == (("b", "a"), [4.0, 2.5])


def test_equal_weights_keep_the_vocabularys_order() -> None:
    """Ties are broken the same way every time."""
    found = heaviest(np.array([1, 3, 0, 1, 3], np.float32), 3, False, "abcde")
    assert found.tokens == ("b", "e", "a")


def test_words_are_rare_by_their_rank() -> None:
    """From 0 for the commonest to 1 for the rarest."""
    found = vocabulary.rarity(1000)
    assert found[0] == 0
    assert found[-1] == 1
    assert (np.diff(found) > 0).all()
    assert vocabulary.rarity(1)[0] == 0
    assert [vocabulary.is_word(t) for t in ("sky", "a", "##ing", "3d", "[CLS]", "東京")] == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]
