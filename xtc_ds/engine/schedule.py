"""The compression schedule of one model: which formats are active after a number of applied optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from xtc_ds.errors import EngineError
from xtc_ds.layers import CompressedLayer, compressed_layers

__all__ = ["CompressionSchedule"]


class CompressionSchedule:
    """Sets the compressed layers of ``model`` to the state of a step.

    Only applied optimizer steps count: accumulated micro-batches and steps skipped for an overflow do not. The formats
    for ``step`` are active in the forward pass that leads to step ``step + 1``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.step = 0
        # Cached: walking through all modules takes up to a percent of a short training step.
        self.layers = tuple(layer for _, layer in compressed_layers(model))
        self._set_step(0)

    def advance_to(self, step: int) -> None:
        """Activate the formats for ``step``."""
        if step != self.step:
            self._set_step(step)

    def weights_changed(self) -> None:
        """To be called after each change of the weights: between two calls the layers may cache the weights' codes."""
        for layer in self._compressed():
            layer.weight_epoch = (layer.weight_epoch or 0) + 1

    def bits(self) -> dict[str, dict[str, float]]:
        """The current bits by group: ``{"weights": {group: bits}, "activations": {group: bits}}``; 32 means float."""
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
        """The state to save in a checkpoint."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the saved step. Raises EngineError if ``state`` holds no valid step."""
        step = state.get("step")
        if not isinstance(step, int) or step < 0:
            raise EngineError(f"the checkpoint's compression schedule is damaged: step is {step!r}")
        self._set_step(step)

    def _set_step(self, step: int) -> None:
        self.step = step
        for layer in self._compressed():
            layer.set_step(step)

    def _compressed(self) -> Iterator[CompressedLayer]:
        # ``bake`` turns layers into plain ones, also while an engine holds the model.
        return (layer for layer in self.layers if isinstance(layer, CompressedLayer))
