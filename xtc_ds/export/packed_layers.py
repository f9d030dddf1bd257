"""The layers of a frozen model: they hold packed codes and compute from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.errors import ExportError
from xtc_ds.export.packed import PackedLayer, PackedSpec
from xtc_ds.formats import Encoded, fake_quantize_activation
from xtc_ds.kernels import linear_on_codes, product_is_integer
from xtc_ds.kernels.packed_linear import PackedProduct
from xtc_ds.kernels.rows import unpack_rows

__all__ = ["PackedConv2d", "PackedEmbedding", "PackedLinear", "build_packed"]


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
        self.out_features, self.in_features = self._shape = spec.shape[0], spec.shape[1]
        self._product: PackedProduct | None = None
        self._multiplies_codes = (
            spec.format is not None
            and not spec.masked
            and product_is_integer(spec.weight_format, spec.grouping, spec.activation)
        )
        self.bias = _empty_bias(self.out_features, bias, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        _check_input(x)
        if self.training and x.requires_grad:
            raise ExportError("a packed model is not trained: train the one that was frozen, or call model.eval()")
        spec = self.spec
        if not self._multiplies_codes:
            if spec.activation is not None:
                x = fake_quantize_activation(x, spec.activation, _range(self))
            return F.linear(x, self.used_weight(x.dtype), self.bias)
        if PackedProduct.possible(x):
            product = self._product or self._bind()
            # Not as attributes: nn.Module takes longer to find those than the kernel needs for a small layer.
            weight, scale, bias = (
                self._parameters["weight"],
                self._buffers["weight_scale"],
                self._parameters.get("bias"),
            )
            assert weight is not None
            assert scale is not None
            packed = weight if spec.sparse is None else self.packed_codes()
            return product(x, packed, scale, bias, _range(self))
        # Unpacking bits is slow without the kernel: int8 codes are kept whatever the runtime.
        return linear_on_codes(
            x, self.encoded(keep=True), spec.weight_format, spec.grouping, spec.activation, _range(self), self.bias
        )

    def _bind(self) -> PackedProduct:
        spec = self.spec
        assert spec.activation is not None
        self._product = PackedProduct(spec.weight_format, self._shape, spec.activation, self.runtime == "unpacked")
        return self._product

    def forget(self) -> None:
        super().forget()
        self._product = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_product": None}


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
        if self.spec.grouping.kind == "group" or self.spec.masked:
            return F.embedding(ids, self.used_weight(self.dtype))
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
        if self.runtime == "unpacked" or self.spec.sparse is not None:
            table: Tensor = self.made_once("codes", self.codes)
            return table[flat_ids]
        return unpack_rows(self.weight, self.spec.weight_format, self.embedding_dim, flat_ids)


class PackedConv2d(PackedLayer):
    """A convolution with the weight that its codes stand for.

    geometry: ``stride``, ``padding``, ``dilation``, ``groups`` and ``padding_mode`` as ``nn.Conv2d`` takes them.
    """

    def __init__(
        self,
        spec: PackedSpec,
        bias: bool,
        geometry: Mapping[str, Any],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(spec, dtype, device)
        outputs, inputs, height, width = spec.shape
        # Carries the geometry, and nn.Conv2d's way of padding; it holds no memory and is no submodule.
        plain = nn.Conv2d(
            inputs * geometry["groups"], outputs, (height, width), bias=False, device="meta", **geometry
        )  # fmt: skip
        self.__dict__["plain"] = plain
        self.in_channels, self.out_channels, self.kernel_size = plain.in_channels, outputs, plain.kernel_size
        self.bias = _empty_bias(outputs, bias, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H, W); without N for one sample."""
        _check_input(x)
        spec = self.spec
        if spec.activation is not None:
            # A dynamic range is of a whole sample, as in training.
            samples = x.flatten(1) if x.dim() == 4 else x.reshape(1, -1)
            x = fake_quantize_activation(samples, spec.activation, _range(self)).reshape(x.shape)
        weight = self.used_weight(x.dtype)
        plain: nn.Conv2d = self.__dict__["plain"]
        y: Tensor = plain._conv_forward(x, weight, self.bias)
        return y


def build_packed(
    spec: PackedSpec, like: nn.Module, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> PackedLayer:
    """An empty packed layer for the module ``like``, whose bias, padding index or geometry it has."""
    bias = getattr(like, "bias", None) is not None
    if spec.kind == "embedding":
        return PackedEmbedding(spec, getattr(like, "padding_idx", None), dtype, device)
    if spec.kind == "conv2d":
        names = ("stride", "padding", "dilation", "groups", "padding_mode")
        return PackedConv2d(spec, bias, {name: getattr(like, name) for name in names}, dtype, device)
    return PackedLinear(spec, bias, dtype, device)


def _empty_bias(size: int, wanted: bool, dtype: torch.dtype, device: torch.device | str | None) -> nn.Parameter | None:
    return nn.Parameter(torch.empty(size, dtype=dtype, device=device), requires_grad=False) if wanted else None


def _check_input(x: Tensor) -> None:
    if not x.is_floating_point():
        raise ExportError(f"a packed layer was given {x.dtype}: the model casts to the dtype of its packed weight")


def _range(layer: PackedLayer) -> Tensor | None:
    observer = layer._modules.get("activation_quantizer")
    return None if observer is None else observer.x_min_max  # type: ignore[return-value]
