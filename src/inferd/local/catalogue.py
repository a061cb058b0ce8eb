"""The models inferd knows, one row each: where the files are and how a text becomes a vector.

Facts are those of each model's public card at ``https://huggingface.co/<repository>``. What is not certain
is left out: a checksum that nobody here computed is None (the hub's own is checked at download all the same),
and a revision that nobody pinned is ``main`` (the commit it meant is written down at download).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from inferd.core.tasks import TaskType


class Recipe(StrEnum):
    """How a text, or a query and a document, becomes numbers."""

    DENSE = "dense"
    """Token states, pooled, perhaps normalised: one vector."""
    LATE_INTERACTION = "late_interaction"
    """Token states of query and document; the mean of each query token's best cosine."""
    VOCABULARY_SPARSE = "vocabulary_sparse"
    """Token states against the states of whole-word vocabulary entries; training-free."""
    MLM_SPARSE = "mlm_sparse"
    """Logits of the masked language head, activated, the maximum over the tokens: a weight per entry."""
    CROSS_ENCODER = "cross_encoder"
    """Query and document read together; one logit."""


class Activation(StrEnum):
    """What is done to a logit before it is a weight or a score."""

    IDENTITY = "identity"
    SIGMOID = "sigmoid"
    LOG1P_RELU = "log1p_relu"
    LOG1P_LOG1P_RELU = "log1p_log1p_relu"


class Kind(StrEnum):
    """What a file is for."""

    CONFIG = "config"
    TOKENIZER = "tokenizer"
    WEIGHTS = "weights"
    """Safetensors: the graph is written here, after the download."""
    GRAPH = "graph"
    """An ONNX file as its author made it."""
    IDF = "idf"
    """JSON object of token to weight, for queries that need no model."""


class File(Struct, frozen=True, kw_only=True):
    """One file of a repository. ``size`` in bytes.

    ``alternatives`` are tried in order when the repository has no ``path``.
    """

    path: str
    kind: Kind
    sha256: str | None = None
    size: int | None = None
    alternatives: tuple[str, ...] = ()


class Model(Struct, frozen=True, kw_only=True):
    """One model.

    ``max_tokens`` counts special tokens. Prefixes are put before the text, to the letter. ``query_idf`` names
    the file that weighs a query's tokens; the model itself then reads documents only. ``architecture`` is the
    ``model_type`` of its config.json.
    """

    id: str
    task: TaskType
    recipe: Recipe
    repository: str
    revision: str = "main"
    files: tuple[File, ...]
    bundled: bool = False
    architecture: str
    max_tokens: int
    dimensions: int | None = None
    pooling: Literal["mean", "cls", "last"] | None = None
    normalise: bool = False
    similarity: Literal["cosine", "dot_product"] | None = None
    activation: Activation = Activation.IDENTITY
    query_prefix: str = ""
    passage_prefix: str = ""
    query_idf: str | None = None
    licence: str
    parameters: int
    """In millions, as the model card rounds it."""
    title: str
    description: str
    languages: tuple[str, ...] = ("en",)


CONFIG = File(path="config.json", kind=Kind.CONFIG)
TOKENIZER = File(path="tokenizer.json", kind=Kind.TOKENIZER)
WEIGHTS = File(path="model.safetensors", kind=Kind.WEIGHTS)
IDF = File(path="idf.json", kind=Kind.IDF)
SAFETENSORS = (CONFIG, TOKENIZER, WEIGHTS)
SAFETENSORS_OR_ONNX = (
    CONFIG,
    TOKENIZER,
    File(path="model.safetensors", kind=Kind.WEIGHTS, alternatives=("onnx/model.onnx", "model.onnx")),
)
MULTILINGUAL = ("multilingual",)

_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_FILES = (
    CONFIG,
    TOKENIZER,
    File(
        path="model.safetensors",
        kind=Kind.WEIGHTS,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        size=90_868_376,
    ),
)

