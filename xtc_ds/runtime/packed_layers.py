"""The packed layers of a frozen model other than linear ones: embeddings and convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.formats import Encoded, fake_quantize_activation
from xtc_ds.kernels.backends import LOOKUP
from xtc_ds.kernels.unpack_rows import unpack_rows
from xtc_ds.layer_kinds import packed_class, register_packed
from xtc_ds.runtime.linear import PackedLinear, check_input, empty_bias, static_range
from xtc_ds.runtime.packed import PackedLayer, PackedSpec

__all__ = ["PackedConv2d", "PackedEmbedding", "PackedLinear", "build_packed"]


_GEOMETRY = ("stride", "padding", "dilation", "groups", "padding_mode")


class PackedEmbedding(PackedLayer):
    """A packed embedding table; only the rows that are looked up are decoded."""

    backends = LOOKUP

    def __init__(
        self,
        spec: PackedSpec,
        padding_idx: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(spec, dtype, device)
        self.num_embeddings, self.embedding_dim = spec.shape[0], spec.shape[1]
        self.padding_idx = padding_idx
        self.dtype = dtype

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedEmbedding:
        return cls(spec, getattr(module, "padding_idx", None), dtype, device)

    def _apply(self, fn: Any, recurse: bool = True) -> PackedEmbedding:
        # If the whole model is cast, the returned vectors get the dtype of its other floats.
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype
        super()._apply(fn, recurse)
        return self

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (...) to vectors (..., D)."""
        key = (ids.device, self.dtype)
        vectors: Tensor = (self._bound.get(key) or self.bind(key))(ids, self)
        return vectors

    def packed_table(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Packed codes uint8 (bytes,), scales (G,), and zero offsets (G,), None if the format has none."""
        weight, scale = self._parameters["weight"], self._buffers["weight_scale"]
        assert weight is not None
        assert scale is not None
        return weight, scale, self._buffers.get("weight_zero")

    def decoded_rows(self, ids_R: Tensor) -> Tensor:
        """The requested rows decoded, (R, D)."""
        # With a single group, all rows share its parts.
        parts = {name: values if len(values) == 1 else values[ids_R] for name, values in self.parts().items()}
        return Encoded(self._row_codes(ids_R), parts, self.spec.weight_format).decode(self.dtype)

    def _row_codes(self, flat_ids: Tensor) -> Tensor:
        if self.runtime == "unpacked" or self.spec.sparse is not None:
            table: Tensor = self.made_once("codes", self.codes)
            return table[flat_ids]
        return unpack_rows(self.weight, self.spec.weight_format, self.embedding_dim, flat_ids)


class PackedConv2d(PackedLayer):
    """A convolution with a packed weight, which is decoded to floats.

    geometry: ``stride``, ``padding``, ``dilation``, ``groups`` and ``padding_mode``, as in ``nn.Conv2d``.
    """

    dimensions = 4
    version = 2

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
        # Holds the geometry and implements the padding of nn.Conv2d. It is on "meta" and not registered as a submodule.
        convolution = nn.Conv2d(
            inputs * geometry["groups"], outputs, (height, width), bias=False, device="meta", **geometry
        )  # fmt: skip
        self.__dict__["convolution"] = convolution
        self.in_channels, self.out_channels, self.kernel_size = (
            convolution.in_channels,
            outputs,
            convolution.kernel_size,
        )
        self.bias = empty_bias(outputs, bias, dtype, device)

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedConv2d:
        geometry = {name: getattr(module, name) for name in _GEOMETRY}
        return cls(spec, getattr(module, "bias", None) is not None, geometry, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, I, H, W) to (N, O, H', W'); N may be absent for a single sample."""
        check_input(x)
        spec = self.spec
        if spec.activation is not None:
            # A dynamic range covers a whole sample, as in training.
            samples = x.flatten(1) if x.dim() == 4 else x.reshape(1, -1)
            x = fake_quantize_activation(samples, spec.activation, static_range(self)).reshape(x.shape)
        weight = self.used_weight(x.dtype)
        convolution: nn.Conv2d = self.__dict__["convolution"]
        y: Tensor = convolution._conv_forward(x, weight, self.bias)
        return y


def build_packed(
    spec: PackedSpec, like: nn.Module, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> PackedLayer:
    """An uninitialized packed layer that replaces the module ``like``, with its bias, padding index or geometry."""
    layer: PackedLayer = packed_class(spec.kind).empty_like(like, spec, dtype, device)
    return layer


register_packed("linear", PackedLinear)
register_packed("embedding", PackedEmbedding)
register_packed("conv2d", PackedConv2d)
