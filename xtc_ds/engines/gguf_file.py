"""The container "gguf": the tensors of a BERT model in the block types and under the names of llama.cpp."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor, nn

from xtc_ds.engines.base import Written, refuse
from xtc_ds.engines.gguf_blocks import BLOCKS, BlockType
from xtc_ds.engines.gguf_vocabulary import add_vocabulary, not_wordpiece
from xtc_ds.engines.takes import OTHER_CONTAINERS, Takes
from xtc_ds.engines.transformers_layout import TransformersLayout
from xtc_ds.errors import ExportError
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["write_gguf"]

TAKES = Takes("gguf", embeddings=True)
# llama.cpp adds these embeddings to others and requires float32 for them.
_FLOAT32 = ("position_embd.weight", "token_types.weight")
_POOLING = ("none", "mean", "cls", "rank")
_HEAD = {"pooler.dense": "cls", "classifier": "cls.output"}


def write_gguf(frozen: nn.Module, folder: Path, tokenizer: Any = None, pooling: str | None = None) -> Written:
    """Write ``model.gguf``; each layer gets the smallest block type that represents it exactly.

    tokenizer: a WordPiece tokenizer, whose vocabulary is written. pooling: "none", "mean", "cls" or "rank" (the scores
    of a classifier), the output that llama.cpp computes by default. If None, it is "rank" for classifiers and is not
    written for other models.

    Raises ExportError for models other than BERT and for layers that no block type represents exactly.
    """
    layout = TransformersLayout(frozen, "gguf")
    if layout.config.model_type != "bert":
        raise ExportError(
            f"gguf: written for models of type bert; found {layout.config.model_type}; {OTHER_CONTAINERS}"
        )
    if pooling is not None and pooling not in _POOLING:
        raise ExportError(f"gguf: pooling: found {pooling!r}; allowed: {', '.join(_POOLING)}")
    layers = layout.layers()
    writer = gguf.GGUFWriter(folder / "model.gguf", "bert")
    _describe(writer, layout.config)
    _describe_result(writer, frozen, layout.config, pooling)
    missing = "none was given" if tokenizer is None else not_wordpiece(tokenizer)
    if missing is None:
        add_vocabulary(writer, tokenizer, layout.config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layout.config.num_hidden_layers)
    for name, tensor in layout.tensors(lambda name, layer: {"weight": layer.weight.detach().cpu()}).items():
        if name.endswith("position_ids"):
            continue
        module, _, key = name.rpartition(".")
        if module in layers and key == "weight":
            _add_packed(writer, _gguf_name(name, names), module, layers[module])
        else:
            _add_float(writer, _gguf_name(name, names), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    differs = [] if missing is None else [f"the file has no vocabulary, which llama.cpp asks for: {missing}"]
    if getattr(layout.config, "type_vocab_size", 1) > 1:
        differs.append("llama.cpp takes every token for one of the first sentence")
    return Written((*differs, "llama.cpp quantizes inputs in blocks, in its own way"))


def _describe(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_token_type_count(getattr(config, "type_vocab_size", 1))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _describe_result(writer: Any, frozen: nn.Module, config: Any, pooling: str | None) -> None:
    is_classifier = type(frozen).__name__.endswith("ForSequenceClassification")
    if is_classifier:
        writer.add_classifier_output_labels([str(config.id2label[index]) for index in range(config.num_labels)])
    pooling = pooling or ("rank" if is_classifier else None)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType[pooling.upper()])


def _gguf_name(name: str, names: Any) -> str:
    module, _, key = name.removeprefix("bert.").rpartition(".")
    found = _HEAD.get(module) or names.get_name(module)
    if found is None:
        raise refuse("gguf", name, "llama.cpp's BERT has no such tensor", OTHER_CONTAINERS)
    return f"{found}.{key}"


def _add_float(writer: Any, name: str, tensor: Tensor) -> None:
    half = tensor.dim() > 1 and name not in _FLOAT32 and torch.equal(tensor.half().float(), tensor.float())
    writer.add_tensor(name, (tensor.half() if half else tensor.float()).numpy())


def _add_packed(writer: Any, gguf_name: str, name: str, layer: PackedLayer) -> None:
    if gguf_name in _FLOAT32 or not TAKES.as_codes(name, layer.spec):
        _add_float(writer, gguf_name, layer.dense_weight())
        return
    block = _block_type(name, layer)
    rows, columns = layer.spec.shape
    scale = layer.weight_scale.detach().float().cpu()
    half = scale.half()
    if not torch.equal(half.float(), scale):
        raise refuse("gguf", name, "its scales do not fit float16", "freeze with float_dtype float16")
    per_row = columns // block.size
    scales = half.repeat_interleave(rows * per_row // len(half)).reshape(rows, per_row)
    data = block.encode(layer.codes().cpu(), scales)
    writer.add_tensor(gguf_name, data.numpy(), raw_dtype=gguf.GGMLQuantizationType[block.name])


def _block_type(name: str, layer: PackedLayer) -> BlockType:
    spec = layer.spec
    low, high = spec.weight_format.code_range
    codes = (-1, 1) if spec.format == "binary" else tuple(range(low, high + 1))
    run = math.prod(spec.shape) // layer.weight_scale.numel()
    for block in BLOCKS:
        if block.holds(codes, spec.shape[1], run):
            return block
    why = f"rows of {spec.shape[1]} weights with {run} to a scale are no whole blocks of 32"
    raise refuse("gguf", name, why, OTHER_CONTAINERS)
