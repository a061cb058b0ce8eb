"""ONNX graphs from ``config.json`` and weights, written without a framework.

Inputs are int64 [batch, sequence]: ``input_ids``, ``attention_mask``, and ``token_type_ids`` where the architecture
has them. Outputs by head: ``last_hidden_state`` [batch, sequence, hidden]; ``maxima`` [batch, vocabulary];
``logits`` [batch, sequence, vocabulary] or [batch, labels]; all float32.

Architectures follow the public papers and the parameter names of their published weights.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inferd.errors import IllegalArgument
from inferd.local.tensors import Array, Arrays, Safetensors, Tensors

_OPSET = 17
_IR = 9
_FLOATS = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


class Head(StrEnum):
    """What follows the encoder."""

    STATES = "states"
    """Nothing: token states."""
    MASKED = "masked"
    """The masked language head: a logit a token and vocabulary entry."""
    MAXIMA = "maxima"
    """The same, then ``max(0, ·)`` over the unmasked tokens: one number a vocabulary entry (SPLADE's pooling
    before its logarithm)."""
    CLASSES = "classes"
    """Sequence classification: one logit a label."""


class Storage(StrEnum):
    """Where and how the graph keeps its weights; it computes in float32 all the same."""

    REFERENCED = "referenced"
    """As they are, in the safetensors file beside the graph: no copy, exact."""
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    """Matrices in half precision inside the graph, everything else in float32."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of config.json; DistilBERT's names are translated before."""

    model_type: str
    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int
    intermediate_size: int = 0
    vocab_size: int = 0
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 512
    position_embedding_type: str | None = None
    type_vocab_size: int = 0
    pad_token_id: int | None = None


_DISTILBERT_NAMES = {
    "dim": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}


def read_config(raw: Mapping[str, Any]) -> Config:
    """The part of a config.json that shapes a graph. Unknown architectures are refused by ``build``."""
    fields = {_DISTILBERT_NAMES.get(name, name): value for name, value in raw.items()}
    try:
        return msgspec.convert(fields, Config, strict=False)
    except msgspec.ValidationError as cause:
        raise IllegalArgument(f"[config.json] does not describe a model: {cause}") from cause


