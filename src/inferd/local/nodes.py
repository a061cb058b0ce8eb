"""A graph in the making: ONNX nodes and weights, written one after the other."""

import math
from enum import StrEnum
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from inferd.errors import IllegalArgument
from inferd.local.tensors import Tensors

_FLOATS = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}

HIDDEN = -10_000.0
"""Added to the attention score of what must not be seen: its share is exactly 0 in every precision."""


class Storage(StrEnum):
    """Where and how a graph keeps its weights; it computes in float32 all the same."""

    REFERENCED = "referenced"
    """As they are, in the safetensors file beside the graph: no copy, exact."""
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    """Matrices in half precision inside the graph, everything else in float32."""


class Writer:
    """Values are named by what made them, weights by their own name. Every value is float32 unless said."""

    def __init__(self, tensors: Tensors, storage: Storage) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs = ["input_ids", "attention_mask"]
        self._tensors = tensors
        self._names = set(tensors.names())
        self._storage = storage
        self._raw: dict[tuple[str, bool], str] = {}
        self._values: dict[tuple[str, bool], str] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    # Nodes

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

    def input(self, name: str) -> str:
        if name not in self.inputs:
            self.inputs.append(name)
        return name

    # Weights

    def first(self, *names: str) -> str:
        """The first of these weights that exists; published files differ in names."""
        for name in names:
            if name in self._names:
                return name
        raise IllegalArgument(
            f"The weights lack [{names[0]}]: they are not those of this architecture and head"
        )

    def has(self, name: str) -> bool:
        return name in self._names

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(self.first(name))

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A weight as a float32 value."""
        key = (name, transposed)
        if key not in self._values:
            value = self._stored(name, transposed)
            self._values[key] = value if self._is_float32(name) else self._wide(value)
        return self._values[key]

    def rows(self, name: str, indexes: str) -> str:
        """Rows of a weight; only they are widened, the table stays as small as it is stored."""
        taken = self.op("Gather", self._stored(name, False), indexes, axis=0)
        return taken if self._is_float32(name) else self._wide(taken)

    def _wide(self, value: str) -> str:
        return self.op("Cast", value, to=TensorProto.FLOAT)

    def _is_referenced(self, name: str) -> bool:
        place = self._tensors.place(name)
        return self._storage is Storage.REFERENCED and place is not None and place.dtype in _FLOATS

    def _is_float32(self, name: str) -> bool:
        place = self._tensors.place(name)
        if place is not None and self._is_referenced(name):
            return place.dtype == "F32"
        return self._storage is not Storage.FLOAT16 or len(self.shape(name)) < 2

    def _stored(self, name: str, transposed: bool) -> str:
        key = (self.first(name), transposed)
        if key not in self._raw:
            self._raw[key] = self._refer(*key) if self._is_referenced(name) else self._embed(*key)
        return self._raw[key]

    def _embed(self, name: str, transposed: bool) -> str:
        array = self._tensors.array(name)
        array = array.T if transposed else array
        with np.errstate(over="ignore"):  # the next line looks for it
            array = np.ascontiguousarray(array, np.float32 if self._is_float32(name) else np.float16)
        if not np.isfinite(array).all():
            raise IllegalArgument(f"The weight [{name}] has values that [{array.dtype}] does not hold")
        label = f"{name}.T" if transposed else name
        self.initializers.append(numpy_helper.from_array(array, label))
        return label

    def _refer(self, name: str, transposed: bool) -> str:
        if transposed:
            return self.op("Transpose", self._stored(name, False), perm=[1, 0])
        place = self._tensors.place(name)
        assert place is not None
        tensor = TensorProto(name=name, data_type=_FLOATS[place.dtype], dims=self.shape(name))
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    # Layers

    def linear(self, value: str, name: str, *, bias: bool | None = True) -> str:
        """``bias`` None: added when the weights have one."""
        return self.project(value, f"{name}.weight", self._bias(name, bias))

    def project(self, value: str, weight: str, bias: str | None) -> str:
        product = self.op("MatMul", value, self.weight(weight, transposed=True))
        return self.op("Add", product, self.weight(bias)) if bias else product

    def norm(self, value: str, name: str, eps: float, *, bias: bool | None = True) -> str:
        shift = self._bias(name, bias)
        weights = [self.weight(f"{name}.weight")] + ([self.weight(shift)] if shift else [])
        return self.op("LayerNormalization", value, *weights, axis=-1, epsilon=eps)

    def _bias(self, name: str, wanted: bool | None) -> str | None:
        bias = f"{name}.bias"
        return bias if wanted or (wanted is None and self.has(bias)) else None

    def rms_norm(self, value: str, name: str, eps: float) -> str:
        power = self.op("ReduceMean", self.op("Mul", value, value), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", power, self.number(eps)))
        return self.op("Mul", self.op("Div", value, root), self.weight(f"{name}.weight"))

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

    # Positions and attention

    def positions(self) -> str:
        """int64 0 … sequence − 1."""
        length = self.op("Gather", self.op("Shape", "input_ids"), self.constant(1), axis=0)
        return self.op("Range", self.constant(0), length, self.constant(1))

    def distances(self) -> str:
        """int64 [sequence, sequence]: position of the query (row) minus that of the key (column)."""
        positions = self.positions()
        rows = self.op("Unsqueeze", positions, self.constant([1]))
        return self.op("Sub", rows, self.op("Unsqueeze", positions, self.constant([0])))

    def hide(self, visible: str) -> str:
        """A Boolean value as a bias of scores: 0 where true."""
        return self.op("Where", visible, self.number(0), self.number(HIDDEN))

    def padding_bias(self) -> str:
        """[batch, 1, 1, sequence]: 0 where a token is."""
        mask = self.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = self.op("Unsqueeze", mask, self.constant([1, 2]))
        return self.op("Mul", self.op("Sub", self.number(1), mask), self.number(HIDDEN))

    def split_heads(self, value: str, heads: int, size: int) -> str:
        """[batch, sequence, heads · size] to [batch, heads, sequence, size]."""
        apart = self.op("Reshape", value, self.constant([0, 0, heads, size]))
        return self.op("Transpose", apart, perm=[0, 2, 1, 3])

    def attend(self, query: str, key: str, value: str, *, scale: float, bias: str) -> str:
        """softmax(query · key / scale + bias) · value, of [batch, heads, sequence, size]; heads joined again."""
        turned = self.op("Transpose", key, perm=[0, 1, 3, 2])
        scores = self.op("Div", self.op("MatMul", query, turned), self.number(scale))
        shares = self.op("Softmax", self.op("Add", scores, bias), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self.op("Reshape", mixed, self.constant([0, 0, -1]))

    def rotation(self, size: int, theta: float) -> tuple[str, str]:
        """Cosine and sine [sequence, size] of rotary positions, for ``rotate``."""
        frequencies = (1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))).astype(
            np.float32
        )
        positions = self.op("Cast", self.positions(), to=TensorProto.FLOAT)
        angles = self.op(
            "Mul", self.op("Unsqueeze", positions, self.constant([1])), self.constant(frequencies, np.float32)
        )
        both = self.op("Concat", angles, angles, axis=-1)
        return self.op("Cos", both), self.op("Sin", both)

    def rotate(self, value: str, rotation: tuple[str, str], size: int) -> str:
        """Rotary positions by halves (RoFormer, arXiv:2104.09864, in the order of GPT-NeoX)."""
        cosine, sine = rotation
        start, middle, end, last = (self.constant([x]) for x in (0, size // 2, size, -1))
        low = self.op("Slice", value, start, middle, last)
        high = self.op("Slice", value, middle, end, last)
        turned = self.op("Concat", self.op("Neg", high), low, axis=-1)
        return self.op("Add", self.op("Mul", value, cosine), self.op("Mul", turned, sine))
