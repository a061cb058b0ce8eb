"""Graphs written from weights, against what transformers computed (graphs.json; integration/record_graphs.py)."""

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import onnxruntime
import openvino
import pytest
from safetensors.numpy import save_file

from inferd.errors import IllegalArgument
from inferd.local.encoders import FAMILIES
from inferd.local.graphs import Head, Storage, build, build_directory, save
from inferd.local.tensors import Arrays, Safetensors

RECORDS = json.loads((Path(__file__).parent / "graphs.json").read_text())
BERT = next(x for x in RECORDS if x["config"]["model_type"] == "bert" and x["head"] == "masked")
LENGTHS = ((1, 0), (11, 4))


def weight(name: str, shape: list[int]) -> np.ndarray:
    values = 0.4 * np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    return (values + ("norm" in name.lower() or "ln" in name) * name.endswith("weight")).astype(np.float32)


def weights(record: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: weight(name, shape) for name, shape in record["tensors"].items()}


def inputs(length: int, padded: int) -> dict[str, np.ndarray]:
    ids = 5 + np.arange(2 * length).reshape(2, length) * 7 % 18
    mask = np.ones_like(ids)
    if padded:
        ids[1, -padded:], mask[1, -padded:] = 1, 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) > 4) * np.ones_like(ids),
    }


def run(model: Any, length: int, padded: int) -> np.ndarray:
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = {x.name for x in session.get_inputs()}
    return session.run(None, {k: v for k, v in inputs(length, padded).items() if k in names})[0]


def distance(given: np.ndarray, record: dict[str, Any], n: int) -> float:
    """Greatest difference over the tokens that are not padding, as a share of the greatest value."""
    expected = np.array(record["answers"][n]).reshape(given.shape)
    if given.ndim == 3:
        seen = inputs(*LENGTHS[n])["attention_mask"].astype(bool)
        given, expected = given[seen], expected[seen]
    return float(np.abs(given - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("record", RECORDS, ids=lambda x: f"{x['config']['model_type']}-{x['head']}")
@pytest.mark.parametrize("n", [0, 1])
def test_every_architecture_and_head_gives_what_transformers_gives(record: dict[str, Any], n: int) -> None:
    """One token and a padded batch come out as the reference computed them."""
    model = build(weights(record), record["config"], Head(record["head"]))
    assert distance(run(model, *LENGTHS[n]), record, n) < 1e-5


@pytest.mark.parametrize(
    "record", [x for x in RECORDS if x["head"] == "states"], ids=lambda x: x["config"]["model_type"]
)
def test_the_default_engine_runs_every_architecture(record: dict[str, Any], tmp_path: Path) -> None:
    """OpenVINO reads each graph and gives the same."""
    save(build(weights(record), record["config"], Head.STATES), tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(
        tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    names = {x.get_any_name() for x in compiled.inputs}
    feed = {k: v for k, v in inputs(*LENGTHS[1]).items() if k in names}
    assert distance(compiled.create_infer_request().infer(feed)[0], record, 1) < 1e-5


def test_every_architecture_is_recorded() -> None:
    """No family and no head of a family is without a record."""
    recorded = {(x["config"]["model_type"], x["head"]) for x in RECORDS}
    offered = {
        (name, head)
        for name, family in FAMILIES.items()
        for head, there in (("states", True), ("masked", family.masked), ("classes", family.classes))
        if there
    }
    assert recorded == offered


@pytest.mark.parametrize("n", [0, 1])
def test_maxima_are_the_highest_positive_logits_of_what_is_not_padding(n: int) -> None:
    """The maxima head equals ReLU and maximum taken of the masked head's logits."""
    logits = run(build(weights(BERT), BERT["config"], Head.MASKED), *LENGTHS[n])
    mask = inputs(*LENGTHS[n])["attention_mask"][:, :, None]
    maxima = run(build(weights(BERT), BERT["config"], Head.MAXIMA), *LENGTHS[n])
    np.testing.assert_allclose(maxima, (np.maximum(logits, 0) * mask).max(axis=1), atol=1e-6)


def test_referenced_weights_stay_where_they_are(tmp_path: Path) -> None:
    """A graph beside its safetensors file holds no copy of the weights and computes the same bits."""
    save_file(weights(BERT), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(BERT["config"]))
    save(build_directory(tmp_path, Head.MASKED), tmp_path / "model.onnx")
    copied = build_directory(tmp_path, Head.MASKED, storage=Storage.FLOAT32)
    assert np.array_equal(run(str(tmp_path / "model.onnx"), 11, 4), run(copied, 11, 4))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(Exception, match=r"model\.safetensors"):
        run(str(tmp_path / "model.onnx"), 11, 4)


def test_half_precision_halves_the_file_and_keeps_the_answer(tmp_path: Path) -> None:
    """Matrices take two bytes a number; the answer moves by less than the precision of half floats."""
    tall = {**weights(BERT), "bert.embeddings.word_embeddings.weight": weight("words", [4096, 16])}
    whole = build(tall, BERT["config"], Head.STATES, storage=Storage.FLOAT32)
    half = build(tall, BERT["config"], Head.STATES, storage=Storage.FLOAT16)
    assert half.ByteSize() < 0.6 * whole.ByteSize()
    np.testing.assert_allclose(run(half, 11, 4), run(whole, 11, 4), atol=5e-3)


def test_weights_too_large_for_half_precision_are_refused() -> None:
    """A weight that half precision turns into infinity is an error, not an infinite answer."""
    huge = {**weights(BERT), "bert.embeddings.word_embeddings.weight": np.full((23, 16), 1e6, np.float32)}
    with pytest.raises(IllegalArgument, match=r"\[bert.embeddings.word_embeddings.weight\] has values"):
        build(huge, BERT["config"], Head.STATES, storage=Storage.FLOAT16)


def test_tied_decoders_may_be_absent() -> None:
    """A decoder left out of the file is the word embeddings; a second name for its bias will do."""
    given = weights(BERT)
    given.pop("cls.predictions.decoder.weight", None)
    bias = given.pop("cls.predictions.bias")
    model = build({**given, "cls.predictions.decoder.bias": bias}, BERT["config"], Head.MASKED)
    assert distance(run(model, 11, 4), BERT, 1) < 1e-5


@pytest.mark.parametrize(
    ("config", "head", "reason"),
    [
        ({"model_type": "t5"}, Head.STATES, r"\[t5\] is not one of \[bert, deberta-v2"),
        ({"model_type": None}, Head.STATES, "does not describe a model"),
        ({"hidden_size": "wide"}, Head.STATES, "does not describe a model"),
        ({"num_attention_heads": 0}, Head.STATES, "sizes must be positive"),
        ({"hidden_act": "snake"}, Head.STATES, r"\[snake\] is not known"),
        ({"position_embedding_type": "relative_key"}, Head.STATES, "not supported: relative_key positions"),
        ({"num_hidden_layers": 3}, Head.STATES, r"lack \[bert.encoder.layer.2.attention.self.query.weight\]"),
        ({}, Head.CLASSES, r"lack \[bert.pooler.dense.weight\]"),
        ({"model_type": "qwen3"}, Head.STATES, r"lack \[embed_tokens.weight\]"),
    ],
)
def test_what_cannot_be_written_is_named(config: dict[str, Any], head: Head, reason: str) -> None:
    """Unknown architectures, variants and missing weights are errors that name them."""
    with pytest.raises(IllegalArgument, match=reason):
        build(weights(BERT), {**BERT["config"], **config}, head)


def test_an_architecture_without_the_head_says_so() -> None:
    """Asking a decoder for classification is an error."""
    record = next(x for x in RECORDS if x["config"]["model_type"] == "qwen3")
    with pytest.raises(IllegalArgument, match=r"\[qwen3\] has no \[classes\] head"):
        build(weights(record), record["config"], Head.CLASSES)


def test_a_config_that_is_not_json_is_named(tmp_path: Path) -> None:
    """A broken config.json is an error of ours, not of the parser."""
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(IllegalArgument, match=r"\[config.json\] cannot be read"):
        build_directory(tmp_path, Head.STATES)


def test_saving_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    """A graph that cannot be put in place leaves no draft."""
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OSError, match=r"model\.onnx"):
        save(build(weights(BERT), BERT["config"], Head.STATES), tmp_path / "model.onnx")
    assert [x.name for x in tmp_path.iterdir()] == ["model.onnx"]


# Safetensors


def write_raw(path: Path, header: bytes, body: bytes = b"", length: int | None = None) -> Path:
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + body)
    return path


def test_tensors_are_read_as_the_library_writes_them(tmp_path: Path) -> None:
    """Shapes, values and places of a file written by safetensors."""
    given = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], np.float16)}
    save_file(given, tmp_path / "x.safetensors", {"format": "pt"})
    found = Safetensors(tmp_path / "x.safetensors")
    assert set(found.names()) == {"a", "b"}
    assert found.shape("a") == (2, 3)
    assert all(np.array_equal(found.array(name), array) for name, array in given.items())
    file, offset, length, dtype = found.place("a")
    assert (file, length, dtype) == ("x.safetensors", 24, "F32")
    assert (tmp_path / file).read_bytes()[offset : offset + length] == given["a"].tobytes()
    assert Arrays(given).place("a") is None


