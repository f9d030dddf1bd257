"""Quantized weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xtc_ds.formats import Encoded, fake_quantize_weight, rounding_seed, uniform_noise
from xtc_ds.layers import Coding, CompressedLayer, WeightInForce, WeightTransform
from xtc_ds.techniques.weight_quantization.learned_parts import LEARNED_PARTS, LearnedParts, learned_parts_of
from xtc_ds.techniques.weight_quantization.rows import WeightRow
from xtc_ds.zero import gathered

__all__ = ["QuantizedWeight"]


@dataclass(frozen=True)
class QuantizedWeight(WeightTransform):
    """Quantizes a weight by the bit schedule of its row."""

    row: WeightRow

    def at(self, layer: CompressedLayer, step: int) -> WeightInForce | None:
        """The quantization for that step; None before the offset. Learned parts are initialized when it starts."""
        weight_format = self.row.format_at(step)
        if weight_format is None:
            return None
        learned = learned_parts_of(layer)
        if learned is not None and not learned.started:
            _start_learning(layer, learned)
        share = self.row.schedule.float_share_at(step, self.row.change_ratio)
        seed = rounding_seed(self.row.module, step) if self.row.rounding == "stochastic" else None
        return _FakeQuantized(Coding(weight_format, self.row.grouping, self.row.shape), share, seed)

    def shipped_encoding(self, layer: CompressedLayer, w_OI: Tensor) -> Encoded:
        """The codes in the format at the end of the schedule, with its learned parts."""
        learned = learned_parts_of(layer)
        if learned is None:
            return super().shipped_encoding(layer, w_OI)
        with gathered(learned.parameters()):
            return learned.encoded(w_OI)

    def remove(self, layer: CompressedLayer) -> None:
        """Remove the learned parts."""
        assert isinstance(layer, nn.Module)
        layer._modules.pop(LEARNED_PARTS, None)

    def bits_at(self, step: int) -> float | None:
        """The bits of the schedule."""
        bits = self.row.schedule.at(step)
        return 32 if bits is None else bits


class _FakeQuantized(WeightInForce):
    """Quantizes with nearest or stochastic rounding, and mixes in the share ``float_share`` of the float weight."""

    def __init__(self, coding: Coding, float_share: float, seed: int | None) -> None:
        self.format = coding.format
        self.grouping = coding.grouping
        self.coding = coding if float_share == 0 and seed is None else None
        self.by_row = coding.grouping.kind == "row"
        self.float_share, self.seed = float_share, seed

    def __call__(
        self, layer: CompressedLayer, w: Tensor, bias_O: Tensor | None, rows_O: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        assert self.format is not None
        if self.float_share == 1:
            return w, bias_O
        noise = None
        if self.seed is not None and layer.training and self.format.has_grid:
            rows_O = torch.arange(len(w), device=w.device) if rows_O is None else rows_O
            noise = uniform_noise(self.seed, rows_O, w.shape[1:].numel())
        learned = learned_parts_of(layer)
        if learned is not None:
            return learned(w, rows_O, noise, self.float_share), bias_O
        return fake_quantize_weight(w, self.format, self.grouping, noise, self.float_share), bias_O


def _start_learning(layer: CompressedLayer, learned: LearnedParts) -> None:
    """Initialize learned parts from the current weights. With ZeRO-3 all ranks have to call this."""
    weight: Tensor = layer.weight  # type: ignore[attr-defined]
    if not weight.is_meta:
        with gathered([weight]):
            learned.start(layer.layer_kind.outputs_first(weight.detach()))
