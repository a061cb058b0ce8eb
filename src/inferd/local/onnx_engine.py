"""ONNX Runtime: where OpenVINO has no build, and on NVIDIA GPUs. https://onnxruntime.ai/docs/

An extra: ``inferd[onnxruntime]`` for processors, ``inferd[cuda]`` for GPUs.
"""

from pathlib import Path
from typing import Any

from inferd.core.results import Float32s
from inferd.errors import IllegalArgument, StatusError
from inferd.local.engine import Array, Precision, fill


def _onnxruntime(extra: str) -> Any:
    try:
        import onnxruntime
    except ImportError as cause:
        raise StatusError(
            500,
            f"models.engine needs ONNX Runtime, which is not installed here: run [pip install 'inferd[{extra}]']",
        ) from cause
    return onnxruntime


class OnnxRuntime:
    """The engine. float32 only; ``cuda`` runs on the first GPU."""

    def __init__(self, *, cuda: bool = False) -> None:
        self.name = "cuda" if cuda else "onnxruntime"
        self._cuda = cuda

    def open(
        self, graph: Path, *, output: str | None, threads: int, width: int, precision: Precision
    ) -> "OnnxProgram":
        runtime = _onnxruntime("cuda" if self._cuda else "onnxruntime")
        if precision is not Precision.F32:
            raise IllegalArgument(f"models.engine [{self.name}] computes in [f32], not in [{precision}]")
        provider = "CUDAExecutionProvider" if self._cuda else "CPUExecutionProvider"
        if provider not in runtime.get_available_providers():
            raise StatusError(500, f"ONNX Runtime has no [{provider}] here: run [pip install 'inferd[cuda]']")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # TF32 is the GPU's default and no float32: it would break parity.
        providers = [(provider, {"use_tf32": "0"} if self._cuda else {})]
        session = runtime.InferenceSession(str(graph), options, providers=providers)
        names: list[str] = [found.name for found in session.get_outputs()]
        if output is not None and len(names) > 1 and output not in names:
            raise IllegalArgument(f"The graph has no output [{output}]; it has {names}")
        return OnnxProgram(session, output if output is not None and output in names else names[0], width)


class OnnxProgram:
    def __init__(self, session: Any, output: str, width: int) -> None:
        self.width = width
        self._session, self._output = session, output
        self._inputs = [found.name for found in session.get_inputs()]

    def session(self) -> "OnnxSession":
        return OnnxSession(self._session, self._inputs, self._output)


class OnnxSession:
    """ONNX Runtime's own session runs many batches side by side, so this is but a name for it."""

    def __init__(self, session: Any, inputs: list[str], output: str) -> None:
        self._session, self._inputs, self._output = session, inputs, output

    def run(self, *inputs: Array) -> Float32s:
        given = list(inputs) if len(inputs) == len(self._inputs) else fill(self._inputs, inputs)
        result: Float32s = self._session.run([self._output], dict(zip(self._inputs, given, strict=True)))[0]
        return result
