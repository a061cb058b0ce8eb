"""The rows of the catalogue, held against each other and against what can run them."""

import re
from pathlib import Path

import pytest

from inferd.cli.models import describe, markdown_table
from inferd.config import load
from inferd.core.tasks import TaskType
from inferd.local.catalogue import (
    BUNDLED,
    ELASTIC,
    MODELS,
    STAND_INS,
    TRUE_NAMES,
    Activation,
    Kind,
    Model,
    Recipe,
    find,
)
from inferd.local.encoders import FAMILIES
from inferd.local.names import named

TASKS = {
    Recipe.DENSE: TaskType.TEXT_EMBEDDING,
    Recipe.LATE_INTERACTION: TaskType.RERANK,
    Recipe.CROSS_ENCODER: TaskType.RERANK,
    Recipe.VOCABULARY_SPARSE: TaskType.SPARSE_EMBEDDING,
    Recipe.MLM_SPARSE: TaskType.SPARSE_EMBEDDING,
}
EVERY = pytest.mark.parametrize("model", [*MODELS, *ELASTIC], ids=lambda model: model.id)


def test_ids_are_unique_and_found() -> None:
    """find gives each row by its id, to the letter, and nothing else."""
    assert len({model.id for model in MODELS}) == len(MODELS)
    assert all(find(model.id) is model for model in MODELS)
    assert find(MODELS[0].id.upper()) is None
    assert find("") is None


@EVERY
def test_rows_are_complete(model: Model) -> None:
    """A row says what its recipe needs and nothing that it does not."""
    dense = model.recipe is Recipe.DENSE
    assert model.task is TASKS[model.recipe]
    assert (model.dimensions is not None) is dense
    assert (model.pooling is not None) is dense
    assert (model.similarity is not None) is dense
    assert dense or not (model.normalise or model.query_prefix or model.passage_prefix)
    assert (model.activation is Activation.IDENTITY) or model.recipe in (
        Recipe.MLM_SPARSE,
        Recipe.CROSS_ENCODER,
    )
    assert model.max_tokens >= 128
    assert all((model.licence, model.title, model.description, model.languages, model.parameters))


@EVERY
def test_every_model_can_be_run(model: Model) -> None:
    """Its files make a model, and a graph can be written for its architecture and head."""
    kinds = [file.kind for file in model.files]
    assert kinds[:2] == [Kind.CONFIG, Kind.TOKENIZER]
    assert Kind.WEIGHTS in kinds
    family = FAMILIES[model.architecture]
    assert model.recipe is not Recipe.MLM_SPARSE or family.masked
    assert model.recipe is not Recipe.CROSS_ENCODER or family.classes
    assert (model.query_idf is not None) is (Kind.IDF in kinds)
    if model.query_idf:
        assert next(file.path for file in model.files if file.kind is Kind.IDF) == model.query_idf


@EVERY
def test_nothing_is_invented(model: Model) -> None:
    """A hash is a whole hash or none; a revision is a commit or the branch; a repository is the model's own."""
    assert re.fullmatch(r"main|[0-9a-f]{40}", model.revision)
    for file in model.files:
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
    assert model.repository == model.id or model.bundled or model in ELASTIC


def test_only_free_licences_are_fetched() -> None:
    """Everything in the catalogue may be used for anything."""
    assert {model.licence for model in MODELS} == {"Apache-2.0", "MIT"}


def test_the_bundled_models_share_their_weights() -> None:
    """One file serves the three bundled models, and its hash is known."""
    assert len({model.files for model in BUNDLED}) == 1
    assert all(model.bundled for model in BUNDLED)
    assert not any(model.bundled for model in MODELS[len(BUNDLED) :])
    assert next(x for x in BUNDLED[0].files if x.kind is Kind.WEIGHTS).sha256 is not None


def test_elastics_names_lead_to_models_of_their_task() -> None:
    """ELSER is answered by a sparse model, the reranker by a reranker, E5 by E5; stand-ins are bundled."""
    assert all((model := find(id)) and model.bundled for id in STAND_INS.values())
    tasks = {name: model.task for name, id in STAND_INS.items() if (model := find(id))}
    assert tasks[".elser_model_2"] is TaskType.SPARSE_EMBEDDING
    assert tasks[".rerank-v1"] is TaskType.RERANK
    assert set(TRUE_NAMES.values()) == {"intfloat/multilingual-e5-small"}
    assert all(find(name) is None for name in (*STAND_INS, *TRUE_NAMES))


def test_elastics_rows_need_a_named_copy() -> None:
    """A name of Elastic's is a row only when models.repository says where its weights are."""
    for model in ELASTIC:
        assert named(model.id, {}) is None
        assert named(model.id, {model.id: "/a/copy"}) is model
    assert named("thenlper/gte-base", {}) is find("thenlper/gte-base")


def test_the_documents_table_is_the_catalogue() -> None:
    """docs/models.md holds the rows as they are: run `inferd models list --markdown` after a change."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    table = markdown_table(describe(load(environ={"HOME": "/nowhere"})))
    assert table in text
    assert text.count("\n| `") == len(MODELS)
