"""Write ``tests/local/graphs.json``: what transformers computes with tiny random weights of every architecture.

Run in the environment of ``test_graphs.py``: ``PYTHONPATH=src:integration python integration/record_graphs.py``. The
weights are not stored: they come from a frozen generator, seeded by each tensor's name.
"""

import json
import tempfile
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from test_graphs import AUTO

from inferd.local.graphs import Head

TINY = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT_LIKE = {**TINY, "intermediate_size": 24, "max_position_embeddings": 40, "num_labels": 3}
CONFIGS = {
    "bert": tf.BertConfig(**BERT_LIKE),
    "distilbert": tf.DistilBertConfig(
        vocab_size=23, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40, num_labels=3
    ),
    "roberta": tf.RobertaConfig(**BERT_LIKE, pad_token_id=1, type_vocab_size=1),
    "xlm-roberta": tf.XLMRobertaConfig(**BERT_LIKE, pad_token_id=1, type_vocab_size=1),
    "mpnet": tf.MPNetConfig(**BERT_LIKE, pad_token_id=1),
    "deberta-v2": tf.DebertaV2Config(
        **BERT_LIKE,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=6,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        pooler_hidden_size=16,
    ),
    "modernbert": tf.ModernBertConfig(
        **TINY,
        intermediate_size=24,
        num_labels=3,
        pad_token_id=1,
        local_attention=4,
        max_position_embeddings=40,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    ),
    "nomic_bert": tf.NomicBertConfig(**TINY, intermediate_size=24),
    "qwen3": tf.Qwen3Config(**TINY, intermediate_size=24, head_dim=8, num_key_value_heads=1),
}
STATES_ONLY = ("nomic_bert", "qwen3")
LENGTHS = ((1, 0), (11, 4))


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The same function as in tests/local/test_graphs.py."""
    values = 0.4 * np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    return (values + ("norm" in name.lower() or "ln" in name) * name.endswith("weight")).astype(np.float32)


def record(config: tf.PretrainedConfig, head: Head) -> dict:
    config._attn_implementation = "eager"
    model = AUTO[head].from_config(config).eval()
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        shapes = {
            name: tuple(x.shape) for name, x in load_file(Path(directory) / "model.safetensors").items()
        }
        written = json.loads((Path(directory) / "config.json").read_text())
        weights = {name: torch.from_numpy(weight(name, shape)) for name, shape in shapes.items()}
        save_file(weights, Path(directory) / "model.safetensors", {"format": "pt"})
        model = AUTO[head].from_pretrained(directory, attn_implementation="eager").eval()
    answers = []
    for length, padded in LENGTHS:
        feed = inputs(length, padded)
        if config.model_type not in ("bert", "nomic_bert"):
            del feed["token_type_ids"]
        with torch.no_grad():
            answer = model(**{k: torch.from_numpy(v) for k, v in feed.items()})
        values = answer.last_hidden_state if head is Head.STATES else answer.logits
        answers.append([float(f"{x:.6g}") for x in values.numpy().ravel()])
    return {"config": written, "head": head, "tensors": shapes, "answers": answers}


def inputs(length: int, padded: int) -> dict[str, np.ndarray]:
    """The same function as in tests/local/test_graphs.py."""
    ids = 5 + np.arange(2 * length).reshape(2, length) * 7 % 18
    mask = np.ones_like(ids)
    if padded:
        ids[1, -padded:], mask[1, -padded:] = 1, 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) > 4) * np.ones_like(ids),
    }


def main() -> None:
    heads = (Head.STATES, Head.MASKED, Head.CLASSES)
    records = [
        record(config, head)
        for name, config in CONFIGS.items()
        for head in (heads[:1] if name in STATES_ONLY else heads)
    ]
    path = Path(__file__).parent.parent / "tests" / "local" / "graphs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in records) + "\n]\n")


if __name__ == "__main__":
    main()
