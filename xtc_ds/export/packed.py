"""The layers of a frozen model: they hold packed codes and compute from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.errors import ExportError, FormatError
from xtc_ds.formats import ActivationFormat, Encoded, Grouping, WeightFormat, fake_quantize_activation, get_format
from xtc_ds.kernels import linear_on_codes
from xtc_ds.layers import RangeObserver

__all__ = ["PackedEmbedding", "PackedLayer", "PackedLinear", "PackedSpec", "build_packed", "share_packed_tensors"]


@dataclass(frozen=True)
class PackedSpec:
    """All that is needed, beside the tensors, to rebuild one packed layer.

    kind: "linear" (also for Conv1D, whose weight is stored output-first) or "embedding".
    format: name of the weight format, or None where only the input is quantized.
    shape: (O, I) of the weight.
    """

    kind: Literal["linear", "embedding"]
    format: str | None
    grouping: Grouping
    shape: tuple[int, int]
    activation: ActivationFormat | None = None

    @property
    def weight_format(self) -> WeightFormat:
        """The weight format. Raises FormatError if the name is unknown or there is none."""
        if self.format is None:
            raise FormatError("the layer has no packed weight")
        return get_format(self.format)


class PackedLayer(nn.Module):
    """Tensors: ``weight`` uint8 (bytes,), ``weight_scale`` float32 (G,) and, for shifted grids, ``weight_zero`` (G,).

    Where only the input is quantized, ``weight`` is an ordinary (O, I) float parameter.
    """

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor | None

    def __init__(self, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None) -> None:
        super().__init__()
        self.spec = spec
        self._codes: Tensor | None = None
        if spec.format is None:
            self.weight = nn.Parameter(torch.empty(spec.shape, dtype=dtype, device=device), requires_grad=False)
            return
        groups = spec.grouping.count(spec.shape)
        size = spec.weight_format.packed_bytes(math.prod(spec.shape))
        # A parameter, because transformers ties weights by parameter name.
        codes = torch.empty(size, dtype=torch.uint8, device=device)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("weight_scale", torch.empty(groups, dtype=torch.float32, device=device))
        zero = torch.empty(groups, dtype=torch.float32, device=device) if spec.weight_format.has_zero else None
        self.register_buffer("weight_zero", zero)

    def codes(self) -> Tensor:
        """The int8 codes (O, I), unpacked on first use and kept."""
        if self._codes is None or self._codes.device != self.weight.device:
            numel = math.prod(self.spec.shape)
            self._codes = self.spec.weight_format.unpack(self.weight, numel).reshape(self.spec.shape)
        return self._codes

    def encoded(self) -> Encoded:
        """Codes (O, I) with scales (G, 1), as ``decode`` takes them once split into groups."""
        zero = None if self.weight_zero is None else self.weight_zero.float().unsqueeze(1)
        return Encoded(self.codes(), self.weight_scale.float().unsqueeze(1), zero, self.spec.weight_format.code_offset)

    def dense_weight(self) -> Tensor:
        """The float32 weight (O, I) that the codes stand for."""
        encoded = self.encoded()
        groups = Encoded(self.spec.grouping.split(encoded.codes), encoded.scale, encoded.zero, encoded.offset)
        return groups.decode().reshape(self.spec.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_codes": None}

    def extra_repr(self) -> str:
        spec = self.spec
        act = f", activation={spec.activation.bits} bit" if spec.activation else ""
        return f"{spec.shape[1]} -> {spec.shape[0]}, {spec.format or 'float'}, scale per {spec.grouping.kind}{act}"


class PackedLinear(PackedLayer):
    """A linear layer that multiplies codes."""

    def __init__(
        self,
        spec: PackedSpec,
        bias: bool,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(spec, dtype, device)
        self.out_features, self.in_features = spec.shape
        values = torch.empty(self.out_features, dtype=dtype, device=device) if bias else None
        self.bias = nn.Parameter(values, requires_grad=False) if values is not None else None
        if spec.activation is not None and spec.activation.calibration == "static":
            self.activation_quantizer = RangeObserver().to(device or "cpu")

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        if not x.is_floating_point():
            raise ExportError(f"a packed layer was given {x.dtype}: the model casts to the dtype of its packed weight")
        observer = getattr(self, "activation_quantizer", None)
        range_ = observer.x_min_max if observer is not None else None
        spec = self.spec
        if spec.format is None:
            if spec.activation is not None:
                x = fake_quantize_activation(x, spec.activation, range_)
            return F.linear(x, self.weight, self.bias)
        return linear_on_codes(x, self.encoded(), spec.weight_format, spec.grouping, spec.activation, range_, self.bias)


class PackedEmbedding(PackedLayer):
    """A table whose looked-up rows are decoded."""

    def __init__(
        self,
        spec: PackedSpec,
        padding_idx: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(spec, dtype, device)
        self.num_embeddings, self.embedding_dim = spec.shape
        self.padding_idx = padding_idx
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (...) to vectors (..., D)."""
        if self.spec.grouping.kind == "group":
            return F.embedding(ids, self.dense_weight().to(self.dtype))
        flat = ids.reshape(-1)
        scale = self.weight_scale.float().expand(self.num_embeddings)[flat].unsqueeze(1)
        zero = None if self.weight_zero is None else self.weight_zero.float().expand(self.num_embeddings)[flat]
        rows = Encoded(
            self._row_codes(flat),
            scale,
            None if zero is None else zero.unsqueeze(1),
            self.spec.weight_format.code_offset,
        )
        return rows.decode(self.dtype).reshape(*ids.shape, -1)

    def _row_codes(self, flat_ids: Tensor) -> Tensor:
        row_bytes = self.spec.weight_format.packed_bytes(self.embedding_dim)
        if row_bytes * self.num_embeddings != self.weight.numel():
            return self.codes()[flat_ids]
        # Rows end on whole bytes: unpack those looked up, and the table stays as small as its file.
        rows = self.weight.reshape(self.num_embeddings, row_bytes)[flat_ids]
        return self.spec.weight_format.unpack(rows.reshape(-1), flat_ids.numel() * self.embedding_dim).reshape(
            -1, self.embedding_dim
        )


def build_packed(
    spec: PackedSpec,
    *,
    bias: bool = False,
    padding_idx: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> PackedLayer:
    """An empty packed layer of that kind."""
    if spec.kind == "embedding":
        return PackedEmbedding(spec, padding_idx, dtype, device)
    return PackedLinear(spec, bias, dtype, device)


def share_packed_tensors(layer: nn.Module, owner: nn.Module) -> None:
    """Let ``layer`` use the weight tensors of ``owner``: tied layers have one set. Float weights may be unpacked."""
    layer._parameters["weight"] = owner._parameters["weight"]
    for key in ("weight_scale", "weight_zero"):
        if key in owner._buffers:
            layer._buffers[key] = owner._buffers[key]