BUNDLED: tuple[Model, ...] = (
    Model(
        id=".all-minilm-l6-v2",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository=_MINILM,
        files=_MINILM_FILES,
        bundled=True,
        architecture="bert",
        dimensions=384,
        max_tokens=256,
        pooling="mean",
        normalise=True,
        similarity="cosine",
        licence="Apache-2.0",
        parameters=22,
        title="all-MiniLM-L6-v2",
        description="Small English sentence encoder.",
    ),
    Model(
        id=".minilm-late-interaction",
        task=TaskType.RERANK,
        recipe=Recipe.LATE_INTERACTION,
        repository=_MINILM,
        files=_MINILM_FILES,
        bundled=True,
        architecture="bert",
        max_tokens=256,
        licence="Apache-2.0",
        parameters=22,
        title="MiniLM late interaction",
        description="Training-free reranker: cosine MaxSim of all-MiniLM-L6-v2's token states.",
    ),
    Model(
        id=".minilm-sparse",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.VOCABULARY_SPARSE,
        repository=_MINILM,
        files=_MINILM_FILES,
        bundled=True,
        architecture="bert",
        max_tokens=256,
        licence="Apache-2.0",
        parameters=22,
        title="MiniLM sparse",
        description="Training-free sparse encoder: all-MiniLM-L6-v2's states against its own vocabulary.",
    ),
)

EMBEDDERS: tuple[Model, ...] = (
    Model(
        id="intfloat/multilingual-e5-small",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="intfloat/multilingual-e5-small",
        files=SAFETENSORS,
        architecture="bert",
        dimensions=384,
        max_tokens=512,
        pooling="mean",
        normalise=True,
        similarity="cosine",
        query_prefix="query: ",
        passage_prefix="passage: ",
        licence="MIT",
        parameters=118,
        title="Multilingual E5 small",
        description="Dense vectors for about a hundred languages.",
        languages=MULTILINGUAL,
    ),
    Model(
        id="intfloat/multilingual-e5-base",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="intfloat/multilingual-e5-base",
        files=SAFETENSORS,
        architecture="xlm-roberta",
        dimensions=768,
        max_tokens=512,
        pooling="mean",
        normalise=True,
        similarity="cosine",
        query_prefix="query: ",
        passage_prefix="passage: ",
        licence="MIT",
        parameters=278,
        title="Multilingual E5 base",
        description="Dense vectors for about a hundred languages.",
        languages=MULTILINGUAL,
    ),
    Model(
        id="intfloat/multilingual-e5-large",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="intfloat/multilingual-e5-large",
        files=SAFETENSORS,
        architecture="xlm-roberta",
        dimensions=1024,
        max_tokens=512,
        pooling="mean",
        normalise=True,
        similarity="cosine",
        query_prefix="query: ",
        passage_prefix="passage: ",
        licence="MIT",
        parameters=560,
        title="Multilingual E5 large",
        description="Dense vectors for about a hundred languages.",
        languages=MULTILINGUAL,
    ),
    Model(
        id="BAAI/bge-small-en-v1.5",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="BAAI/bge-small-en-v1.5",
        files=SAFETENSORS,
        architecture="bert",
        dimensions=384,
        max_tokens=512,
        pooling="cls",
        normalise=True,
        similarity="cosine",
        query_prefix="Represent this sentence for searching relevant passages: ",
        licence="MIT",
        parameters=33,
        title="BGE small English v1.5",
        description="Small English retrieval encoder.",
    ),
    Model(
        id="thenlper/gte-base",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="thenlper/gte-base",
        files=SAFETENSORS,
        architecture="bert",
        dimensions=768,
        max_tokens=512,
        pooling="mean",
        normalise=True,
        similarity="cosine",
        licence="MIT",
        parameters=109,
        title="GTE base",
        description="General text embeddings, English.",
    ),
    Model(
        id="nomic-ai/nomic-embed-text-v1.5",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="nomic-ai/nomic-embed-text-v1.5",
        files=SAFETENSORS,
        architecture="nomic_bert",
        dimensions=768,
        max_tokens=8192,
        pooling="mean",
        normalise=True,
        similarity="cosine",
        query_prefix="search_query: ",
        passage_prefix="search_document: ",
        licence="Apache-2.0",
        parameters=137,
        title="Nomic Embed Text v1.5",
        description="Long English texts.",
    ),
    Model(
        id="Qwen/Qwen3-Embedding-0.6B",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="Qwen/Qwen3-Embedding-0.6B",
        files=SAFETENSORS,
        architecture="qwen3",
        dimensions=1024,
        max_tokens=32768,
        pooling="last",
        normalise=True,
        similarity="cosine",
        query_prefix=(
            "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
        ),
        licence="Apache-2.0",
        parameters=596,
        title="Qwen3 Embedding 0.6B",
        description="Long texts in over a hundred languages; slow on a CPU.",
        languages=MULTILINGUAL,
    ),
    Model(
        id="ibm-granite/granite-embedding-small-english-r2",
        task=TaskType.TEXT_EMBEDDING,
        recipe=Recipe.DENSE,
        repository="ibm-granite/granite-embedding-small-english-r2",
        files=SAFETENSORS,
        architecture="modernbert",
        dimensions=384,
        max_tokens=8192,
        pooling="cls",
        normalise=True,
        similarity="cosine",
        licence="Apache-2.0",
        parameters=47,
        title="Granite Embedding small English R2",
        description="Long English texts and code.",
    ),
)

