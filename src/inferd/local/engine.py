"""What runs a model's graph: the interface, and which implementation and precision are used.

An engine opens a graph once into a ``Program``, which holds the weights. Each ``Session`` of a program runs one batch
at a time; sessions run side by side, up to the program's width, and share the weights.
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inferd.core.results import Float32s
from inferd.errors import IllegalArgument

Array = npt.NDArray[Any]


class Precision(StrEnum):
    """What the engine computes in."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    """Weights and activations of the matrix products in 8 bits: lossy, only when asked for."""


class Session(Protocol):
    """Runs one batch at a time; belongs to one thread at a time."""

    def run(self, *inputs: Array) -> Float32s:
        """The graph's output for its inputs, in the graph's order; missing ones are filled in (``fill``).

        The array is only good until the next run: copy what is kept.
        """
        ...


class Program(Protocol):
    """A graph with its weights, ready to run."""

    width: int
    """Sessions that can run at the same time."""

    def session(self) -> Session: ...


class Engine(Protocol):
    name: str

    def open(
        self, graph: Path, *, output: str | None, threads: int, width: int, precision: Precision
    ) -> Program:
        """Load a graph. ``output`` names the one to give back where there are several; None: the first.

        Blocks for the time that it takes; raises what the engine raises when the file is not a graph.
        """
        ...


def fill(names: list[str], inputs: tuple[Array, ...]) -> list[Array]:
    """The arrays for a text graph's inputs when only some were given, by the names that exports use.

    ``inputs`` are the ids, then the token types. Nothing is ever padded, so every mask is ones.
    """
    ids = inputs[0]
    made = []
    for name in names:
        if name == "attention_mask":
            made.append(np.ones_like(ids))
        elif name == "token_type_ids":
            made.append(inputs[1] if len(inputs) > 1 else np.zeros_like(ids))
        elif name == "position_ids":
            made.append(np.broadcast_to(np.arange(ids.shape[1], dtype=np.int64), ids.shape).copy())
        else:
            made.append(ids)
    return made


def find(name: str) -> Engine:
    """The engine of that name: ``openvino``, ``onnxruntime`` (processor) or ``cuda`` (ONNX Runtime on a GPU)."""
    if name == "openvino":
        from inferd.local.openvino_engine import OpenVino

        return OpenVino()
    if name in ("onnxruntime", "cuda"):
        from inferd.local.onnx_engine import OnnxRuntime

        return OnnxRuntime(cuda=name == "cuda")
    raise IllegalArgument(f"models.engine [{name}] is not one of [openvino, onnxruntime, cuda]")


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the first processor can do, as Linux names it; empty elsewhere."""
    try:
        with cpuinfo.open() as lines:
            found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return frozenset()
    return frozenset(found.partition(":")[2].split())


def choose(precision: str, flags: frozenset[str] | None = None) -> Precision:
    """The precision that a setting means here.

    ``auto`` is bf16 where the processor multiplies it natively and float32 elsewhere; emulated bf16 is slower
    than float32. docs/decisions/ holds the measurements.
    """
    if precision != "auto":
        try:
            return Precision(precision)
        except ValueError:
            raise IllegalArgument(
                f"models.precision [{precision}] is not one of [auto, f32, bf16, int8]"
            ) from None
    native = processor_flags() if flags is None else flags
    return Precision.BF16 if native & {"avx512_bf16", "amx_bf16"} else Precision.F32
