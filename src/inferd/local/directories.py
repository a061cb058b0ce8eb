"""A model of the user's own in a directory: the row that the catalogue lacks, read off its files.

Files and their keys are those that transformers and sentence-transformers write (https://sbert.net/docs): config.json,
and where they are there modules.json, the pooling's config.json, sentence_bert_config.json and
config_sentence_transformers.json. What a row cannot say is refused by name, never guessed away.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from inferd.core.tasks import TaskType
from inferd.local.catalogue import SAFETENSORS_OR_ONNX, Activation, Model, Recipe
from inferd.local.shelf import ShelfError

T = TypeVar("T")

_MOST_BYTES = 10_000_000
_POOLINGS: Mapping[str, Literal["mean", "cls", "last"]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_OLD_POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken"}
"""``pooling_mode_…`` of sentence-transformers before 5."""
_SHIFTED = frozenset({"roberta", "xlm-roberta", "mpnet"})
"""Positions count from the padding id on: two of them are no token's."""


def read(id: str, directory: Path) -> Model:
    """The row. ShelfError when the directory holds no model that runs here."""
    config = _object(directory, "config.json")
    if config is None:
        raise ShelfError(
            f'[{directory}] has no file [config.json]; it is what models.repository."{id}" names'
        )
    modules = _modules(directory)
    facts: dict[str, Any] = {
        "id": id,
        "repository": str(directory),
        "files": SAFETENSORS_OR_ONNX,
        "architecture": str(config.get("model_type", "")),
        "max_tokens": _max_tokens(directory, config),
        "licence": "your own",
        "parameters": 0,
        "title": id,
        "description": f"From {directory}.",
        "languages": (),
    }
    head = "".join(str(x) for x in config.get("architectures") or ())
    if "SpladePooling" in modules or (not modules and "ForMaskedLM" in head):
        return Model(**facts, **_sparse(directory, modules))
    if "Pooling" not in modules and "ForSequenceClassification" in head:
        return Model(**facts, **_reranker(directory, config))
    return Model(**facts, **_dense(directory, config, modules))


def _dense(directory: Path, config: Mapping[str, Any], modules: Mapping[str, str]) -> dict[str, Any]:
    if strange := modules.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ShelfError(f"[{directory}] has a layer [{min(strange)}], which is not read here")
    size = next((config[x] for x in ("hidden_size", "dim", "n_embd") if isinstance(config.get(x), int)), None)
    if size is None:
        raise ShelfError(f"[{directory}/config.json] has no [hidden_size]")
    about = _object(directory, "config_sentence_transformers.json") or {}
    prompts = {k: v for k, v in _mapping(about.get("prompts")).items() if isinstance(v, str)}
    return {
        "task": TaskType.TEXT_EMBEDDING,
        "recipe": Recipe.DENSE,
        "dimensions": size,
        "pooling": _pooling(directory, modules["Pooling"]) if "Pooling" in modules else "mean",
        "normalise": "Normalize" in modules or not modules,
        "similarity": "dot_product" if about.get("similarity_fn_name") == "dot" else "cosine",
        "query_prefix": prompts.get("query", ""),
        "passage_prefix": prompts.get("document", prompts.get("passage", "")),
    }


def _pooling(directory: Path, place: str) -> Literal["mean", "cls", "last"]:
    found = _object(directory, f"{place}/config.json")
    if found is None:
        raise ShelfError(f"[{directory}] has no file [{place}/config.json], which its modules.json names")
    modes = [x for x in _OLD_POOLINGS if found.get(f"pooling_mode_{x}")]
    others = [k for k, v in found.items() if k.startswith("pooling_mode_") and v is True]
    mode = found.get("pooling_mode") or (_OLD_POOLINGS[modes[0]] if len(modes) == len(others) == 1 else None)
    if not isinstance(mode, str) or mode not in _POOLINGS:
        raise ShelfError(f"[{directory}/{place}/config.json] names no pooling of [{', '.join(_POOLINGS)}]")
    return _POOLINGS[mode]


def _sparse(directory: Path, modules: Mapping[str, str]) -> dict[str, Any]:
    found = _object(directory, f"{modules.get('SpladePooling', '.')}/config.json") or {}
    if modules and found.get("pooling_strategy", "max") != "max":
        raise ShelfError(f"[{directory}] pools by [{found['pooling_strategy']}]; only [max] is read here")
    twice = bool(modules) and found.get("activation_function") == "log1p_relu"
    return {
        "task": TaskType.SPARSE_EMBEDDING,
        "recipe": Recipe.MLM_SPARSE,
        "activation": Activation.LOG1P_LOG1P_RELU if twice else Activation.LOG1P_RELU,
    }


def _reranker(directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """One label, and the activation that sentence-transformers' CrossEncoder gives it."""
    labels = len(_mapping(config.get("id2label"))) or config.get("num_labels", 2)
    if labels != 1:
        raise ShelfError(f"[{directory}] tells {labels} labels apart; a reranker has one")
    named = _mapping(config.get("sentence_transformers")).get("activation_fn")
    plain = str(named or config.get("sbert_ce_default_activation_function", "")).endswith("Identity")
    return {
        "task": TaskType.RERANK,
        "recipe": Recipe.CROSS_ENCODER,
        "activation": Activation.IDENTITY if plain else Activation.SIGMOID,
    }


def _max_tokens(directory: Path, config: Mapping[str, Any]) -> int:
    """What the files allow, and no more than there are positions."""
    places = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(places, int) or isinstance(places, bool):
        places = 512
    room = places - 2 if config.get("model_type") in _SHIFTED else places
    wished = (
        (_object(directory, "sentence_bert_config.json") or {}).get("max_seq_length"),
        (_object(directory, "tokenizer_config.json") or {}).get("model_max_length"),
    )
    limit = next((x for x in wished if isinstance(x, int) and not isinstance(x, bool) and x > 0), room)
    if room < 4:
        raise ShelfError(f"[{directory}/config.json] has {places} positions: too few for a text")
    return min(limit, room)


def _modules(directory: Path) -> dict[str, str]:
    """Last word of each module's type and its place; empty where there is no modules.json."""
    rows = _decoded(directory, "modules.json", list[dict[str, Any]]) or []
    return {str(row.get("type")).rpartition(".")[2]: str(row.get("path", "")) for row in rows}


def _object(directory: Path, name: str) -> dict[str, Any] | None:
    return _decoded(directory, name, dict[str, Any])


def _decoded(directory: Path, name: str, kind: type[T]) -> T | None:
    """None where there is no such file."""
    try:
        with (directory / name).open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as cause:
        raise ShelfError(f"[{directory / name}] cannot be read: {cause}") from cause


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