SPARSE: tuple[Model, ...] = (
    Model(
        id="opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill",
        files=(*SAFETENSORS, IDF),
        architecture="distilbert",
        max_tokens=512,
        activation=Activation.LOG1P_LOG1P_RELU,
        query_idf="idf.json",
        licence="Apache-2.0",
        parameters=67,
        title="OpenSearch neural sparse doc v3 distill",
        description="Reads documents; queries need no model.",
    ),
    Model(
        id="opensearch-project/opensearch-neural-sparse-encoding-doc-v2-mini",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="opensearch-project/opensearch-neural-sparse-encoding-doc-v2-mini",
        files=(*SAFETENSORS, IDF),
        architecture="bert",
        max_tokens=512,
        activation=Activation.LOG1P_RELU,
        query_idf="idf.json",
        licence="Apache-2.0",
        parameters=23,
        title="OpenSearch neural sparse doc v2 mini",
        description="Small; reads documents; queries need no model.",
    ),
    Model(
        id="opensearch-project/opensearch-neural-sparse-encoding-v2-distill",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="opensearch-project/opensearch-neural-sparse-encoding-v2-distill",
        files=SAFETENSORS,
        architecture="distilbert",
        max_tokens=512,
        activation=Activation.LOG1P_RELU,
        licence="Apache-2.0",
        parameters=67,
        title="OpenSearch neural sparse v2 distill",
        description="Reads queries and documents alike.",
    ),
    Model(
        id="prithivida/Splade_PP_en_v1",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="prithivida/Splade_PP_en_v1",
        files=SAFETENSORS_OR_ONNX,
        architecture="bert",
        max_tokens=512,
        activation=Activation.LOG1P_RELU,
        licence="Apache-2.0",
        parameters=110,
        title="SPLADE++ English v1",
        description="Reads queries and documents alike.",
    ),
    Model(
        id="prithivida/Splade_PP_en_v2",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="prithivida/Splade_PP_en_v2",
        files=SAFETENSORS_OR_ONNX,
        architecture="bert",
        max_tokens=512,
        activation=Activation.LOG1P_RELU,
        licence="Apache-2.0",
        parameters=110,
        title="SPLADE++ English v2",
        description="Reads queries and documents alike.",
    ),
    Model(
        id="ibm-granite/granite-embedding-30m-sparse",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="ibm-granite/granite-embedding-30m-sparse",
        files=SAFETENSORS,
        architecture="roberta",
        max_tokens=512,
        activation=Activation.LOG1P_RELU,
        licence="Apache-2.0",
        parameters=30,
        title="Granite Embedding 30M sparse",
        description="Small; reads queries and documents alike.",
    ),
)

