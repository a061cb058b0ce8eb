"""ONNX graphs from ``config.json`` and weights, written without a framework.

Inputs are int64 [batch, sequence]: ``input_ids``, ``attention_mask``, and ``token_type_ids`` where the model has
token types. The output is float32, by head: ``last_hidden_state`` [batch, sequence, hidden], ``maxima`` [batch,
vocabulary], ``logits`` [batch, sequence, vocabulary] or [batch, labels].
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from onnx import TensorProto, helper

from inferd.errors import IllegalArgument
from inferd.local.encoders import FAMILIES, Config, Family, read_config
from inferd.local.nodes import Storage, Writer
from inferd.local.tensors import Array, Arrays, Safetensors, Tensors

__all__ = ["Head", "Storage", "build", "build_directory", "save"]

_OPSET = 17
_IR = 9


class Head(StrEnum):
    """What follows the encoder."""

    STATES = "states"
    """Nothing: token states."""
    MASKED = "masked"
    """The masked language head: a logit a token and vocabulary entry."""
    MAXIMA = "maxima"
    """The same, then max(0, ·) over the tokens that are not padding: one number a vocabulary entry. It is what
    SPLADE (arXiv:2107.05720) pools, before its logarithm, which is monotone and cheaper afterwards."""
    CLASSES = "classes"
    """Sequence classification: a logit a label."""


def build(
    weights: Tensors | Mapping[str, Array],
    config: Mapping[str, Any],
    head: Head = Head.STATES,
    *,
    storage: Storage = Storage.REFERENCED,
) -> Any:
    """The graph as an ``onnx.ModelProto``.

    Referenced weights stay in their file, so such a graph is saved beside it; weights that are only in memory are
    put inside, as float32. ``config`` is config.json's object. Raises IllegalArgument when the architecture or
    the head is not known, or a weight is missing.
    """
    known = read_config(config)
    family = FAMILIES.get(known.model_type)
    if family is None:
        names = ", ".join(sorted(FAMILIES))
        raise IllegalArgument(f"The architecture [{known.model_type}] is not one of [{names}]")
    tensors: Tensors = Arrays(weights) if isinstance(weights, Mapping) else weights
    writer = Writer(tensors, storage)
    root = family.prefix if any(name.startswith(family.prefix) for name in tensors.names()) else ""
    output, name, shape = _output(writer, known, family, head, root)
    graph = helper.make_graph(
        [*writer.nodes, helper.make_node("Identity", [output], [name], name=name)],
        f"{known.model_type}_{head}",
        [helper.make_tensor_value_info(x, TensorProto.INT64, ["batch", "sequence"]) for x in writer.inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        writer.initializers,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opsets, producer_name="inferd", ir_version=_IR)


def _output(w: Writer, config: Config, family: Family, head: Head, root: str) -> tuple[str, str, list[Any]]:
    """The value that the graph gives, its name and its shape."""
    states = family.encoder(w, config, root)
    if head is Head.STATES:
        return states, "last_hidden_state", ["batch", "sequence", config.hidden_size]
    write = family.classes if head is Head.CLASSES else family.masked
    if write is None:
        raise IllegalArgument(f"The architecture [{config.model_type}] has no [{head}] head here")
    logits = write(w, config, states, root)
    if head is Head.CLASSES:
        return logits, "logits", ["batch", "labels"]
    if head is Head.MASKED:
        return logits, "logits", ["batch", "sequence", "vocabulary"]
    mask = w.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    seen = w.op("Mul", logits, w.op("Unsqueeze", mask, w.constant([2])))
    highest = w.op("ReduceMax", seen, axes=[1], keepdims=0)
    return w.op("Relu", highest), "maxima", ["batch", "vocabulary"]


def build_directory(directory: Path, head: Head, *, storage: Storage = Storage.REFERENCED) -> Any:
    """``build`` of a directory's ``config.json`` and ``model.safetensors``."""
    try:
        config = msgspec.json.decode((directory / "config.json").read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as cause:
        raise IllegalArgument(f"[config.json] cannot be read: {cause}") from cause
    return build(Safetensors(directory / "model.safetensors"), config, head, storage=storage)


def save(model: Any, path: Path) -> None:
    """Write the graph, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(model.SerializeToString())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
