"""Weights at rest: safetensors files, read without a framework.

The format is 8 bytes of header length, a JSON header and one raw little-endian block:
https://github.com/huggingface/safetensors#format. The header is read and checked here, for an ONNX graph may
point at a tensor's bytes where they lie.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from inferd.errors import IllegalArgument

Array = npt.NDArray[Any]

_MOST_HEADER_BYTES = 100_000_000
_WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_NUMPY = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Place(NamedTuple):
    """Where a tensor lies: file name, offset and length in bytes, dtype as safetensors names it."""

    file: str
    offset: int
    length: int
    dtype: str


class Tensors(Protocol):
    """Named weights. ``place`` is None when they are only in memory."""

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def array(self, name: str) -> Array: ...

    def place(self, name: str) -> Place | None: ...


class Arrays:
    """Weights in memory."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    def names(self) -> Iterable[str]:
        return self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].shape

    def array(self, name: str) -> Array:
        return self._arrays[name]

    def place(self, name: str) -> Place | None:
        return None


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class Safetensors:
    """One safetensors file, its header checked against its size; bytes are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start, self._entries = _header(path)

    def names(self) -> Iterable[str]:
        return self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def place(self, name: str) -> Place:
        entry = self._entries[name]
        begin, end = entry.data_offsets
        return Place(self.path.name, self._start + begin, end - begin, entry.dtype)

    def array(self, name: str) -> Array:
        _, offset, length, dtype = self.place(name)
        with self.path.open("rb") as file:
            file.seek(offset)
            raw = file.read(length)
        shape = self.shape(name)
        if dtype == "BF16":
            wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(shape)
        return np.frombuffer(raw, _NUMPY[dtype]).reshape(shape)


def _header(path: Path) -> tuple[int, dict[str, _Entry]]:
    def bad(why: str) -> IllegalArgument:
        return IllegalArgument(f"[{path.name}] is not a whole safetensors file: {why}")

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
            raise bad("its header does not fit")
        raw = file.read(length)
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in header.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise bad("its header cannot be read") from cause
    for name, entry in entries.items():
        begin, end = entry.data_offsets
        width = _WIDTH.get(entry.dtype)
        if width is None:
            raise bad(f"tensor [{name}] has the unknown type [{entry.dtype}]")
        if min(entry.shape, default=0) < 0 or end - begin != width * math.prod(entry.shape):
            raise bad(f"tensor [{name}] has another size than its shape says")
        if not 0 <= begin <= end <= size - 8 - length:
            raise bad(f"tensor [{name}] lies outside of the file")
    return 8 + length, entries
