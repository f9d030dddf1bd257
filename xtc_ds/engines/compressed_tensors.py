"""The container "compressed-tensors": symmetric integers in 32-bit words (format ``pack-quantized``).

Shape legend: O, I = output and input features.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.engines.base import Written, refuse
from xtc_ds.engines.takes import OTHER_CONTAINERS, Takes
from xtc_ds.engines.transformers_layout import TransformersLayout, unquantized_inputs
from xtc_ds.errors import ExportError
from xtc_ds.formats.bits import pack_bits
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["write_compressed_tensors"]

TAKES = Takes("compressed-tensors")


def write_compressed_tensors(frozen: nn.Module, folder: Path) -> Written:
    """Write ``model.safetensors`` and ``config.json`` for transformers and vLLM with the package compressed-tensors.

    Binary and ternary weights take 2 bits each, those of format intB take B bits. Embedding tables are written as
    floats. Raises ExportError for asymmetric formats, masks, convolutions, and groups that are neither whole rows nor
    equal parts of a row.
    """
    layout = TransformersLayout(frozen, "compressed-tensors")
    layers = layout.layers()
    held = {name: layer for name, layer in layers.items() if _is_held(name, layer, layout)}
    if not held:
        raise ExportError(f"compressed-tensors: the model has no packed linear layer; {OTHER_CONTAINERS}")
    groups: dict[tuple[int, str, int], list[str]] = {}
    for name, layer in held.items():
        groups.setdefault((_bits(layer), *_strategy(name, layer)), []).append(name)

    def packed(name: str, layer: PackedLayer) -> dict[str, Tensor]:
        if name not in held:
            return {"weight": layout.float_weight(name, layer)}
        return {
            "weight_packed": _pack(layer.codes().cpu(), _bits(layer)),
            "weight_scale": _scales(name, layer),
            "weight_shape": torch.tensor(layer.spec.shape, dtype=torch.int64),
        }

    ignored = [
        name for name, module in layout.shape.named_modules() if isinstance(module, nn.Linear) and name not in held
    ]
    layout.write(layout.tensors(packed), folder, _quantization(groups, ignored))
    return Written(unquantized_inputs(layers))


def _quantization(groups: dict[tuple[int, str, int], list[str]], ignored: list[str]) -> dict[str, Any]:
    schemes = {}
    for index, ((bits, strategy, size), names) in enumerate(groups.items()):
        weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": strategy, "dynamic": False}
        if strategy == "group":
            weights["group_size"] = size
        schemes[f"group_{index}"] = {"targets": names, "weights": weights, "format": "pack-quantized"}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": schemes,
        "ignore": ignored,
    }


def _is_held(name: str, layer: PackedLayer, layout: TransformersLayout) -> bool:
    held = TAKES.as_codes(name, layer.spec)
    if held and type(layout.shape.get_submodule(name)) is not nn.Linear:
        why = "it is no nn.Linear, the only layer of this container"
        raise refuse("compressed-tensors", name, why, OTHER_CONTAINERS)
    return held


def _bits(layer: PackedLayer) -> int:
    low, high = layer.spec.weight_format.code_range
    # Binary codes -1 and +1 need 2 bits, because one bit would represent -1 and 0.
    return max(2, (max(high, -low - 1)).bit_length() + 1)


def _strategy(name: str, layer: PackedLayer) -> tuple[str, int]:
    rows, columns = layer.spec.shape
    count = layer.weight_scale.numel()
    if count == 1:
        return "tensor", 0
    if rows % count == 0:
        return "channel", 0
    if count % rows == 0 and columns % (count // rows) == 0:
        return "group", columns // (count // rows)
    why = f"its {count} groups are neither whole rows nor equal parts of its {rows} rows"
    raise refuse("compressed-tensors", name, why, OTHER_CONTAINERS)


def _scales(name: str, layer: PackedLayer) -> Tensor:
    strategy, size = _strategy(name, layer)
    scale, (rows, columns) = layer.weight_scale.detach().float().cpu(), layer.spec.shape
    if strategy == "tensor":
        return scale.reshape(1)
    if strategy == "channel":
        return scale.repeat_interleave(rows // len(scale)).reshape(rows, 1)
    return scale.reshape(rows, columns // size)


def _pack(codes_OI: Tensor, bits: int) -> Tensor:
    """Pack to int32 (O, ceil(I * bits / 32)): per row a little-endian bit stream of code + 2^(bits - 1), 0-padded."""
    rows, columns = codes_OI.shape
    values = (codes_OI.to(torch.int16) + 2 ** (bits - 1)).to(torch.uint8)
    # Pad rows to whole words: 32 values take ``bits`` words.
    values = torch.nn.functional.pad(values, (0, -columns % 32))
    words = pack_bits(values.reshape(-1), bits).view(torch.int32).reshape(rows, -1)
    return words[:, : math.ceil(columns * bits / 32)].contiguous()
