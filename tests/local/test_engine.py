"""Engines: the same graph, the same numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write

from inferd.errors import IllegalArgument, StatusError
from inferd.local import engine
from inferd.local.engine import Precision
from inferd.local.graphs import Head
from inferd.local.host import GRAPH
from inferd.local.shelf import BUNDLED

IDS = np.array([[2, 5, 9, 3], [2, 6, 6, 3]])


def run(name: str, graph: Path, *inputs: np.ndarray, precision: Precision = Precision.F32) -> np.ndarray:
    program = engine.find(name).open(graph, output=None, threads=1, width=1, precision=precision)
    return program.session().run(*inputs).copy()


@pytest.mark.parametrize("head", [Head.STATES, Head.MAXIMA, Head.CLASSES])
def test_both_engines_give_the_same_numbers(tmp_path: Path, head: Head) -> None:
    """OpenVINO and ONNX Runtime agree on each head, masks and token types filled in."""
    graph = write(tmp_path, head) / "model.onnx"
    one, other = run("openvino", graph, IDS), run("onnxruntime", graph, IDS)
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_both_engines_read_the_bundled_encoder() -> None:
    """The shipped graph gives the same token states in both."""
    ids = np.array([[101, 3712, 2682, 1996, 3417, 102]])
    one, other = run("openvino", BUNDLED / GRAPH, ids), run("onnxruntime", BUNDLED / GRAPH, ids)
    assert one.shape == (1, 6, 384)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_token_types_reach_the_graph(tmp_path: Path) -> None:
    """A pair's second text is told from its first."""
    graph = write(tmp_path, Head.CLASSES) / "model.onnx"
    types = np.array([[0, 0, 1, 1]] * 2)
    for name in ("openvino", "onnxruntime"):
        assert not np.allclose(run(name, graph, IDS), run(name, graph, IDS, types))


def test_eight_bit_weights_are_near_but_not_the_same(tmp_path: Path) -> None:
    """int8 is lossy, so nobody gets it without asking; it is no other model either."""
    ids = np.array([[101, 3712, 2682, 1996, 3417, 102]])
    exact = run("openvino", BUNDLED / GRAPH, ids).mean(axis=1)[0]
    lossy = run("openvino", BUNDLED / GRAPH, ids, precision=Precision.INT8).mean(axis=1)[0]
    cosine = exact @ lossy / np.linalg.norm(exact) / np.linalg.norm(lossy)
    assert 0.99 < cosine < 0.99999


def test_an_output_is_found_by_name(tmp_path: Path) -> None:
    """A graph with one output needs no name; an unknown one among several is refused."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["input_ids"], [name], to=TensorProto.FLOAT) for name in ("first", "second")
    ]
    nodes[1].output[0] = "half"
    nodes.append(helper.make_node("Add", ["half", "half"], ["second"]))
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", "s"]) for n in ("first", "second")]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])]
    model = helper.make_model(
        helper.make_graph(nodes, "two", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save_model(model, tmp_path / "two.onnx")
    for name in ("openvino", "onnxruntime"):
        found = engine.find(name)

        def opened(output: str | None, found: engine.Engine = found) -> np.ndarray:
            program = found.open(
                tmp_path / "two.onnx", output=output, threads=1, width=1, precision=Precision.F32
            )
            return program.session().run(IDS)

        np.testing.assert_array_equal(opened("second"), 2 * IDS)
        np.testing.assert_array_equal(opened(None), IDS)
        with pytest.raises(IllegalArgument, match=r"no output \[third\]"):
            opened("third")


def test_bfloat16_is_chosen_where_the_processor_has_it_and_float32_elsewhere() -> None:
    """Emulated bf16 is slower than float32, so only native instructions count; a setting overrules."""
    assert engine.choose("auto", frozenset({"avx2", "avx512f"})) is Precision.F32
    assert engine.choose("auto", frozenset({"avx512_bf16"})) is Precision.BF16
    assert engine.choose("auto", frozenset({"amx_bf16"})) is Precision.BF16
    assert engine.choose("int8", frozenset()) is Precision.INT8
    with pytest.raises(IllegalArgument, match=r"\[f64\] is not one of"):
        engine.choose("f64")


def test_processor_flags_are_read_and_may_be_missing(tmp_path: Path) -> None:
    """No /proc/cpuinfo is no error."""
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx2 amx_bf16\nflags\t: other\n")
    assert engine.processor_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "amx_bf16"}
    assert engine.processor_flags(tmp_path / "none") == frozenset()


def test_unknown_and_missing_engines_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong name lists the right ones; a missing package names the extra."""
    with pytest.raises(IllegalArgument, match=r"\[torch\] is not one of \[openvino, onnxruntime, cuda\]"):
        engine.find("torch")
    graph = write(tmp_path, Head.STATES) / "model.onnx"
    with pytest.raises(StatusError, match=r"pip install 'inferd\[cuda\]'"):
        run("cuda", graph, IDS)
    with pytest.raises(IllegalArgument, match=r"computes in \[f32\]"):
        run("onnxruntime", graph, IDS, precision=Precision.BF16)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(StatusError, match=r"pip install 'inferd\[onnxruntime\]'"):
        run("onnxruntime", graph, IDS)


def test_engines_are_imported_late_and_tell_nobody() -> None:
    """Importing the host loads no engine, and OpenVINO is loaded without its usage statistics."""
    code = """
import sys
import inferd.local.host
heavy = {"openvino", "onnxruntime", "onnx", "huggingface_hub", "tokenizers"} & sys.modules.keys()
assert not heavy, heavy
from inferd.local.openvino_engine import load
load()
assert sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