def test_bfloat16_is_read_exactly(tmp_path: Path) -> None:
    """The upper half of a float32 is that float32."""
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    raw = np.array([1.5, -3.0], np.float32).view(np.uint16)[1::2].tobytes()
    found = Safetensors(write_raw(tmp_path / "x.safetensors", header, raw))
    assert found.array("x").tolist() == [1.5, -3.0]


@pytest.mark.parametrize(
    ("header", "body", "length", "reason"),
    [
        (b"", b"", None, "its header does not fit"),
        (b"{}", b"", 1 << 62, "its header does not fit"),
        (b"{nope}", b"", None, "its header cannot be read"),
        (b'{"\xff":{}}', b"", None, "its header cannot be read"),
        (b'{"x":{"dtype":"F32"}}', b"", None, "its header cannot be read"),
        (b'{"x":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}', b"0", None, r"unknown type \[F8\]"),
        (b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"0000", None, "another size"),
        (b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}', b"0000", None, "another size"),
        (b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"000", None, "outside of the file"),
        (b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"0000", None, "outside of the file"),
    ],
)
def test_broken_files_are_refused(
    tmp_path: Path, header: bytes, body: bytes, length: int | None, reason: str
) -> None:
    """A header that lies about the file is an error that names the file, before any byte is read through it."""
    with pytest.raises(
        IllegalArgument, match=rf"\[x.safetensors\] is not a whole safetensors file: .*{reason}"
    ):
        Safetensors(write_raw(tmp_path / "x.safetensors", header, body, length))
