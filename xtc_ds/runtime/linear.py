"""The linear layer of a frozen model, computed by the first backend that supports its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtc_ds.errors import ExportError
from xtc_ds.kernels.backends import LINEAR
from xtc_ds.kernels.native import TiledLayer
from xtc_ds.kernels.packed_linear import PackedProduct
from xtc_ds.runtime.packed import PackedLayer, PackedSpec

__all__ = ["PackedLinear", "check_input", "empty_bias", "static_range"]


class PackedLinear(PackedLayer):
    """A packed linear layer; the first backend that supports weight and input computes the product."""

    backends = LINEAR

    def __init__(
        self,
        spec: PackedSpec,
        bias: bool,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(spec, dtype, device)
        self.out_features, self.in_features = spec.shape[0], spec.shape[1]
        self.bias = empty_bias(self.out_features, bias, dtype, device)

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedLinear:
        return cls(spec, getattr(module, "bias", None) is not None, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (..., I) to (..., O). Raises ExportError for an input that is not float, and in training."""
        check_input(x)
        if self.training and x.requires_grad:
            raise ExportError("a packed model is not trained: train the one that was frozen, or call model.eval()")
        key = (x.device, x.dtype, x.requires_grad and torch.is_grad_enabled())
        y: Tensor = (self._bound.get(key) or self.bind(key))(x, self)
        return y

    def tiled(self) -> TiledLayer | None:
        """The layer in the form of the native CPU kernel; None if another backend computes the product."""
        key = (torch.device("cpu"), torch.float32, False)
        product = self._bound.get(key) or self.bind(key)
        return product.layer(*self.packed_operands()) if isinstance(product, PackedProduct) else None

    def packed_operands(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Packed codes uint8 (bytes,), scales (G,), bias (O,) or None, static input (minimum, maximum) or None."""
        # Read from the dicts: attribute look-up by nn.Module takes longer than the kernel needs for a small layer.
        weight, scale, bias = self._parameters["weight"], self._buffers["weight_scale"], self._parameters.get("bias")
        assert weight is not None
        assert scale is not None
        return weight if self.spec.sparse is None else self.packed_codes(), scale, bias, static_range(self)

    def float_operands(self) -> tuple[Tensor | None, Tensor | None]:
        """Bias (O,) or None, and the static (minimum, maximum) of the input or None."""
        return self._parameters.get("bias"), static_range(self)


def empty_bias(size: int, wanted: bool, dtype: torch.dtype, device: torch.device | str | None) -> nn.Parameter | None:
    """An uninitialized bias parameter (size,); None if not ``wanted``."""
    return nn.Parameter(torch.empty(size, dtype=dtype, device=device), requires_grad=False) if wanted else None


def check_input(x: Tensor) -> None:
    """Raise ExportError if the input is not of a float dtype."""
    if not x.is_floating_point():
        raise ExportError(f"a packed layer was given {x.dtype}: the model casts to the dtype of its packed weight")


def static_range(layer: PackedLayer) -> Tensor | None:
    """The static (minimum, maximum) of the layer's input; None if the range is dynamic."""
    observer = layer._modules.get("activation_quantizer")
    return None if observer is None else observer.x_min_max  # type: ignore[return-value]
