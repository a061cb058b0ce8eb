"""OpenVINO on the processor: the default engine. https://docs.openvino.ai/

It reads ONNX with weights in half precision: weights that stay compressed as the engine runs go through kernels whose
sums depend on the batch's size, and the same text would not always give the same bits (docs/decisions/0023).
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from inferd.core import memory
from inferd.core.results import Float32s
from inferd.errors import IllegalArgument
from inferd.local.engine import Array, Precision, fill

_PREPARED = 2000
"""Kernels kept for shapes seen: about twenty a shape, half a megabyte and 2 ms of preparation."""


def load() -> Any:
    """The package. Its import reports usage to its makers unless ``openvino_telemetry`` cannot be imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is documented: import fails
    import openvino

    return openvino


class OpenVino:
    """The engine; cheap to make, its core is made with the first graph."""

    name = "openvino"

    def open(
        self, graph: Path, *, output: str | None, threads: int, width: int, precision: Precision
    ) -> "OpenVinoProgram":
        openvino = load()
        core = openvino.Core()
        model = core.read_model(graph)
        if precision is Precision.INT8:
            _quantise(openvino, model)
        settings = {
            "NUM_STREAMS": width,
            "INFERENCE_NUM_THREADS": width * threads,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.BF16 else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32 if precision is Precision.INT8 else 0,
            "CPU_RUNTIME_CACHE_CAPACITY": _PREPARED,
        }
        try:
            # Fused attention takes 18 MB of code and saves no time at these lengths.
            compiled = core.compile_model(model, "CPU", {**settings, "SNIPPETS_MODE": "DISABLE"})
        except RuntimeError:  # that setting is not a public one and may go
            compiled = core.compile_model(model, "CPU", settings)
        del model
        memory.give_back()  # reading a graph leaves as much again as the graph takes
        return OpenVinoProgram(compiled, _index(compiled, output), width)


def _index(compiled: Any, output: str | None) -> int:
    names = [port.get_names() for port in compiled.outputs]
    if output is None or len(names) == 1:
        return 0
    for index, known in enumerate(names):
        if output in known:
            return index
    raise IllegalArgument(f"The graph has no output [{output}]; it has {sorted(set().union(*names))}")


class OpenVinoProgram:
    def __init__(self, compiled: Any, output: int, width: int) -> None:
        self.width = width
        self._compiled, self._output = compiled, output
        self._inputs = [port.get_any_name() for port in compiled.inputs]

    def session(self) -> "OpenVinoSession":
        return OpenVinoSession(self._compiled.create_infer_request(), self._inputs, self._output)


class OpenVinoSession:
    def __init__(self, request: Any, inputs: list[str], output: int) -> None:
        self._request, self._inputs, self._output = request, inputs, output

    def run(self, *inputs: Array) -> Float32s:
        given = list(inputs) if len(inputs) == len(self._inputs) else fill(self._inputs, inputs)
        self._request.infer(given, share_inputs=True, share_outputs=True)
        result: Float32s = self._request.get_output_tensor(self._output).data
        return result


def _quantise(openvino: Any, model: Any) -> None:
    """Weights of the matrix products in 8 bits, one scale an output; the engine quantises activations as it runs."""
    ops = openvino.opset13
    for node in model.get_ops():
        if node.get_type_name() != "MatMul":
            continue
        source = node.input_value(1).get_node()
        while source.get_type_name() == "Convert":
            source = source.input_value(0).get_node()
        if source.get_type_name() != "Constant" or len(source.shape) != 2:
            continue
        across = 1 if node.get_attributes()["transpose_b"] else 0
        weights = source.data.astype(np.float32)
        scale = np.maximum(np.abs(weights).max(axis=across, keepdims=True) / 127, 1e-12).astype(np.float32)
        small = ops.constant(np.rint(weights / scale).astype(np.int8))
        wide = ops.multiply(ops.convert(small, "f32"), ops.constant(scale))
        node.input(1).replace_source_output(wide.output(0))
    model.validate_nodes_and_infer_types()
