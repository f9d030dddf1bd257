"""What every compressed layer shares: the rules it follows and the formats in force."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from xtc_ds.errors import EngineError
from xtc_ds.formats import WeightFormat, fake_quantize_activation, fake_quantize_weight
from xtc_ds.layers.range_observer import RangeObserver
from xtc_ds.plan.rows import ActivationRow, WeightRow

__all__ = ["CompressedLayer", "compressed_layers", "set_step"]


class CompressedLayer:
    """Mixin of the classes that plain layers are swapped to.

    The layer keeps its Parameters, hooks and state_dict keys; the rules below are plain attributes. Before
    the schedule first sets a step, and before an offset is reached, the layer computes what it always did.
    """

    weight_rule: WeightRow | None = None
    activation_rule: ActivationRow | None = None
    weight_format: WeightFormat | None = None
    activation_on: bool = False

    def set_step(self, step: int) -> None:
        """Put the formats in force that the schedule asks for after ``step`` applied optimizer steps."""
        self.weight_format = self.weight_rule.format_at(step) if self.weight_rule else None
        self.activation_on = self.activation_rule is not None and step >= self.activation_rule.offset

    def quantized(self, w_OI: Tensor) -> Tensor:
        """The weight that the layer multiplies with, (O, I)."""
        if self.weight_format is None:
            return w_OI
        assert self.weight_rule is not None
        return fake_quantize_weight(w_OI, self.weight_format, self.weight_rule.grouping)

    def quantized_input(self, x: Tensor) -> Tensor:
        """The input as its codes stand for it."""
        if not self.activation_on:
            return x
        assert self.activation_rule is not None
        activation_format = self.activation_rule.format
        observer = getattr(self, "activation_quantizer", None)
        if observer is None:
            return fake_quantize_activation(x, activation_format)
        assert isinstance(observer, RangeObserver)
        observer(x)
        if not observer.calibrated:
            raise EngineError(
                f"{self.activation_rule.module}: the static activation range is not calibrated; "
                "train at least one step, load a checkpoint that holds activation_quantizer.x_min_max, "
                'or set "range_calibration": "dynamic"'
            )
        return fake_quantize_activation(x, activation_format, observer.x_min_max)


def compressed_layers(model: nn.Module) -> Iterator[tuple[str, CompressedLayer]]:
    """(name, layer) of all compressed layers of a model, in module order."""
    for name, module in model.named_modules():
        if isinstance(module, CompressedLayer):
            yield name, module


def set_step(model: nn.Module, step: int) -> None:
    """Set the schedule of every compressed layer to ``step`` applied optimizer steps."""
    for _, layer in compressed_layers(model):
        layer.set_step(step)
