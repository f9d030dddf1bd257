"""Quantized layer inputs."""

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
    """Quantizes inputs as its row says, from the row's offset on. A submodule of the layer observes a static range."""

    row: ActivationRow

    @property
    def format(self) -> ActivationFormat:  # type: ignore[override]
        """The format of the codes."""
        return self.row.format

    def attach(self, layer: CompressedLayer) -> None:
        """Add the transform to a layer, and for a static format a submodule that observes the range."""
        assert isinstance(layer, nn.Module)
        layer.input_transforms = (*layer.input_transforms, self)
        if self.row.format.calibration == "static":
            device = next((p.device for p in layer.parameters()), torch.device("cpu"))
            layer.add_module(_OBSERVER, RangeObserver().to(device).train(layer.training))

    def at(self, step: int) -> InputInForce | None:
        """Active from the offset on."""
        return self if step >= self.row.offset else None

    def bits_at(self, step: int) -> float | None:
        """The bits of the format from the offset on."""
        return self.row.format.bits if step >= self.row.offset else 32

    def __call__(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        """The input, quantized and dequantized."""
        kept = layer.kept_inputs()
        if kept is None:
            return self._quantized(layer, x)
        # Inputs that the frozen layer will not receive must not widen the range; they are zero or meet zero weights.
        dim = layer.layer_kind.feature_dim
        return x.index_copy(dim, kept, self._quantized(layer, x.index_select(dim, kept)))

    def range(self, layer: CompressedLayer, x: Tensor) -> Tensor | None:
        """Observe ``x`` and return the static range; None for a dynamic one. Raises EngineError if not calibrated."""
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
        """The observed range; None for dynamic ranges. Raises ExportError if no input was observed."""
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
        """The same transform, active from the first step on."""
        return replace(self, row=replace(self.row, offset=0))

    def _quantized(self, layer: CompressedLayer, x: Tensor) -> Tensor:
        samples = layer.samples(x)
        return fake_quantize_activation(samples, self.row.format, self.range(layer, samples)).reshape(x.shape)
