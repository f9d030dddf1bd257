"""What every compressed layer shares: the rules it follows and the formats in force."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xtc_ds.errors import EngineError
from xtc_ds.formats import (
    Encoded,
    WeightFormat,
    fake_quantize_activation,
    fake_quantize_weight,
    rounding_seed,
    uniform_noise,
)
from xtc_ds.kernels.training import integer_linear
from xtc_ds.layers.integer_forward import IntegerForward
from xtc_ds.layers.learned_parts import LearnedParts
from xtc_ds.layers.masks import PrunedLayer
from xtc_ds.layers.range_observer import RangeObserver
from xtc_ds.layers.reading import ReadingLayer
from xtc_ds.plan.rows import ActivationRow, WeightRow
from xtc_ds.zero import gathered

__all__ = ["LEARNED_PARTS", "CompressedLayer", "compressed_layers", "set_step"]

#: the submodule of a layer whose weight format learns something
LEARNED_PARTS = "weight_quantizer"


class CompressedLayer(PrunedLayer, ReadingLayer, IntegerForward):
    """Mixin of the classes that plain layers are swapped to.

    The layer keeps its Parameters, hooks and state_dict keys; the rules below are plain attributes. Before
    the schedule first sets a step, and before an offset is reached, the layer computes what it always did.
    """

    weight_rule: WeightRow | None = None
    activation_rule: ActivationRow | None = None
    weight_format: WeightFormat | None = None
    activation_on: bool = False
    # Share of the unquantized weight in what the forward sees.
    float_share: float = 0.0
    # Of this step's random numbers; None where weights are rounded to the nearest.
    rounding_seed: int | None = None
    # Whether what is in force is a plain product of codes.
    on_codes: bool = False

    def set_step(self, step: int) -> None:
        """Put the formats in force that the schedule asks for after ``step`` applied optimizer steps."""
        rule = self.weight_rule
        self.weight_format = rule.format_at(step) if rule else None
        self.float_share = rule.schedule.float_share_at(step, rule.change_ratio) if rule else 0.0
        self.rounding_seed = rounding_seed(rule.module, step) if rule and rule.rounding == "stochastic" else None
        self.activation_on = self.activation_rule is not None and step >= self.activation_rule.offset
        self.pruning_step = step
        if self.weight_format is not None and self.learned_parts is not None and not self.learned_parts.started:
            self.start_learning()
        plain = not self.pruning_rules and self.float_share == 0 and self.rounding_seed is None
        activation_format = self.activation_rule.format if self.activation_on and self.activation_rule else None
        self.on_codes = plain and self.integers_possible(activation_format)

    def product_on_codes(self, x: Tensor, w_OI: Tensor, bias_O: Tensor | None) -> Tensor | None:
        """``x`` (..., I) times the weight, plus bias, multiplied as integers; None where that is not to be done."""
        if not self.on_codes or not self.integers_pay(x):
            return None
        assert self.activation_rule is not None
        range_ = self.observed_range(x)
        activation_format = self.activation_rule.format
        return integer_linear(x, w_OI, bias_O, self.weight_codes, activation_format, range_, self.backward_dtype)

    def in_force(self, w: Tensor, bias_O: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight (outputs first) and bias that the layer computes with: quantized first, then pruned."""
        return self.pruned(self.quantized(w), bias_O)

    def quantized(self, w_OI: Tensor, rows_O: Tensor | None = None) -> Tensor:
        """The weight as its codes stand for it, (O, I).

        rows_O: which rows of the layer's weight ``w_OI`` holds, int64; by default all of them in order. What a row
            becomes does not depend on the others where each has a scale of its own.
        """
        if self.weight_format is None or self.float_share == 1:
            return w_OI
        assert self.weight_rule is not None
        noise = None
        if self.rounding_seed is not None and self.training and self.weight_format.has_grid:
            rows_O = torch.arange(len(w_OI), device=w_OI.device) if rows_O is None else rows_O
            noise = uniform_noise(self.rounding_seed, rows_O, w_OI.shape[1:].numel())
        if self.learned_parts is not None:
            result: Tensor = self.learned_parts(w_OI, rows_O, noise, self.float_share)
            return result
        return fake_quantize_weight(w_OI, self.weight_format, self.weight_rule.grouping, noise, self.float_share)

    @property
    def learned_parts(self) -> LearnedParts | None:
        """What the format of the weight learns; None where that is nothing."""
        found = self._modules.get(LEARNED_PARTS)  # type: ignore[attr-defined]
        assert found is None or isinstance(found, LearnedParts)
        return found

    def start_learning(self) -> None:
        """Let the learned parts start from the weights as they are now. With ZeRO-3 a call for all ranks."""
        weight: Tensor = self.weight  # type: ignore[attr-defined]
        assert self.learned_parts is not None
        if not weight.is_meta:
            with gathered([weight]):
                self.learned_parts.start(self.layer_kind.outputs_first(weight.detach()))

    def shipped_encoding(self, w_OI: Tensor) -> Encoded:
        """The codes of the whole weight as it is shipped, groups first. With ZeRO-3 a call for all ranks."""
        rule, learned = self.weight_rule, self.learned_parts
        assert rule is not None
        if learned is None:
            return rule.target_format.encode(rule.grouping.split(w_OI))
        with gathered(learned.parameters()):
            return learned.encoded(w_OI)

    def quantized_input(self, x: Tensor) -> Tensor:
        """The input as its codes stand for it."""
        if not self.activation_on:
            return x
        kept = self.kept_inputs()
        kept = self.live_inputs() if kept is None else kept
        if kept is None:
            return self._quantized_input(x)
        # What the frozen layer will not get must not widen the range; here it is zero, or meets weights of zero.
        dim = self.layer_kind.feature_dim
        return x.index_copy(dim, kept, self._quantized_input(x.index_select(dim, kept)))

    def _quantized_input(self, x: Tensor) -> Tensor:
        assert self.activation_rule is not None
        return fake_quantize_activation(x, self.activation_rule.format, self.observed_range(x))

    def observed_range(self, x: Tensor) -> Tensor | None:
        """The static range (minimum, maximum) with ``x`` taken in, or None for dynamic ranges.

        Raises EngineError where no range has been seen.
        """
        observer = getattr(self, "activation_quantizer", None)
        if observer is None:
            return None
        assert isinstance(observer, RangeObserver)
        observer(x)
        if not observer.calibrated:
            assert self.activation_rule is not None
            raise EngineError(
                f"{self.activation_rule.module}: the static activation range is not calibrated; "
                "train at least one step, load a checkpoint that holds activation_quantizer.x_min_max, "
                'or set "range_calibration": "dynamic"'
            )
        return observer.x_min_max


def compressed_layers(model: nn.Module) -> Iterator[tuple[str, CompressedLayer]]:
    """(name, layer) of all compressed layers of a model, in module order."""
    for name, module in model.named_modules():
        if isinstance(module, CompressedLayer):
            yield name, module


def set_step(model: nn.Module, step: int) -> None:
    """Set the schedule of every compressed layer to ``step`` applied optimizer steps."""
    for _, layer in compressed_layers(model):
        layer.set_step(step)
