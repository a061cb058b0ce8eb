"""A model of random weights and a vocabulary of letters, as a directory that the engine can run."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from inferd.core.tasks import TaskType
from inferd.local import graphs
from inferd.local.catalogue import Model, Recipe
from inferd.local.graphs import Head

RECORDS = json.loads((Path(__file__).parent / "graphs.json").read_text())
LETTERS = "abcdefghijklmnopqr"


def record(head: str, model_type: str = "bert") -> dict:
    return next(x for x in RECORDS if x["config"]["model_type"] == model_type and x["head"] == head)


def write(directory: Path, head: Head, *, poison: float | None = None) -> Path:
    """``poison`` is put into the last letter's embedding."""
    directory.mkdir(parents=True, exist_ok=True)
    recorded = record("masked" if head is Head.MAXIMA else head)
    weights = {name: weight(name, shape) for name, shape in recorded["tensors"].items()}
    if poison is not None:
        name = next(name for name in weights if "word_embeddings" in name)
        weights[name][4 + len(LETTERS)] = poison
    graphs.save(
        graphs.build(weights, recorded["config"], head, storage=graphs.Storage.FLOAT32),
        directory / "model.onnx",
    )
    tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def weight(name: str, shape: list[int]) -> np.ndarray:
    values = np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    return values.astype(np.float32)


def tokenizer() -> Tokenizer:
    words = {
        "[PAD]": 0,
        "[UNK]": 1,
        "[CLS]": 2,
        "[SEP]": 3,
        **{c: 4 + i for i, c in enumerate(LETTERS)},
        "bad": 22,
    }
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def row(task: TaskType, recipe: Recipe, **more: object) -> Model:
    facts = {
        "id": "tiny",
        "task": task,
        "recipe": recipe,
        "repository": "someone/tiny",
        "files": (),
        "architecture": "bert",
        "max_tokens": 12,
        "licence": "MIT",
        "parameters": 1,
        "title": "tiny",
        "description": "tiny",
    }
    return Model(**{**facts, **more})
