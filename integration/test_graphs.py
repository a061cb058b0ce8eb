"""The graphs that are written here against transformers, on random weights of every architecture.

``bash integration/run integration/test_graphs.py``; torch, transformers, onnxruntime and pytest are all it needs.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers as tf
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from inferd.local.encoders import deberta_buckets, read_config
from inferd.local.graphs import Head, Storage, build_directory, save

TINY = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
BERT_LIKE = {**TINY, "intermediate_size": 64, "max_position_embeddings": 600, "num_labels": 3}
DEBERTA = {
    **BERT_LIKE,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "pooler_hidden_size": 32,
    "max_relative_positions": -1,
}
CONFIGS = {
    "bert": tf.BertConfig(**BERT_LIKE),
    "bert-relu": tf.BertConfig(**BERT_LIKE, hidden_act="relu"),
    "bert-tanh": tf.BertConfig(**BERT_LIKE, hidden_act="gelu_new"),
    "distilbert": tf.DistilBertConfig(
        vocab_size=97, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=600, num_labels=3
    ),
    "roberta": tf.RobertaConfig(**BERT_LIKE, pad_token_id=1, type_vocab_size=1),
    "xlm-roberta": tf.XLMRobertaConfig(**BERT_LIKE, pad_token_id=1, type_vocab_size=1),
    "mpnet": tf.MPNetConfig(**BERT_LIKE, pad_token_id=1),
    "deberta-v2": tf.DebertaV2Config(**DEBERTA),
    "deberta-v2-unshared": tf.DebertaV2Config(
        **{**DEBERTA, "share_att_key": False, "type_vocab_size": 2, "position_biased_input": True}
    ),
    "deberta-v2-exact": tf.DebertaV2Config(
        **{**DEBERTA, "position_buckets": -1, "pos_att_type": ["c2p"], "norm_rel_ebd": "none"}
    ),
    "deberta-v2-lm": tf.DebertaV2Config(**DEBERTA, legacy=False),
    "modernbert": tf.ModernBertConfig(
        **TINY,
        intermediate_size=48,
        num_labels=3,
        pad_token_id=1,
        local_attention=16,
        max_position_embeddings=600,
    ),
}
STATES_ONLY = {
    "nomic_bert": tf.NomicBertConfig(**TINY, intermediate_size=64),
    "qwen3": tf.Qwen3Config(
        **TINY, intermediate_size=64, head_dim=16, num_key_value_heads=2, max_position_embeddings=600
    ),
}
AUTO = {
    Head.STATES: tf.AutoModel,
    Head.MASKED: tf.AutoModelForMaskedLM,
    Head.CLASSES: tf.AutoModelForSequenceClassification,
}


def random_model(config: tf.PretrainedConfig, head: Head) -> torch.nn.Module:
    """Every weight random and large enough that each one matters."""
    torch.manual_seed(7)
    config._attn_implementation = "eager"
    model = AUTO[head].from_config(config).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, std=0.3)
        if "norm" in name.lower() and name.endswith("weight"):
            weight.data += 1
    return model


def inputs(length: int, padded: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(length)
    ids = rng.integers(5, 97, (2, length))
    mask = np.ones_like(ids)
    if padded:
        ids[1, -padded:], mask[1, -padded:] = 1, 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) > 4) * np.ones_like(ids),
    }


def assert_same(model: torch.nn.Module, head: Head, directory: Path, storage: Storage, atol: float) -> None:
    save(build_directory(directory, head, storage=storage), directory / "model.onnx")
    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    names = {x.name for x in session.get_inputs()}
    for length, padded in ((1, 0), (9, 0), (40, 7), (301, 50)):
        feed = {k: v for k, v in inputs(length, padded).items() if k in names}
        given = session.run(None, feed)[0]
        with torch.no_grad():
            answer = model(**{k: torch.from_numpy(v) for k, v in feed.items()})
        expected = (answer.last_hidden_state if head is Head.STATES else answer.logits).numpy()
        seen = feed["attention_mask"].astype(bool)
        if expected.ndim == 3:
            given, expected = given[seen], expected[seen]
        scale = np.abs(expected).max()
        assert np.abs(given - expected).max() <= atol * scale


@pytest.mark.parametrize("head", [Head.STATES, Head.MASKED, Head.CLASSES])
@pytest.mark.parametrize("name", CONFIGS)
def test_encoders_with_every_head(name: str, head: Head, tmp_path: Path) -> None:
    """Each family gives what transformers gives, at length 1 and beyond every bucket, with and without padding."""
    model = random_model(CONFIGS[name], head)
    model.save_pretrained(tmp_path)
    assert_same(model, head, tmp_path, Storage.REFERENCED, 2e-5)


@pytest.mark.parametrize("name", STATES_ONLY)
def test_encoders_without_heads(name: str, tmp_path: Path) -> None:
    """Rotary encoders and decoders give what transformers gives."""
    model = random_model(STATES_ONLY[name], Head.STATES)
    model.save_pretrained(tmp_path)
    assert_same(model, Head.STATES, tmp_path, Storage.REFERENCED, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("storage", [Storage.REFERENCED, Storage.FLOAT32])
def test_half_weights_are_read_exactly(dtype: torch.dtype, storage: Storage, tmp_path: Path) -> None:
    """Weights stored in half precision count exactly as stored."""
    model = random_model(CONFIGS["bert"], Head.STATES).to(dtype)
    model.save_pretrained(tmp_path)
    assert_same(model.float(), Head.STATES, tmp_path, storage, 2e-5)


@pytest.mark.parametrize(("buckets", "reach"), [(256, 512), (16, 600), (256, 8192)])
def test_deberta_buckets(buckets: int, reach: int) -> None:
    """The buckets of every distance are transformers' own, where rounding decides too."""
    config = {
        **DEBERTA,
        "model_type": "deberta-v2",
        "position_buckets": buckets,
        "max_position_embeddings": reach,
    }
    span, table = deberta_buckets(read_config(config))
    expected = make_log_bucket_position(torch.arange(-reach, reach + 1), buckets, reach).long().numpy()
    assert span == buckets
    assert np.array_equal(table, expected)
