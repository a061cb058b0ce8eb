"""Vectors: right, the same every time, and counted."""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_model import row, write

from inferd.core.inputs import InputType, Texts
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.local import engine
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Recipe
from inferd.local.dense import Dense, normalise, pool
from inferd.local.engine import Precision
from inferd.local.graphs import Head
from inferd.local.host import GRAPH, TOKENIZER, Host, HostOptions
from inferd.local.session import Weights
from inferd.local.shelf import BUNDLED
from inferd.local.tokens import Tokenizer

SKY = "The sky above the port was the color of television tuned to a dead channel."
WORDS = [
    "sky",
    "port",
    "colour",
    "television",
    "dead",
    "channel",
    "the",
    "of",
    "to",
    "a",
    "was",
    "wing",
    "flow",
    "supersonic",
    "aeroelastic,",
    "3.14",
    "é",
    "東京",
]


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host(HostOptions(models_dir=Path("/nonexistent")))
    yield made
    await made.close(1.0)


async def embed(host: Host, id: str, *texts: str, kind: InputType | None = None) -> np.ndarray:
    deadline = asyncio.get_running_loop().time() + 60
    return (await host.embed(id, Texts(texts, kind), deadline)).vectors


def forward(ids: list[int]) -> np.ndarray:
    """BERT's forward pass (arXiv:1810.04805) in plain float64, on the shipped weights."""
    tensors = onnx.load(BUNDLED / GRAPH).graph.initializer
    weights = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in tensors}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight.T"] + weights[f"{name}.bias"]

    n = len(ids)
    table = {
        part: weights[f"embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")
    }
    x = norm(table["word"][ids] + table["position"][:n] + table["token_type"][0], "embeddings")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(n, 12, 32).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(32))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, 384)
        x = norm(linear(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output")
        inner = linear(x, f"{at}.intermediate.dense")
        inner *= 0.5 * (1 + np.vectorize(math.erf)(inner / np.sqrt(2)))
        x = norm(linear(inner, f"{at}.output.dense") + x, f"{at}.output")
    return x


async def test_vectors_are_those_of_the_published_recipe(host: Host) -> None:
    """Mean of the token states, normalised: cosine to a plain forward pass above 0.99999."""
    await host.deploy("d", ".all-minilm-l6-v2")
    tokenizer = Tokenizer.load(BUNDLED / TOKENIZER)
    for text in (SKY, "", "東京 and 🙂", "a " * 40):
        (vector,) = await embed(host, "d", text)
        expected = forward(tokenizer.encode(text, 256).ids).mean(axis=0)
        assert vector.dtype == np.float32
        assert abs(np.linalg.norm(vector) - 1) < 1e-6
        assert vector @ expected / np.linalg.norm(expected) > 0.99999


async def test_a_text_gives_the_same_bits_whatever_shares_its_batch(host: Host) -> None:
    """Alone, in random mixes, by two allocations, with two threads, and in a new process' place: no bit differs."""
    chance = random.Random(5)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(0, 14))) for _ in range(40)]
    await host.deploy("one", ".all-minilm-l6-v2")
    await host.deploy("two", ".all-minilm-l6-v2", num_allocations=2)
    await host.deploy("threads", ".all-minilm-l6-v2", num_threads=2)
    alone = {text: (await embed(host, "one", text))[0].tobytes() for text in texts}
    for id in ("one", "two", "threads"):
        for _ in range(4):
            mixes = [chance.sample(texts, chance.randint(1, 20)) for _ in range(4)]
            found = await asyncio.gather(*(embed(host, id, *mix) for mix in mixes))
            for mix, vectors in zip(mixes, found, strict=True):
                assert [vector.tobytes() for vector in vectors] == [alone[text] for text in mix]
    other = Host(HostOptions(models_dir=Path("/nonexistent"), batch_tokens=1000))
    await other.deploy("again", ".all-minilm-l6-v2")
    assert [vector.tobytes() for vector in await embed(other, "again", *texts)] == [alone[t] for t in texts]
    await other.close(1.0)


async def test_a_long_text_is_cut_and_says_so(host: Host) -> None:
    """What is cut is named by index and counted; the vector is that of the part that was kept."""
    await host.deploy("d", ".all-minilm-l6-v2")
    deadline = asyncio.get_running_loop().time() + 60
    found = await host.embed("d", Texts((SKY, "port " * 300, "port " * 254)), deadline)
    assert found.truncated == (1,)
    assert found.usage is not None
    assert (found.usage.given, found.usage.used, found.usage.dropped) == (18 + 302 + 256, 18 + 256 + 256, 46)
    assert (found.vectors[1] == found.vectors[2]).all()


def tiny(tmp_path: Path, *, poison: float | None = None, **facts: object) -> Dense:
    directory = write(tmp_path / "tiny", Head.STATES, poison=poison)

    def load() -> engine.Program:
        return engine.find("openvino").open(
            directory / "model.onnx", output=None, threads=1, width=1, precision=Precision.F32
        )

    model = row(TaskType.TEXT_EMBEDDING, Recipe.DENSE, **facts)
    return Dense(model, Tokenizer.load(directory / "tokenizer.json"), Weights(load))


def test_prefixes_go_by_input_type(tmp_path: Path) -> None:
    """Searches get the query's words, everything else the passage's, and they count as tokens."""
    runner = tiny(tmp_path, query_prefix="q ", passage_prefix="p p ", pooling="mean", normalise=True)
    assert runner.prefix(InputType.SEARCH) == runner.prefix(InputType.INTERNAL_SEARCH) == "q "
    for kind in (InputType.INGEST, InputType.CLUSTERING, InputType.UNSPECIFIED, None):
        assert runner.prefix(kind) == "p p "
    (found,) = runner.encode("a", "p p ")
    assert found.given == 5


def test_a_vector_that_is_not_finite_is_an_error_of_its_text_alone(tmp_path: Path) -> None:
    """500 naming the model for the poisoned text, a vector for its neighbour in the batch."""
    runner = tiny(tmp_path, poison=1e38, pooling="mean", normalise=True)
    good, bad = runner.run([Text(runner.encode(text)[0]) for text in ("a b", "a bad")], Lane.SEARCH)
    assert np.isfinite(good).all()
    assert isinstance(bad, StatusError)
    assert (bad.status, bad.reason) == (500, "The model [tiny] gave numbers that are not finite")


@pytest.mark.parametrize(
    ("how", "expected"), [("mean", [2, 3]), ("cls", [0, 1]), ("last", [4, 5]), (None, [2, 3])]
)
def test_pooling(how: str | None, expected: list[float]) -> None:
    """Mean, first or last token; a graph's own vectors pass."""
    states = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    np.testing.assert_array_equal(pool(states, how), [expected])
    np.testing.assert_array_equal(pool(states[:, 0], how), states[:, 0])


def test_a_zero_vector_stays() -> None:
    """Normalising nothing gives nothing, not NaN."""
    np.testing.assert_array_equal(normalise(np.zeros((1, 3), np.float32)), np.zeros((1, 3)))
