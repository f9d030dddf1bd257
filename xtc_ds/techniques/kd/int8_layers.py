"""Inference-only layers for a teacher with 8-bit weights, one scale per row.

Shape legend: I = input features, O = output features, V = rows of a table, D = its columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.formats import ActivationFormat, Encoded, Grouping, get_format
from xtc_ds.kernels import linear_on_codes
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends import INT8
from xtc_ds.kernels.backends.native import NativeLinear
from xtc_ds.kernels.choose import choose
from xtc_ds.kernels.native import TiledLayer, TiledWeight, tile_weight
from xtc_ds.runtime.packed import PackedSpec
from xtc_ds.runtime.packed_layers import PackedEmbedding
from xtc_ds.storage import Coded

__all__ = ["Int8Linear", "int8_embedding"]

_WEIGHT, _ROWS, _INPUT = get_format("int8"), Grouping("row"), ActivationFormat(8)
_KERNEL_DTYPES = (torch.float32, torch.bfloat16)


class Int8Linear(nn.Module):
    """``x`` (..., I) to (..., O) in the dtype of ``x``; inputs are quantized to 8 bits with one scale per token.

    The weight is stored once, in the layout that the kernel of its device reads.
    w_OI: the float weight. bias: (O,) or None; not copied. for_cpu: the layer will run, and stay, on the CPU.
    """

    codes: Tensor
    tiles: Tensor
    sums: Tensor
    scale: Tensor
    bias: nn.Parameter | None

    def __init__(self, w_OI: Tensor, bias: nn.Parameter | None, for_cpu: bool) -> None:
        super().__init__()
        self.out_features, self.in_features = w_OI.shape
        encoded = _WEIGHT.encode(_ROWS.split(w_OI.detach()))
        self.register_buffer("scale", encoded.scale.flatten())
        self.register_parameter("bias", bias)
        spec = ProductSpec(_WEIGHT, _ROWS, (self.out_features, self.in_features), _INPUT)
        chosen = choose(INT8, spec, Inputs(w_OI.device)).backend
        self.tiled = for_cpu and isinstance(chosen, NativeLinear)
        if self.tiled:
            weight = tile_weight(encoded.codes, _WEIGHT)
            self.register_buffer("tiles", weight.tiles)
            self.register_buffer("sums", weight.sums)
        else:
            self.register_buffer("codes", encoded.codes)
        self._bound: TiledLayer | None = None

    # torch.compile cannot trace a call into the native kernel.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        if not self.tiled:
            weight = Encoded(self.codes, {"scale": self.scale.unsqueeze(1)}, _WEIGHT)
            return linear_on_codes(x, weight, _INPUT, None, self.bias)
        layer = self._bound or self._bind()
        x_TI = x.reshape(-1, self.in_features)
        y_TO = layer(x_TI) if x.dtype in _KERNEL_DTYPES else layer(x_TI.float()).to(x.dtype)
        return y_TO.view(*x.shape[:-1], self.out_features)

    def _bind(self) -> TiledLayer:
        weight = TiledWeight(self.tiles, self.sums, self.in_features, 8)
        self._bound = TiledLayer(weight, self.scale, self.bias, _INPUT.bits)
        return self._bound

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bound": None}

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, int8"


def int8_embedding(table: nn.Embedding) -> PackedEmbedding:
    """A quantized copy of a table (V, D), which dequantizes the rows that are looked up to the dtype of ``table``."""
    w_VD = table.weight.detach()
    layer = PackedEmbedding(
        PackedSpec("embedding", Coded(_WEIGHT, _ROWS, tuple(w_VD.shape))), table.padding_idx, w_VD.dtype, w_VD.device
    )
    encoded = _WEIGHT.encode(w_VD)
    layer.weight.copy_(_WEIGHT.pack(encoded.codes))
    layer.weight_scale.copy_(encoded.scale.flatten())
    return layer
