"""Models of a few hundred kilobytes with random weights, for other people's servers: GGUF files and transformers folders.

All are written by hand, without torch, so that any version of a server reads them. Their words are ``WORDS``; whatever
they say is made of these.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WORDS = [
    "the",
    "sky",
    "above",
    "port",
    "was",
    "color",
    "of",
    "television",
    "tuned",
    "to",
    "a",
    "dead",
    "channel",
]
WORDS += ["naïve", "日本", "\U0001f600"]
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TEMPLATE = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
_EPSILON = 1e-5
_WIDTH, _INNER, _LAYERS, _HEADS, _CONTEXT = 64, 96, 2, 4, 512


class _Weights:
    """Random matrices and plain norms by name."""

    def __init__(self, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self.made: dict[str, np.ndarray] = {}

    def random(self, name: str, *shape: int, scale: float = 0.5) -> None:
        self.made[name] = (scale * self._chance.standard_normal(shape)).astype(np.float32)

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        self.random(f"{name}.weight", outputs, inputs)
        if bias:
            self.random(f"{name}.bias", outputs)

    def norm(self, name: str, *, bias: bool = True) -> None:
        self.made[f"{name}.weight"] = np.ones(_WIDTH, np.float32)
        if bias:
            self.made[f"{name}.bias"] = np.zeros(_WIDTH, np.float32)

    def words_only(self, name: str, first: int, count: int) -> None:
        """Logits of the special tokens are zero, so that greedy decoding always says a word and never stops by itself."""
        self.random(name, count, _WIDTH)
        self.made[name][:first] = 0


def chat_gguf(path: Path) -> None:
    """A llama with a SentencePiece vocabulary: bytes and words."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *("▁" + word for word in WORDS)]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    file = _gguf(path, "llama", tokens, kinds)
    file.add_tokenizer_model("llama")
    file.add_token_scores([0.0] * len(tokens))
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_head_count_kv(_HEADS)
    file.add_layer_norm_rms_eps(_EPSILON)
    file.add_rope_dimension_count(_WIDTH // _HEADS)
    file.add_chat_template(_TEMPLATE)
    weights = _Weights(0)
    weights.random("token_embd.weight", len(tokens), _WIDTH)
    weights.words_only("output.weight", 259, len(tokens))
    weights.norm("output_norm", bias=False)
    for n in range(_LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            weights.norm(f"blk.{n}.{name}", bias=False)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.linear(f"blk.{n}.{name}", _WIDTH, _WIDTH, bias=False)
        weights.linear(f"blk.{n}.ffn_gate", _WIDTH, _INNER, bias=False)
        weights.linear(f"blk.{n}.ffn_up", _WIDTH, _INNER, bias=False)
        weights.linear(f"blk.{n}.ffn_down", _INNER, _WIDTH, bias=False)
    _write(file, weights)


def rank_gguf(path: Path) -> None:
    """A BERT with a ranking head and a WordPiece vocabulary."""
    tokens = [*_SPECIAL, *("▁" + word for word in WORDS)]
    kinds = [gguf.TokenType.CONTROL] * len(_SPECIAL)
    file = _gguf(path, "bert", tokens, kinds)
    file.add_tokenizer_model("bert")
    file.add_token_type_count(2)
    file.add_pad_token_id(0)
    file.add_unk_token_id(1)
    file.add_bos_token_id(2)
    file.add_sep_token_id(3)
    file.add_eos_token_id(3)
    file.add_mask_token_id(4)
    file.add_layer_norm_eps(_EPSILON)
    file.add_causal_attention(False)
    file.add_pooling_type(gguf.PoolingType.RANK)
    weights = _Weights(1)
    weights.random("token_embd.weight", len(tokens), _WIDTH)
    weights.random("position_embd.weight", _CONTEXT, _WIDTH)
    weights.random("token_types.weight", 2, _WIDTH)
    weights.norm("token_embd_norm")
    for n in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.linear(f"blk.{n}.{name}", _WIDTH, _WIDTH)
        weights.norm(f"blk.{n}.attn_output_norm")
        weights.linear(f"blk.{n}.ffn_up", _WIDTH, _INNER)
        weights.linear(f"blk.{n}.ffn_down", _INNER, _WIDTH)
        weights.norm(f"blk.{n}.layer_output_norm")
    weights.linear("cls", _WIDTH, _WIDTH)
    weights.linear("cls.output", _WIDTH, 1)
    _write(file, weights)


def _gguf(path: Path, architecture: str, tokens: list[str], kinds: list[int]) -> gguf.GGUFWriter:
    file = gguf.GGUFWriter(str(path), architecture)
    file.add_context_length(_CONTEXT)
    file.add_embedding_length(_WIDTH)
    file.add_block_count(_LAYERS)
    file.add_feed_forward_length(_INNER)
    file.add_head_count(_HEADS)
    file.add_vocab_size(len(tokens))
    file.add_token_list(tokens)
    file.add_token_types(kinds + [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds)))
    return file


def _write(file: gguf.GGUFWriter, weights: _Weights) -> None:
    for name, matrix in weights.made.items():
        file.add_tensor(name, matrix)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def llama_folder(folder: Path) -> None:
    """LlamaForCausalLM as transformers saves it."""
    tokens = len(_SPECIAL) + len(WORDS)
    weights = _Weights(2)
    weights.random("model.embed_tokens.weight", tokens, _WIDTH)
    weights.words_only("lm_head.weight", len(_SPECIAL), tokens)
    weights.norm("model.norm", bias=False)
    for n in range(_LAYERS):
        layer = f"model.layers.{n}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights.norm(f"{layer}.{name}", bias=False)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights.linear(f"{layer}.self_attn.{name}", _WIDTH, _WIDTH, bias=False)
        for name in ("gate_proj", "up_proj"):
            weights.linear(f"{layer}.mlp.{name}", _WIDTH, _INNER, bias=False)
        weights.linear(f"{layer}.mlp.down_proj", _INNER, _WIDTH, bias=False)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "num_key_value_heads": _HEADS,
        "rms_norm_eps": _EPSILON,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "tie_word_embeddings": False,
    }
    _save(folder, config, weights, chat_template=_TEMPLATE)
    # The server's own limit is a thousand tokens: a common word ends the answer before.
    ends = {"bos_token_id": 2, "eos_token_id": [3, len(_SPECIAL) + WORDS.index("of")], "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps({**ends, "do_sample": False}))


def bert_folder(folder: Path) -> None:
    """BertModel: sentence-transformers pools it by the mean."""
    weights = _Weights(3)
    _bert(weights, "")
    _save(folder, {"architectures": ["BertModel"], **_BERT}, weights)


def cross_encoder_folder(folder: Path) -> None:
    """BertForSequenceClassification with one score."""
    weights = _Weights(4)
    _bert(weights, "bert.")
    weights.linear("classifier", _WIDTH, 1)
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    _save(folder, {"architectures": ["BertForSequenceClassification"], **_BERT, **labels}, weights)


_BERT = {"model_type": "bert", "hidden_act": "gelu", "type_vocab_size": 2, "layer_norm_eps": _EPSILON}


def _bert(weights: _Weights, prefix: str) -> None:
    embeddings = f"{prefix}embeddings"
    weights.random(f"{embeddings}.word_embeddings.weight", len(_SPECIAL) + len(WORDS), _WIDTH)
    weights.random(f"{embeddings}.position_embeddings.weight", _CONTEXT, _WIDTH)
    weights.random(f"{embeddings}.token_type_embeddings.weight", 2, _WIDTH)
    weights.norm(f"{embeddings}.LayerNorm")
    for n in range(_LAYERS):
        layer = f"{prefix}encoder.layer.{n}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            weights.linear(f"{layer}.attention.{name}", _WIDTH, _WIDTH)
        weights.norm(f"{layer}.attention.output.LayerNorm")
        weights.linear(f"{layer}.intermediate.dense", _WIDTH, _INNER)
        weights.linear(f"{layer}.output.dense", _INNER, _WIDTH)
        weights.norm(f"{layer}.output.LayerNorm")
    weights.linear(f"{prefix}pooler.dense", _WIDTH, _WIDTH)


def _save(folder: Path, config: dict[str, Any], weights: _Weights, chat_template: str | None = None) -> None:
    folder.mkdir(parents=True)
    sizes = {
        "hidden_size": _WIDTH,
        "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "max_position_embeddings": _CONTEXT,
        "vocab_size": len(_SPECIAL) + len(WORDS),
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps({**sizes, **config}))
    save_file(weights.made, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 128,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "eos_token": "[SEP]",
        "bos_token": "[CLS]",
    }
    if chat_template:
        settings["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _tokenizer() -> Tokenizer:
    """Words; whatever is not one is ``[UNK]``."""
    ids = {token: n for n, token in enumerate([*_SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer
