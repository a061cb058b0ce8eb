"""The encoders that graphs are written of, one function an architecture, and the heads of each.

Parameter names are those of the published weights. Papers: BERT arXiv:1810.04805, DistilBERT 1910.01108, RoBERTa
1907.11692, XLM-R 1911.02116, MPNet 2004.09297, DeBERTa-v2/v3 2006.03654 and 2111.09543, ModernBERT 2412.13663, Nomic
Embed 2402.01613, Qwen3 Embedding 2506.05176.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto

from inferd.errors import IllegalArgument
from inferd.local.nodes import Writer


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of config.json, under BERT's names."""

    model_type: str
    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 512
    position_embedding_type: str | None = None
    type_vocab_size: int = 0
    pad_token_id: int | None = None
    # MPNet
    relative_attention_num_buckets: int = 32
    # DeBERTa-v2
    relative_attention: bool = False
    position_buckets: int = -1
    max_relative_positions: int = -1
    pos_att_type: str | tuple[str, ...] | None = None
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    position_biased_input: bool = True
    conv_kernel_size: int | None = None
    pooler_hidden_act: str = "gelu"
    # ModernBERT
    local_attention: int = 128
    global_attn_every_n_layers: int = 3
    layer_types: tuple[str, ...] | None = None
    global_rope_theta: float = 160_000.0
    local_rope_theta: float | None = 10_000.0
    classifier_activation: str = "gelu"
    classifier_pooling: str = "cls"
    # Rotary positions
    rope_theta: float | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rotary_emb_fraction: float = 1.0
    rotary_emb_interleaved: bool = False
    rotary_scaling_factor: float | None = None
    prenorm: bool = False
    # Qwen3
    head_dim: int | None = None
    num_key_value_heads: int | None = None
    use_sliding_window: bool = False

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads


_SAME: Mapping[str, str] = {
    "dim": "hidden_size",
    "n_embd": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_head": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "n_layer": "num_hidden_layers",
    "activation": "hidden_act",
    "activation_function": "hidden_act",
    "hidden_activation": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
    "norm_eps": "layer_norm_eps",
    "rms_norm_eps": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}


def read_config(raw: Mapping[str, Any]) -> Config:
    """The part of a config.json that shapes a graph. IllegalArgument when it does not describe a model."""
    fields = {_SAME.get(name, name): value for name, value in raw.items() if value is not None}
    try:
        config = msgspec.convert(fields, Config, strict=False)
    except msgspec.ValidationError as cause:
        raise IllegalArgument(f"[config.json] does not describe a model: {cause}") from cause
    if min(config.hidden_size, config.num_attention_heads, config.num_hidden_layers) < 1:
        raise IllegalArgument("[config.json] does not describe a model: sizes must be positive")
    return config


def _refuse(condition: bool, what: str) -> None:
    if condition:
        raise IllegalArgument(f"This variant of the architecture is not supported: {what}")


# BERT and its kin


def bert(w: Writer, config: Config, root: str) -> str:
    _refuse(
        config.position_embedding_type not in (None, "absolute"),
        f"{config.position_embedding_type} positions",
    )
    words = w.rows(f"{root}embeddings.word_embeddings.weight", "input_ids")
    types = w.rows(f"{root}embeddings.token_type_embeddings.weight", w.input("token_type_ids"))
    positions = w.rows(f"{root}embeddings.position_embeddings.weight", w.positions())
    summed = w.op("Add", w.op("Add", words, types), positions)
    return _bert_layers(w, config, root, w.norm(summed, f"{root}embeddings.LayerNorm", config.layer_norm_eps))


def roberta(w: Writer, config: Config, root: str) -> str:
    """Positions are counted from the padding id on, over what is not padding; the token type is always 0."""
    words = w.rows(f"{root}embeddings.word_embeddings.weight", "input_ids")
    types = w.rows(f"{root}embeddings.token_type_embeddings.weight", w.constant([0]))
    positions = w.rows(f"{root}embeddings.position_embeddings.weight", _counted_positions(w, config))
    summed = w.op("Add", w.op("Add", words, types), positions)
    return _bert_layers(w, config, root, w.norm(summed, f"{root}embeddings.LayerNorm", config.layer_norm_eps))


def _counted_positions(w: Writer, config: Config) -> str:
    padding = w.constant(1 if config.pad_token_id is None else config.pad_token_id)
    there = w.op("Cast", w.op("Not", w.op("Equal", "input_ids", padding)), to=TensorProto.INT64)
    counted = w.op("Mul", w.op("CumSum", there, w.constant(1)), there)
    return w.op("Add", counted, padding)


def _bert_layers(w: Writer, config: Config, root: str, states: str) -> str:
    bias = w.padding_bias()

    def attend(layer: str, states: str) -> str:
        names = (f"{layer}.attention.self.{x}" for x in ("query", "key", "value"))
        return w.linear(_attention(w, config, states, names, bias), f"{layer}.attention.output.dense")

    for n in range(config.num_hidden_layers):
        states = _post_norm_layer(w, config, states, f"{root}encoder.layer.{n}", attend)
    return states


def _attention(w: Writer, config: Config, states: str, names: Any, bias: str) -> str:
    heads, size = config.num_attention_heads, config.head_size
    query, key, value = (w.split_heads(w.linear(states, name), heads, size) for name in names)
    return w.attend(query, key, value, scale=math.sqrt(size), bias=bias)


def _post_norm_layer(
    w: Writer,
    config: Config,
    states: str,
    layer: str,
    attend: Callable[[str, str], str],
    norm: str = "output.",
) -> str:
    """Attention and feed-forward of BERT's names, each added to what came in and normalised after."""
    eps = config.layer_norm_eps
    states = w.norm(w.op("Add", attend(layer, states), states), f"{layer}.attention.{norm}LayerNorm", eps)
    inner = w.activate(w.linear(states, f"{layer}.intermediate.dense"), config.hidden_act)
    outer = w.linear(inner, f"{layer}.output.dense")
    return w.norm(w.op("Add", outer, states), f"{layer}.output.LayerNorm", eps)


def distilbert(w: Writer, config: Config, root: str) -> str:
    eps = config.layer_norm_eps
    words = w.rows(f"{root}embeddings.word_embeddings.weight", "input_ids")
    positions = w.rows(f"{root}embeddings.position_embeddings.weight", w.positions())
    states = w.norm(w.op("Add", words, positions), f"{root}embeddings.LayerNorm", eps)
    bias = w.padding_bias()
    for n in range(config.num_hidden_layers):
        layer = f"{root}transformer.layer.{n}"
        names = (f"{layer}.attention.{x}_lin" for x in "qkv")
        mixed = w.linear(_attention(w, config, states, names, bias), f"{layer}.attention.out_lin")
        states = w.norm(w.op("Add", mixed, states), f"{layer}.sa_layer_norm", eps)
        inner = w.activate(w.linear(states, f"{layer}.ffn.lin1"), config.hidden_act)
        outer = w.linear(inner, f"{layer}.ffn.lin2")
        states = w.norm(w.op("Add", outer, states), f"{layer}.output_layer_norm", eps)
    return states


# MPNet


def mpnet(w: Writer, config: Config, root: str) -> str:
    words = w.rows(f"{root}embeddings.word_embeddings.weight", "input_ids")
    positions = w.rows(f"{root}embeddings.position_embeddings.weight", _counted_positions(w, config))
    states = w.norm(w.op("Add", words, positions), f"{root}embeddings.LayerNorm", config.layer_norm_eps)
    by_distance = _lookup(w, _mpnet_buckets(config), w.distances())
    table = w.rows(f"{root}encoder.relative_attention_bias.weight", by_distance)
    relative = w.op("Unsqueeze", w.op("Transpose", table, perm=[2, 0, 1]), w.constant([0]))
    bias = w.op("Add", relative, w.padding_bias())

    def attend(layer: str, states: str) -> str:
        names = (f"{layer}.attention.attn.{x}" for x in "qkv")
        return w.linear(_attention(w, config, states, names, bias), f"{layer}.attention.attn.o")

    for n in range(config.num_hidden_layers):
        states = _post_norm_layer(w, config, states, f"{root}encoder.layer.{n}", attend, norm="")
    return states


def _lookup(w: Writer, table: np.ndarray[Any, Any], distances: str) -> str:
    """``table`` at the distances; its middle is distance 0, and what lies beyond its ends is as its ends."""
    reach = len(table) // 2
    inside = w.op("Max", w.op("Min", distances, w.constant(reach)), w.constant(-reach))
    return w.op("Gather", w.constant(table), w.op("Add", inside, w.constant(reach)), axis=0)


def _mpnet_buckets(config: Config) -> np.ndarray[Any, Any]:
    """Bucket of each distance −128 … 128 between query and key (T5's, arXiv:1910.10683): near ones exact, far ones
    by their logarithm; the second half is for keys that come after the query."""
    half, reach = config.relative_attention_num_buckets // 2, 128
    exact = half // 2
    distance = np.arange(-reach, reach + 1)
    far = np.abs(distance)
    growth = np.log(np.maximum(far, 1).astype(np.float32) / exact) / math.log(reach / exact) * (half - exact)
    logarithmic = np.minimum(exact + growth.astype(np.int64), half - 1)
    buckets: np.ndarray[Any, Any] = np.where(far < exact, far, logarithmic) + (distance < 0) * half
    return buckets


# DeBERTa-v2 and v3


def deberta(w: Writer, config: Config, root: str) -> str:
    _refuse(bool(config.conv_kernel_size), "a convolution after the first layer")
    _refuse(not config.relative_attention, "no relative attention")
    eps = config.layer_norm_eps
    states = w.rows(f"{root}embeddings.word_embeddings.weight", "input_ids")
    if config.position_biased_input:
        positions = w.rows(f"{root}embeddings.position_embeddings.weight", w.positions())
        states = w.op("Add", states, positions)
    if config.type_vocab_size:
        types = w.rows(f"{root}embeddings.token_type_embeddings.weight", w.input("token_type_ids"))
        states = w.op("Add", states, types)
    if w.has(f"{root}embeddings.embed_proj.weight"):
        states = w.linear(states, f"{root}embeddings.embed_proj", bias=False)
    states = w.norm(states, f"{root}embeddings.LayerNorm", eps)
    relative = w.weight(f"{root}encoder.rel_embeddings.weight")
    if "layer_norm" in config.norm_rel_ebd.lower().split("|"):
        relative = w.norm(relative, f"{root}encoder.LayerNorm", eps)
    relative = w.op("Unsqueeze", relative, w.constant([0]))
    span, table = deberta_buckets(config)
    distances = w.distances()
    indexes = {  # of the relative embedding; rows are queries for c2p and keys for p2c
        "c2p": _lookup(w, np.clip(table + span, 0, 2 * span - 1), distances),
        "p2c": _lookup(w, np.clip(span - table, 0, 2 * span - 1), distances),
    }
    bias = w.padding_bias()

    def attend(layer: str, states: str) -> str:
        mixed = _disentangled(w, config, states, f"{layer}.attention.self", relative, indexes, bias)
        return w.linear(mixed, f"{layer}.attention.output.dense")

    for n in range(config.num_hidden_layers):
        states = _post_norm_layer(w, config, states, f"{root}encoder.layer.{n}", attend)
    return states


def deberta_buckets(config: Config) -> tuple[int, np.ndarray[Any, Any]]:
    """The span of the relative embeddings and the bucket of each distance: exact to half the buckets, then by
    logarithm."""
    reach = config.max_relative_positions
    reach = config.max_position_embeddings if reach < 1 else reach
    distance = np.arange(-reach, reach + 1)
    if config.position_buckets < 1:
        return reach, distance
    middle = config.position_buckets // 2
    far = np.maximum(np.abs(distance), middle).astype(np.float32)
    scale = np.log(np.float32((reach - 1) / middle))
    logarithmic = np.ceil(np.log(far / np.float32(middle)) / scale * (middle - 1)).astype(np.int64) + middle
    near = np.abs(distance) <= middle
    return config.position_buckets, np.where(near, distance, np.sign(distance) * logarithmic)


def _disentangled(
    w: Writer, config: Config, states: str, name: str, relative: str, indexes: Mapping[str, str], bias: str
) -> str:
    """Content to content, content to position and position to content, added before the softmax."""
    heads, size = config.num_attention_heads, config.head_size
    kinds = config.pos_att_type or ()
    kinds = tuple(x.strip() for x in kinds.lower().split("|")) if isinstance(kinds, str) else kinds
    query, key, value = (
        w.split_heads(w.linear(states, f"{name}.{x}_proj"), heads, size) for x in ("query", "key", "value")
    )
    scale = math.sqrt(size * (1 + ("c2p" in kinds) + ("p2c" in kinds)))
    prefix = "" if config.share_att_key else "pos_"
    for kind, content, other in (("c2p", query, "key"), ("p2c", key, "query")):
        if kind not in kinds:
            continue
        biased = None if prefix else True
        position = w.split_heads(w.linear(relative, f"{name}.{prefix}{other}_proj", bias=biased), heads, size)
        every = w.op("MatMul", content, w.op("Transpose", position, perm=[0, 1, 3, 2]))
        score = w.op("GatherElements", every, _over_heads(w, indexes[kind], every), axis=-1)
        score = score if kind == "c2p" else w.op("Transpose", score, perm=[0, 1, 3, 2])
        bias = w.op("Add", bias, w.op("Div", score, w.number(scale)))
    return w.attend(query, key, value, scale=scale, bias=bias)


def _over_heads(w: Writer, index: str, like: str) -> str:
    """[sequence, sequence] indexes for every batch entry and head of ``like``."""
    leading = w.op("Slice", w.op("Shape", like), w.constant([0]), w.constant([2]))
    return w.op("Expand", index, w.op("Concat", leading, w.op("Shape", index), axis=0))


# Rotary positions


def modernbert(w: Writer, config: Config, root: str) -> str:
    """Every n-th layer sees everything, the others a window of ``local_attention`` tokens."""
    eps, heads, size = config.layer_norm_eps, config.num_attention_heads, config.head_size
    words = w.rows(f"{root}embeddings.tok_embeddings.weight", "input_ids")
    states = w.norm(words, f"{root}embeddings.norm", eps, bias=None)
    everything = w.padding_bias()
    near = w.op("LessOrEqual", w.op("Abs", w.distances()), w.constant(config.local_attention // 2))
    window = w.op("Add", everything, w.hide(near))
    wide, narrow = _modernbert_thetas(config)
    rotations = {True: w.rotation(size, wide), False: w.rotation(size, narrow)}
    for n in range(config.num_hidden_layers):
        layer, is_global = f"{root}layers.{n}", _is_global(config, n)
        before = states if n == 0 else w.norm(states, f"{layer}.attn_norm", eps, bias=None)
        query, key, value = _split_three(w, w.linear(before, f"{layer}.attn.Wqkv", bias=None), heads, size)
        query, key = (w.rotate(x, rotations[is_global], size) for x in (query, key))
        bias = everything if is_global else window
        mixed = w.attend(query, key, value, scale=math.sqrt(size), bias=bias)
        states = w.op("Add", states, w.linear(mixed, f"{layer}.attn.Wo", bias=None))
        before = w.norm(states, f"{layer}.mlp_norm", eps, bias=None)
        both = w.linear(before, f"{layer}.mlp.Wi", bias=None)
        half = w.shape(f"{layer}.mlp.Wi.weight")[0] // 2
        inner = w.op("Slice", both, w.constant([0]), w.constant([half]), w.constant([-1]))
        gate = w.op("Slice", both, w.constant([half]), w.constant([2 * half]), w.constant([-1]))
        product = w.op("Mul", w.activate(inner, config.hidden_act), gate)
        states = w.op("Add", states, w.linear(product, f"{layer}.mlp.Wo", bias=None))
    return w.norm(states, f"{root}final_norm", eps, bias=None)


def _is_global(config: Config, layer: int) -> bool:
    if config.layer_types is not None:
        return config.layer_types[layer] == "full_attention"
    return layer % config.global_attn_every_n_layers == 0


def _modernbert_thetas(config: Config) -> tuple[float, float]:
    """For the layers that see everything and for the others; newer config files nest them."""
    given = config.rope_parameters or {}
    wide, narrow = (given.get(f"{kind}_attention") or {} for kind in ("full", "sliding"))
    _refuse(
        any(x.get("rope_type", "default") != "default" for x in (wide, narrow)), "scaled rotary positions"
    )
    theta = float(wide.get("rope_theta", config.global_rope_theta))
    return theta, float(narrow.get("rope_theta", config.local_rope_theta or theta))


def _split_three(w: Writer, joined: str, heads: int, size: int) -> tuple[str, str, str]:
    """Query, key and value, each [batch, heads, sequence, size], of one projection."""
    apart = w.op("Reshape", joined, w.constant([0, 0, 3, heads, size]))
    turned = w.op("Transpose", apart, perm=[2, 0, 3, 1, 4])
    query, key, value = (w.op("Gather", turned, w.constant(n), axis=0) for n in range(3))
    return query, key, value


def _theta(config: Config, default: float) -> float:
    scaling = config.rope_scaling or {}
    given = config.rope_parameters or {}
    kinds = {x.get("rope_type", x.get("type", "default")) for x in (scaling, given)}
    _refuse(kinds != {"default"} or config.rotary_scaling_factor is not None, "scaled rotary positions")
    return float(given.get("rope_theta", config.rope_theta or default))


def nomic_bert(w: Writer, config: Config, root: str) -> str:
    _refuse(config.prenorm or config.rotary_emb_interleaved or config.rotary_emb_fraction != 1, "its layout")
    eps, heads, size = config.layer_norm_eps, config.num_attention_heads, config.head_size
    words = w.rows(f"{root}embeddings.word_embeddings.weight", "input_ids")
    types = w.rows(f"{root}embeddings.token_type_embeddings.weight", w.input("token_type_ids"))
    states = w.norm(w.op("Add", words, types), f"{root}emb_ln", eps)
    rotation, bias = w.rotation(size, _theta(config, 1000.0)), w.padding_bias()
    kind = {"swiglu": "silu", "geglu": "gelu"}.get(config.hidden_act, config.hidden_act)
    for n in range(config.num_hidden_layers):
        layer = f"{root}encoder.layers.{n}"
        query, key, value = _split_three(w, w.linear(states, f"{layer}.attn.Wqkv", bias=None), heads, size)
        query, key = (w.rotate(x, rotation, size) for x in (query, key))
        mixed = w.attend(query, key, value, scale=math.sqrt(size), bias=bias)
        mixed = w.linear(mixed, f"{layer}.attn.out_proj", bias=None)
        states = w.norm(w.op("Add", mixed, states), f"{layer}.norm1", eps)
        gate = w.activate(w.linear(states, f"{layer}.mlp.fc12", bias=None), kind)
        product = w.op("Mul", w.linear(states, f"{layer}.mlp.fc11", bias=None), gate)
        outer = w.linear(product, f"{layer}.mlp.fc2", bias=None)
        states = w.norm(w.op("Add", outer, states), f"{layer}.norm2", eps)
    return states


def qwen3(w: Writer, config: Config, root: str) -> str:
    """A decoder: a token sees itself and those before it; several query heads share one key head."""
    _refuse(config.use_sliding_window, "a sliding window")
    eps, heads, size = config.layer_norm_eps, config.num_attention_heads, config.head_size
    groups = config.num_key_value_heads or heads
    states = w.rows(f"{root}embed_tokens.weight", "input_ids")
    rotation = w.rotation(size, _theta(config, 10_000.0))
    past = w.op("GreaterOrEqual", w.distances(), w.constant(0))
    bias = w.op("Add", w.padding_bias(), w.hide(past))

    def shared(value: str) -> str:
        if groups == heads:
            return value
        apart = w.op("Unsqueeze", value, w.constant([2]))
        copies = w.op("Expand", apart, w.constant([1, 1, heads // groups, 1, 1]))
        return w.op("Reshape", copies, w.constant([0, heads, -1, size]))

    for n in range(config.num_hidden_layers):
        layer = f"{root}layers.{n}"
        before = w.rms_norm(states, f"{layer}.input_layernorm", eps)
        query, key, value = (
            w.op(
                "Reshape",
                w.linear(before, f"{layer}.self_attn.{x}_proj", bias=None),
                w.constant([0, 0, count, size]),
            )
            for x, count in (("q", heads), ("k", groups), ("v", groups))
        )
        query = w.rms_norm(query, f"{layer}.self_attn.q_norm", eps)
        key = w.rms_norm(key, f"{layer}.self_attn.k_norm", eps)
        query, key, value = (w.op("Transpose", x, perm=[0, 2, 1, 3]) for x in (query, key, value))
        query, key = (w.rotate(x, rotation, size) for x in (query, key))
        mixed = w.attend(query, shared(key), shared(value), scale=math.sqrt(size), bias=bias)
        states = w.op("Add", states, w.linear(mixed, f"{layer}.self_attn.o_proj", bias=None))
        before = w.rms_norm(states, f"{layer}.post_attention_layernorm", eps)
        gate = w.activate(w.linear(before, f"{layer}.mlp.gate_proj", bias=None), config.hidden_act)
        product = w.op("Mul", gate, w.linear(before, f"{layer}.mlp.up_proj", bias=None))
        states = w.op("Add", states, w.linear(product, f"{layer}.mlp.down_proj", bias=None))
    return w.rms_norm(states, f"{root}norm", eps)


# Heads: the masked language head gives [batch, sequence, vocabulary], classification [batch, labels]


def _first_token(w: Writer, states: str) -> str:
    return w.op("Gather", states, w.constant(0), axis=1)


def _bert_masked(w: Writer, config: Config, states: str, root: str) -> str:
    head = "cls.predictions"
    inner = w.activate(w.linear(states, f"{head}.transform.dense"), config.hidden_act)
    inner = w.norm(inner, f"{head}.transform.LayerNorm", config.layer_norm_eps)
    decoder = w.first(f"{head}.decoder.weight", f"{root}embeddings.word_embeddings.weight")
    return w.project(inner, decoder, w.first(f"{head}.bias", f"{head}.decoder.bias"))


def _bert_classes(w: Writer, config: Config, states: str, root: str) -> str:
    pooled = w.op("Tanh", w.linear(_first_token(w, states), f"{root}pooler.dense"))
    return w.linear(pooled, "classifier")


def _roberta_masked(w: Writer, config: Config, states: str, root: str) -> str:
    inner = w.activate(w.linear(states, "lm_head.dense"), "gelu")
    inner = w.norm(inner, "lm_head.layer_norm", config.layer_norm_eps)
    decoder = w.first("lm_head.decoder.weight", f"{root}embeddings.word_embeddings.weight")
    return w.project(inner, decoder, w.first("lm_head.bias", "lm_head.decoder.bias"))


def _roberta_classes(w: Writer, config: Config, states: str, root: str) -> str:
    inner = w.op("Tanh", w.linear(_first_token(w, states), "classifier.dense"))
    return w.linear(inner, "classifier.out_proj")


def _distilbert_masked(w: Writer, config: Config, states: str, root: str) -> str:
    inner = w.activate(w.linear(states, "vocab_transform"), config.hidden_act)
    inner = w.norm(inner, "vocab_layer_norm", config.layer_norm_eps)
    decoder = w.first("vocab_projector.weight", f"{root}embeddings.word_embeddings.weight")
    return w.project(inner, decoder, "vocab_projector.bias")


def _distilbert_classes(w: Writer, config: Config, states: str, root: str) -> str:
    inner = w.op("Relu", w.linear(_first_token(w, states), "pre_classifier"))
    return w.linear(inner, "classifier")


def _deberta_masked(w: Writer, config: Config, states: str, root: str) -> str:
    if w.has("cls.predictions.transform.dense.weight"):
        return _bert_masked(w, config, states, root)
    head = "lm_predictions.lm_head"
    inner = w.activate(w.linear(states, f"{head}.dense"), config.hidden_act)
    inner = w.norm(inner, f"{head}.LayerNorm", config.layer_norm_eps)
    return w.project(inner, f"{root}embeddings.word_embeddings.weight", f"{head}.bias")


def _deberta_classes(w: Writer, config: Config, states: str, root: str) -> str:
    inner = w.activate(w.linear(_first_token(w, states), "pooler.dense"), config.pooler_hidden_act)
    return w.linear(inner, "classifier")


def _modernbert_masked(w: Writer, config: Config, states: str, root: str) -> str:
    decoder = w.first("decoder.weight", f"{root}embeddings.tok_embeddings.weight")
    bias = "decoder.bias" if w.has("decoder.bias") else None
    return w.project(_modernbert_head(w, config, states), decoder, bias)


def _modernbert_classes(w: Writer, config: Config, states: str, root: str) -> str:
    _refuse(config.classifier_pooling != "cls", f"classification by {config.classifier_pooling} pooling")
    return w.linear(_modernbert_head(w, config, _first_token(w, states)), "classifier")


def _modernbert_head(w: Writer, config: Config, states: str) -> str:
    inner = w.activate(w.linear(states, "head.dense", bias=None), config.classifier_activation)
    return w.norm(inner, "head.norm", config.layer_norm_eps, bias=None)


Encoder = Callable[[Writer, Config, str], str]
Head = Callable[[Writer, Config, str, str], str]


class Family(msgspec.Struct, frozen=True):
    """An architecture: its encoder, the prefix of its weights in files that have a head too, and its heads."""

    encoder: Encoder
    prefix: str
    masked: Head | None = None
    classes: Head | None = None


FAMILIES: Mapping[str, Family] = {
    "bert": Family(bert, "bert.", _bert_masked, _bert_classes),
    "distilbert": Family(distilbert, "distilbert.", _distilbert_masked, _distilbert_classes),
    "roberta": Family(roberta, "roberta.", _roberta_masked, _roberta_classes),
    "xlm-roberta": Family(roberta, "roberta.", _roberta_masked, _roberta_classes),
    "mpnet": Family(mpnet, "mpnet.", _roberta_masked, _roberta_classes),
    "deberta-v2": Family(deberta, "deberta.", _deberta_masked, _deberta_classes),
    "modernbert": Family(modernbert, "model.", _modernbert_masked, _modernbert_classes),
    "nomic_bert": Family(nomic_bert, "nomic_bert."),
    "qwen3": Family(qwen3, "model."),
}
"""By ``model_type`` of config.json."""