class Writer:
    """A graph in the making. Values are named by what made them; weights by their own name."""

    def __init__(self, tensors: Tensors, storage: Storage) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._tensors = tensors
        self._storage = storage
        self._names = set(tensors.names())
        self._made: dict[tuple[str, bool], str] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, type: str, *inputs: str, **attributes: Any) -> str:
        output = f"{type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def has(self, name: str) -> bool:
        return name in self._names

    def first(self, *names: str) -> str:
        """The first of these weights that exists: published files differ in prefixes."""
        for name in names:
            if name in self._names:
                return name
        raise IllegalArgument(
            f"The weights lack [{names[0]}]: they are not those of this architecture and head"
        )

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(self.first(name))

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A weight as a float32 value."""
        key = (name, transposed)
        if key not in self._made:
            self._made[key] = self._load(self.first(name), transposed)
        return self._made[key]

    def _load(self, name: str, transposed: bool) -> str:
        place = self._tensors.place(name)
        if self._storage is Storage.REFERENCED and place is not None and place.dtype in _FLOATS:
            value = self._refer(name)
            value = value if place.dtype == "F32" else self.op("Cast", value, to=TensorProto.FLOAT)
            return self.op("Transpose", value, perm=[1, 0]) if transposed else value
        array = self._tensors.array(name)
        array = array.T if transposed else array
        half = self._storage is Storage.FLOAT16 and array.ndim > 1
        label = f"{name}.T" if transposed else name
        array = np.ascontiguousarray(array, np.float16 if half else np.float32)
        self.initializers.append(numpy_helper.from_array(array, label))
        return self.op("Cast", label, to=TensorProto.FLOAT) if half else label

    def _refer(self, name: str) -> str:
        place = self._tensors.place(name)
        assert place is not None
        if all(tensor.name != name for tensor in self.initializers):
            tensor = TensorProto(name=name, data_type=_FLOATS[place.dtype], dims=self._tensors.shape(name))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
                tensor.external_data.add(key=key, value=str(value))
            self.initializers.append(tensor)
        return name

    def table(self, name: str, indexes: str) -> str:
        """Rows of a weight. The rows are made float32 after they are taken, so a half table stays half."""
        weight = self.weight(name)
        made = next(
            (node for node in self.nodes if node.output[0] == weight and node.op_type == "Cast"), None
        )
        if made is None:
            return self.op("Gather", weight, indexes, axis=0)
        return self.op("Cast", self.op("Gather", made.input[0], indexes, axis=0), to=TensorProto.FLOAT)

    def linear(self, value: str, name: str, *, bias: bool = True) -> str:
        product = self.op("MatMul", value, self.weight(f"{name}.weight", transposed=True))
        return self.op("Add", product, self.weight(f"{name}.bias")) if bias else product

    def norm(self, value: str, name: str, eps: float) -> str:
        weights = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", value, *weights, axis=-1, epsilon=eps)

    def activate(self, value: str, kind: str) -> str:
        if kind == "gelu":
            curve = self.op("Erf", self.op("Div", value, self.number(math.sqrt(2))))
            product = self.op("Mul", value, self.op("Add", curve, self.number(1)))
            return self.op("Mul", product, self.number(0.5))
        if kind in ("gelu_new", "gelu_pytorch_tanh"):
            cube = self.op("Mul", self.op("Mul", value, value), value)
            inner = self.op("Add", value, self.op("Mul", cube, self.number(0.044715)))
            curve = self.op("Tanh", self.op("Mul", inner, self.number(math.sqrt(2 / math.pi))))
            product = self.op("Mul", value, self.op("Add", curve, self.number(1)))
            return self.op("Mul", product, self.number(0.5))
        if kind in ("silu", "swish"):
            return self.op("Mul", value, self.op("Sigmoid", value))
        if kind in ("relu", "tanh"):
            return self.op(kind.capitalize(), value)
        raise IllegalArgument(f"The activation [{kind}] is not known")

    def length(self) -> str:
        """The sequence length, shape [1]."""
        return self.op("Slice", self.op("Shape", "input_ids"), self.constant([1]), self.constant([2]))

    def split_heads(self, value: str, heads: int, size: int, *, keys: bool = False) -> str:
        """[batch, sequence, heads · size] to [batch, heads, sequence, size]; keys come with their last two turned."""
        apart = self.op("Reshape", value, self.constant([0, 0, heads, size]))
        return self.op("Transpose", apart, perm=[0, 2, 3, 1] if keys else [0, 2, 1, 3])

    def join_heads(self, value: str, width: int) -> str:
        turned = self.op("Transpose", value, perm=[0, 2, 1, 3])
        return self.op("Reshape", turned, self.constant([0, 0, width]))

    def mask_bias(self) -> str:
        """[batch, 1, 1, sequence]: 0 where a token is, −10 000 where it is padding."""
        mask = self.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = self.op("Unsqueeze", mask, self.constant([1, 2]))
        return self.op("Mul", self.op("Sub", self.number(1), mask), self.number(-10_000))

    def attend(self, query: str, key: str, value: str, config: Config, bias: str) -> str:
        """Scaled dot-product attention; ``bias`` is added to the scores."""
        heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        q = self.split_heads(query, heads, size)
        k = self.split_heads(key, heads, size, keys=True)
        v = self.split_heads(value, heads, size)
        scores = self.op("Div", self.op("MatMul", q, k), self.number(math.sqrt(size)))
        shares = self.op("Softmax", self.op("Add", scores, bias), axis=-1)
        return self.join_heads(self.op("MatMul", shares, v), config.hidden_size)


def _bert(w: Writer, config: Config, root: str) -> str:
    if config.position_embedding_type not in (None, "absolute"):
        raise IllegalArgument(f"The position embedding type [{config.position_embedding_type}] is not known")
    eps = config.layer_norm_eps
    words = w.table(f"{root}embeddings.word_embeddings.weight", "input_ids")
    types = w.table(f"{root}embeddings.token_type_embeddings.weight", "token_type_ids")
    positions = _first_rows(w, f"{root}embeddings.position_embeddings.weight")
    summed = w.op("Add", w.op("Add", words, types), positions)
    states = w.norm(summed, f"{root}embeddings.LayerNorm", eps)
    bias = w.mask_bias()
    for n in range(config.num_hidden_layers):
        layer = f"{root}encoder.layer.{n}"
        query, key, value = (
            w.linear(states, f"{layer}.attention.self.{x}") for x in ("query", "key", "value")
        )
        mixed = w.linear(w.attend(query, key, value, config, bias), f"{layer}.attention.output.dense")
        states = w.norm(w.op("Add", mixed, states), f"{layer}.attention.output.LayerNorm", eps)
        inner = w.activate(w.linear(states, f"{layer}.intermediate.dense"), config.hidden_act)
        outer = w.linear(inner, f"{layer}.output.dense")
        states = w.norm(w.op("Add", outer, states), f"{layer}.output.LayerNorm", eps)
    return states


def _first_rows(w: Writer, name: str) -> str:
    """Rows 0 … sequence − 1 of a weight, shape [sequence, hidden]."""
    positions = w.op("Range", w.constant(0), w.op("Squeeze", w.length()), w.constant(1))
    return w.table(name, positions)


class Family(msgspec.Struct, frozen=True):
    """An architecture: its encoder, the prefix of its weights in files with a head, and its other input."""

    encoder: Callable[[Writer, Config, str], str]
    prefix: str
    token_types: bool = False


FAMILIES: dict[str, Family] = {
    "bert": Family(_bert, "bert.", token_types=True),
}


def build(
    tensors: Tensors | Mapping[str, Array],
    config: Mapping[str, Any],
    head: Head = Head.STATES,
    *,
    storage: Storage = Storage.REFERENCED,
) -> Any:
    """The graph as an ``onnx.ModelProto``.

    Referenced weights stay in their file, so the graph must be saved beside it; weights that are only in memory
    are put inside as float32. Raises IllegalArgument when the architecture is unknown or a weight is missing.
    """
    known = read_config(config)
    family = FAMILIES.get(known.model_type)
    if family is None:
        names = ", ".join(sorted(FAMILIES))
        raise IllegalArgument(f"The architecture [{known.model_type}] is not one of [{names}]")
    source: Tensors = Arrays(tensors) if isinstance(tensors, Mapping) else tensors
    writer = Writer(source, storage)
    root = family.prefix if any(name.startswith(family.prefix) for name in source.names()) else ""
    output, shape = _with_head(writer, known, head, family.encoder(writer, known, root), root)
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * family.token_types
    graph = helper.make_graph(
        [*writer.nodes, helper.make_node("Identity", [output], [shape[0]])],
        f"{known.model_type}_{head}",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
        [helper.make_tensor_value_info(shape[0], TensorProto.FLOAT, shape[1:])],
        writer.initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="inferd", ir_version=_IR
    )
    return model


def _with_head(w: Writer, config: Config, head: Head, states: str, root: str) -> tuple[str, list[Any]]:
    """The output value, and its name and shape."""
    if head is Head.STATES:
        return states, ["last_hidden_state", "batch", "sequence", config.hidden_size]
    raise IllegalArgument(f"The head [{head}] is not known")


def build_directory(directory: Path, head: Head, *, storage: Storage = Storage.REFERENCED) -> Any:
    """``build`` of a directory's ``config.json`` and ``model.safetensors``."""
    config = msgspec.json.decode((directory / "config.json").read_bytes(), type=dict[str, Any])
    return build(Safetensors(directory / "model.safetensors"), config, head, storage=storage)


def save(model: Any, path: Path) -> None:
    onnx.save_model(model, str(path))
