"""What the layers of a frozen model share: packed codes, kept packed until they are first used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xtc_ds.errors import FormatError
from xtc_ds.formats import ActivationFormat, Encoded, Grouping, WeightFormat, get_format
from xtc_ds.formats.bits import packed_size, unpack_bits
from xtc_ds.layers import RangeObserver

__all__ = ["WEIGHT_KEYS", "PackedLayer", "PackedSpec", "share_packed_tensors"]

# The tensors that tied layers have in common.
WEIGHT_KEYS = ("weight", "weight_scale", "weight_zero", "weight_mask")


@dataclass(frozen=True)
class PackedSpec:
    """All that is needed, beside the tensors, to rebuild one packed layer.

    kind: "linear" (also for Conv1D, whose weight is stored output-first), "embedding" or "conv2d".
    format: name of the weight format, or None where only the input is quantized.
    shape: (O, I) of the weight; (O, I / groups, kH, kW) of a convolution.
    masked: a mask lies beside the codes; where it is 0 the weight is 0.
    """

    kind: Literal["linear", "embedding", "conv2d"]
    format: str | None
    grouping: Grouping
    shape: tuple[int, ...]
    activation: ActivationFormat | None = None
    masked: bool = False

    @property
    def weight_format(self) -> WeightFormat:
        """The weight format. Raises FormatError if the name is unknown or there is none."""
        if self.format is None:
            raise FormatError("the layer has no packed weight")
        return get_format(self.format)


class PackedLayer(nn.Module):
    """Tensors: ``weight`` uint8 (bytes,), ``weight_scale`` float32 (G,) and, for shifted grids, ``weight_zero`` (G,).

    A pruned weight on a shifted grid has ``weight_mask`` uint8 (bytes,) as well, one bit per weight. Where only
    the input is quantized, ``weight`` is an ordinary float parameter of the spec's shape.
    """

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor | None
    weight_mask: Tensor | None

    def __init__(self, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None) -> None:
        super().__init__()
        self.spec = spec
        self._codes: Tensor | None = None
        if spec.activation is not None and spec.activation.calibration == "static":
            self.activation_quantizer = RangeObserver().to(device or "cpu")
        if spec.format is None:
            self.weight = nn.Parameter(torch.empty(spec.shape, dtype=dtype, device=device), requires_grad=False)
            return
        groups, numel = spec.grouping.count(spec.shape), math.prod(spec.shape)
        # A parameter, because transformers ties weights by parameter name.
        codes = torch.empty(spec.weight_format.packed_bytes(numel), dtype=torch.uint8, device=device)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("weight_scale", torch.empty(groups, dtype=torch.float32, device=device))
        zero = torch.empty(groups, dtype=torch.float32, device=device) if spec.weight_format.has_zero else None
        self.register_buffer("weight_zero", zero)
        mask = torch.empty(packed_size(numel, 1), dtype=torch.uint8, device=device) if spec.masked else None
        self.register_buffer("weight_mask", mask)

    def codes(self) -> Tensor:
        """The int8 codes in the weight's shape, unpacked on first use and kept."""
        if self._codes is None or self._codes.device != self.weight.device:
            numel = math.prod(self.spec.shape)
            self._codes = self.spec.weight_format.unpack(self.weight, numel).reshape(self.spec.shape)
        return self._codes

    def encoded(self) -> Encoded:
        """Codes (O, I) with scales (G, 1), as ``decode`` takes them once split into groups. A mask is not in them."""
        zero = None if self.weight_zero is None else self.weight_zero.float().unsqueeze(1)
        return Encoded(self.codes(), self.weight_scale.float().unsqueeze(1), zero, self.spec.weight_format.code_offset)

    def decoded(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight that the codes and the mask stand for, in the spec's shape, computed in float32."""
        encoded = self.encoded()
        groups = Encoded(self.spec.grouping.split(encoded.codes), encoded.scale, encoded.zero, encoded.offset)
        w_OI = groups.decode(dtype).reshape(self.spec.shape)
        if self.weight_mask is None:
            return w_OI
        mask = unpack_bits(self.weight_mask, 1, w_OI.numel()).reshape(w_OI.shape)
        return w_OI.masked_fill(mask == 0, 0)

    def dense_weight(self) -> Tensor:
        """The float32 weight in the spec's shape."""
        return self.decoded() if self.spec.format is not None else self.weight.float()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_codes": None}

    def extra_repr(self) -> str:
        spec = self.spec
        act = f", activation={spec.activation.bits} bit" if spec.activation else ""
        size = f"{spec.shape[1]} -> {spec.shape[0]}" + "".join(f" x {side}" for side in spec.shape[2:])
        return f"{size}, {spec.format or 'float'}, scale per {spec.grouping.kind}{act}"


def share_packed_tensors(layer: nn.Module, owner: nn.Module) -> None:
    """Let ``layer`` use the weight tensors of ``owner``: tied layers have one set. Float weights may be unpacked."""
    layer._parameters["weight"] = owner._parameters["weight"]
    for key in WEIGHT_KEYS[1:]:
        if key in owner._buffers:
            layer._buffers[key] = owner._buffers[key]
