"""An input as its codes stand for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xtc_ds.errors import EngineError, ExportError
from xtc_ds.formats import ActivationFormat, fake_quantize_activation
from xtc_ds.layers import CompressedLayer, InputInForce, InputTransform, RangeObserver
from xtc_ds.techniques.activation_quantization.rows import ActivationRow

__all__ = ["QuantizedInput"]

_OBSERVER = "activation_quantizer"


@dataclass(frozen=True)
class QuantizedInput(InputTransform, InputInForce):
    """Follows a row from its offset on. A static range is observed by a submodule of the layer."""

    row: ActivationRow

    @property
    def format(self) -> ActivationFormat:  # type: ignore[override]
        """The format of the codes."""
        return self.row.format

    def attach(self, layer: CompressedLayer) -> None:
        """Add the transform to a layer, with what observes its range."""
        assert isinstance(layer, nn.Module)
        layer.input_transforms = (*layer.input_transforms, self)
        if self.row.format.calibration == "static":
            device = next((p.device for p in layer.parameters()), torch.device("cpu"))
            layer.add_module(_OBSERVER, RangeObserver().to(device).train(layer.training))

    def at(self, step: int) -> InputInForce | None:
        """Codes from the offset on."""
        return self if step >= self.row.offset else None

    def bits_at(self, step: int) -> float | None:
        """Those of the format from the offset on."""
        return self.row.format.bits if step >= self.row.offset else 32

    def __call__(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        """The input as its codes stand for it."""
        kept = layer.kept_inputs()
        if kept is None:
            return self._quantized(layer, x)
        # What the frozen layer will not get must not widen the range; here it is zero, or meets weights of zero.
        dim = layer.layer_kind.feature_dim
        return x.index_copy(dim, kept, self._quantized(layer, x.index_select(dim, kept)))

    def range(self, layer: CompressedLayer, x: Tensor) -> Tensor | None:
        """The static range with ``x`` taken in. Raises EngineError where no range has been seen."""
        observer = layer._modules.get(_OBSERVER)  # type: ignore[attr-defined]
        if observer is None:
            return None
        assert isinstance(observer, RangeObserver)
        observer(x)
        if not observer.calibrated:
            raise EngineError(
                f"{self.row.module}: the static activation range is not calibrated; "
                "train at least one step, load a checkpoint that holds activation_quantizer.x_min_max, "
                'or set "range_calibration": "dynamic"'
            )
        return observer.x_min_max

    def stored_range(self, layer: CompressedLayer, name: str) -> Tensor | None:
        """The observed range. Raises ExportError where no input has been seen."""
        observer = getattr(layer, _OBSERVER, None)
        if observer is None:
            return None
        assert isinstance(observer, RangeObserver)
        if not observer.calibrated:
            raise ExportError(
                f"{name}: its static activation range has seen no input, so it cannot be shipped; train first, "
                'exclude the module if training never calls it, or set "range_calibration": "dynamic"'
            )
        return observer.x_min_max

    def finished(self) -> InputTransform:
        """In force from the start."""
        return replace(self, row=replace(self.row, offset=0))

    def _quantized(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        samples = layer.samples(x)
        return fake_quantize_activation(samples, self.row.format, self.range(layer, samples)).reshape(x.shape)
