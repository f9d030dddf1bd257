"""The container "bitnet": ternary codes, four per byte, which transformers loads itself (``quant_method`` bitnet).

Shape legend: O, I = output and input features.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from xtc_ds.engines.base import Written, refuse
from xtc_ds.engines.takes import OTHER_CONTAINERS, Takes
from xtc_ds.engines.transformers_layout import TransformersLayout
from xtc_ds.errors import ExportError
from xtc_ds.formats.activation import ActivationFormat
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["write_bitnet"]

TAKES = Takes("bitnet", formats=("binary", "ternary"), one_scale=True, inputs=ActivationFormat(8))


def write_bitnet(frozen: nn.Module, folder: Path) -> Written:
    """Write ``model.safetensors`` and ``config.json``: linear layers with 2 bits per weight, everything else as floats.

    Raises ExportError for a packed linear layer unless it is binary or ternary with one scale for the whole weight, and
    its inputs are quantized to 8 bits per token.
    """
    layout = TransformersLayout(frozen, "bitnet")
    layers = layout.layers()
    ternary = {name for name, layer in layers.items() if layer.spec.kind != "embedding"}
    for name in sorted(ternary):
        _check(name, layers[name], layout)
    if not ternary:
        raise ExportError(f"bitnet: the model has no packed linear layer; {OTHER_CONTAINERS}")
    kept = [
        name for name, module in layout.shape.named_modules() if isinstance(module, nn.Linear) and name not in ternary
    ]
    # Anchored patterns, because a plain name would also match as the suffix of other names.
    patterns = [f"^{name.replace('.', chr(92) + '.')}$" for name in kept]

    def packed(name: str, layer: PackedLayer) -> dict[str, Tensor]:
        if name not in ternary:
            return {"weight": layout.float_weight(name, layer)}
        # The engine divides by its scale.
        return {"weight": _pack(layer.codes().cpu()), "weight_scale": 1 / layer.weight_scale.float().cpu().reshape(1)}

    quantization = {
        "quant_method": "bitnet",
        "linear_class": "bitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": patterns,
    }
    layout.write(layout.tensors(packed), folder, quantization)
    return Written(("inputs have the scale max|x| / 127 in place of max|x| / 128",))


def _check(name: str, layer: PackedLayer, layout: TransformersLayout) -> None:
    if type(layout.shape.get_submodule(name)) is not nn.Linear:
        raise refuse("bitnet", name, "it is no nn.Linear, the only layer of this container", OTHER_CONTAINERS)
    if TAKES.as_codes(name, layer.spec) and layer.spec.shape[0] % 4:
        raise refuse("bitnet", name, f"its {layer.spec.shape[0]} outputs are no multiple of 4", OTHER_CONTAINERS)


def _pack(codes_OI: Tensor) -> Tensor:
    """Pack codes (O, I) to uint8 (O / 4, I): row r of quarter q, as code + 1, is in bits 2q and 2q + 1 of row r."""
    quarters = (codes_OI + 1).to(torch.uint8).reshape(4, -1, codes_OI.shape[1])
    result = quarters[0].clone()
    for place in (1, 2, 3):
        result |= quarters[place] << (2 * place)
    return result
