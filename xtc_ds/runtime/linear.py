"""The linear layer of a frozen model, on whichever kernel takes its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xtc_ds.errors import ExportError
from xtc_ds.formats import fake_quantize_activation
from xtc_ds.kernels import linear_on_codes, product_is_integer
from xtc_ds.kernels.native import TiledLayer
from xtc_ds.kernels.packed_linear import PackedProduct
from xtc_ds.kernels.triton import INTERPRETED, load_kernels, takes_input, takes_weight
from xtc_ds.runtime.packed import PackedLayer, PackedSpec

if TYPE_CHECKING:  # Triton need not be installed
    from xtc_ds.kernels.triton.packed import TritonProduct

__all__ = ["PackedLinear", "check_input", "empty_bias", "static_range"]


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
        self._triton_product: TritonProduct | None = None
        packed = spec.format is not None and not spec.masked
        self._multiplies_codes = packed and product_is_integer(spec.weight_format, spec.grouping, spec.activation)
        self._suits_triton = (
            packed
            and (self._multiplies_codes or spec.activation is None)
            and takes_weight(spec.weight_format, spec.grouping, spec.shape)
        )
        self.bias = empty_bias(self.out_features, bias, dtype, device)

    @classmethod
    def empty_like(
        cls, module: nn.Module, spec: PackedSpec, dtype: torch.dtype, device: torch.device | str | None
    ) -> PackedLinear:
        return cls(spec, getattr(module, "bias", None) is not None, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        check_input(x)
        if self.training and x.requires_grad:
            raise ExportError("a packed model is not trained: train the one that was frozen, or call model.eval()")
        spec, kernel = self.spec, self._kernel(x)
        if kernel is not None:
            return kernel(x, *self._operands())
        range_ = static_range(self)
        if not self._multiplies_codes:
            if spec.activation is not None:
                x = fake_quantize_activation(x, spec.activation, range_)
            return F.linear(x, self.used_weight(x.dtype), self.bias)
        # Unpacking bits is slow without the kernel: int8 codes are kept whatever the runtime.
        codes = self.encoded(keep=True)
        return linear_on_codes(x, codes, spec.weight_format, spec.grouping, spec.activation, range_, self.bias)

    def tiled(self) -> TiledLayer | None:
        """The layer as the native kernel takes it, on the CPU; None where it does not multiply codes."""
        if not self._multiplies_codes:
            return None
        return (self._product or self._bind()).layer(*self._operands())

    def _operands(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        # Not as attributes: nn.Module takes longer to find those than the kernel needs for a small layer.
        weight, scale, bias = self._parameters["weight"], self._buffers["weight_scale"], self._parameters.get("bias")
        assert weight is not None
        assert scale is not None
        return weight if self.spec.sparse is None else self.packed_codes(), scale, bias, static_range(self)

    def _kernel(self, x: Tensor) -> PackedProduct | TritonProduct | None:
        """What multiplies ``x`` with packed codes where it lies; None: no kernel does."""
        if self._suits_triton and (INTERPRETED or x.is_cuda) and self._triton_takes(x):
            return self._triton_product or self._bind_triton()
        if self._multiplies_codes and PackedProduct.possible(x):
            return self._product or self._bind()
        return None

    def _triton_takes(self, x: Tensor) -> bool:
        activation = self.spec.activation
        # Floats times codes: unpacked they are floats, and a gradient of the input takes an ordinary product.
        if activation is None and (self.runtime == "unpacked" or (x.requires_grad and torch.is_grad_enabled())):
            return False
        return takes_input(x.dtype, None if activation is None else activation.bits) and load_kernels(x.device)

    def _bind(self) -> PackedProduct:
        spec = self.spec
        assert spec.activation is not None
        self._product = PackedProduct(spec.weight_format, self._shape, spec.activation, self.runtime == "unpacked")
        return self._product

    def _bind_triton(self) -> TritonProduct:
        from xtc_ds.kernels.triton.packed import TritonProduct

        spec, whole_bytes = self.spec, self.runtime == "unpacked"
        self._triton_product = TritonProduct(spec.weight_format, self._shape, spec.activation, whole_bytes)
        return self._triton_product

    def forget(self) -> None:
        super().forget()
        self._product = self._triton_product = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_product": None, "_triton_product": None}


def empty_bias(size: int, wanted: bool, dtype: torch.dtype, device: torch.device | str | None) -> nn.Parameter | None:
    """A bias without values, or None."""
    return nn.Parameter(torch.empty(size, dtype=dtype, device=device), requires_grad=False) if wanted else None


def check_input(x: Tensor) -> None:
    """Raise ExportError for an input that is no float."""
    if not x.is_floating_point():
        raise ExportError(f"a packed layer was given {x.dtype}: the model casts to the dtype of its packed weight")


def static_range(layer: PackedLayer) -> Tensor | None:
    """The layer's (minimum, maximum) of inputs; None where it is dynamic."""
    observer = layer._modules.get("activation_quantizer")
    return None if observer is None else observer.x_min_max  # type: ignore[return-value]