RERANKERS: tuple[Model, ...] = (
    Model(
        id="mixedbread-ai/mxbai-rerank-xsmall-v1",
        task=TaskType.RERANK,
        recipe=Recipe.CROSS_ENCODER,
        repository="mixedbread-ai/mxbai-rerank-xsmall-v1",
        files=SAFETENSORS,
        architecture="deberta-v2",
        max_tokens=512,
        activation=Activation.SIGMOID,
        licence="Apache-2.0",
        parameters=70,
        title="mxbai rerank xsmall v1",
        description="English reranker.",
    ),
    Model(
        id="mixedbread-ai/mxbai-rerank-base-v1",
        task=TaskType.RERANK,
        recipe=Recipe.CROSS_ENCODER,
        repository="mixedbread-ai/mxbai-rerank-base-v1",
        files=SAFETENSORS,
        architecture="deberta-v2",
        max_tokens=512,
        activation=Activation.SIGMOID,
        licence="Apache-2.0",
        parameters=184,
        title="mxbai rerank base v1",
        description="English reranker.",
    ),
    Model(
        id="cross-encoder/ms-marco-MiniLM-L6-v2",
        task=TaskType.RERANK,
        recipe=Recipe.CROSS_ENCODER,
        repository="cross-encoder/ms-marco-MiniLM-L6-v2",
        files=SAFETENSORS,
        architecture="bert",
        max_tokens=512,
        activation=Activation.IDENTITY,
        licence="Apache-2.0",
        parameters=22,
        title="MS MARCO MiniLM L6 v2",
        description="Fast English reranker; scores are raw logits.",
    ),
    Model(
        id="BAAI/bge-reranker-base",
        task=TaskType.RERANK,
        recipe=Recipe.CROSS_ENCODER,
        repository="BAAI/bge-reranker-base",
        files=SAFETENSORS,
        architecture="xlm-roberta",
        max_tokens=512,
        activation=Activation.SIGMOID,
        licence="MIT",
        parameters=278,
        title="BGE reranker base",
        description="English and Chinese reranker.",
        languages=("en", "zh"),
    ),
    Model(
        id="BAAI/bge-reranker-v2-m3",
        task=TaskType.RERANK,
        recipe=Recipe.CROSS_ENCODER,
        repository="BAAI/bge-reranker-v2-m3",
        files=SAFETENSORS,
        architecture="xlm-roberta",
        max_tokens=8192,
        activation=Activation.SIGMOID,
        licence="Apache-2.0",
        parameters=568,
        title="BGE reranker v2 M3",
        description="Multilingual reranker for long documents.",
        languages=MULTILINGUAL,
    ),
)

MODELS: tuple[Model, ...] = (*BUNDLED, *EMBEDDERS, *SPARSE, *RERANKERS)

ELASTIC: tuple[Model, ...] = (
    Model(
        id=".elser_model_2",
        task=TaskType.SPARSE_EMBEDDING,
        recipe=Recipe.MLM_SPARSE,
        repository="",
        files=SAFETENSORS_OR_ONNX,
        architecture="bert",
        max_tokens=512,
        activation=Activation.LOG1P_RELU,
        licence="Elastic",
        parameters=110,
        title="ELSER v2",
        description="Elastic's sparse encoder, from your own copy.",
    ),
    Model(
        id=".rerank-v1",
        task=TaskType.RERANK,
        recipe=Recipe.CROSS_ENCODER,
        repository="",
        files=SAFETENSORS_OR_ONNX,
        architecture="deberta-v2",
        max_tokens=512,
        licence="Elastic",
        parameters=184,
        title="Elastic Rerank",
        description="Elastic's reranker, from your own copy.",
    ),
)
"""Elastic's property: nothing is fetched unless ``models.repository`` names a copy that the user may use. The facts
are those of Elastic's public documentation; the shape is read from the copy's own config.json."""

TRUE_NAMES: Mapping[str, str] = {
    ".multilingual-e5-small": "intfloat/multilingual-e5-small",
    ".multilingual-e5-small_linux-x86_64": "intfloat/multilingual-e5-small",
}
"""Elastic's names of models that are here under their authors' names: the same weights, no stand-ins."""

STAND_INS: Mapping[str, str] = {
    ".elser_model_1": ".minilm-sparse",
    ".elser_model_2": ".minilm-sparse",
    ".elser_model_2_linux-x86_64": ".minilm-sparse",
    ".rerank-v1": ".minilm-late-interaction",
}
"""What answers, unless ``models.aliases`` or ``models.repository`` says otherwise, under names whose weights are
Elastic's property. Every such answer says so."""

_BY_ID = {model.id: model for model in MODELS}


def find(id: str) -> Model | None:
    """The row of that id, to the letter. What other names mean is in names.py."""
    return _BY_ID.get(id)
