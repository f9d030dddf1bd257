"""The schedule of one model: which formats are in force after so many applied optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from xtc_ds.errors import EngineError
from xtc_ds.layers import CompressedLayer, compressed_layers

__all__ = ["CompressionSchedule"]


class CompressionSchedule:
    """Sets the layers of ``model`` to a step.

    A step is an optimizer step that was applied: micro-batches of an accumulation and steps skipped for an
    overflow do not count. The formats for ``step`` are in force in the forward that leads to step ``step + 1``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.step = 0
        # Kept: a walk through all modules at every step takes as long as a percent of a short one.
        self.layers = tuple(layer for _, layer in compressed_layers(model))
        self._set_step(0)

    def advance_to(self, step: int) -> None:
        """Put the formats of ``step`` in force."""
        if step != self.step:
            self._set_step(step)

    def weights_changed(self) -> None:
        """Called by whoever changes the weights, after each change: between two calls their codes are kept."""
        for layer in self._compressed():
            layer.weight_epoch = (layer.weight_epoch or 0) + 1

    def bits(self) -> dict[str, dict[str, float]]:
        """Bits in force now by group: ``{"weights": {group: bits}, "activations": {group: bits}}``; 32 is float."""
        weights: dict[str, float] = {}
        activations: dict[str, float] = {}
        for _, layer in compressed_layers(self.model):
            for weight in layer.weight_transforms:
                if (bits := weight.bits_at(self.step)) is not None:
                    weights[weight.row.group] = bits
            for input_ in layer.input_transforms:
                if (bits := input_.bits_at(self.step)) is not None:
                    activations[input_.row.group] = bits
        return {"weights": weights, "activations": activations}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the saved step. Raises EngineError if ``state`` is not one of a schedule."""
        step = state.get("step")
        if not isinstance(step, int) or step < 0:
            raise EngineError(f"the checkpoint's compression schedule is damaged: step is {step!r}")
        self._set_step(step)

    def _set_step(self, step: int) -> None:
        self.step = step
        for layer in self._compressed():
            layer.set_step(step)

    def _compressed(self) -> Iterator[CompressedLayer]:
        # Baking makes layers plain again, also under an engine.
        return (layer for layer in self.layers if isinstance(layer, CompressedLayer))
