"""Calling the hooks of techniques while a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from xtc_ds.layers import compressed_layers
from xtc_ds.techniques.base import Technique, TrainingRun

__all__ = ["TechniqueHooks"]


class TechniqueHooks:
    """The hooks of some techniques, in their order, for one model. With several ranks all methods are for all ranks."""

    def __init__(self, model: nn.Module, used: Iterable[Technique], loss_scale: Callable[[], float]) -> None:
        self.techniques = tuple(used)
        self.run = TrainingRun(model, tuple(layer for _, layer in compressed_layers(model)), loss_scale)

    def start(self) -> None:
        """Before the first step."""
        for technique in self.techniques:
            technique.start(self.run)

    def before_step(self) -> None:
        """Before the optimizer may change the weights."""
        for technique in self.techniques:
            technique.before_step(self.run)

    def after_step(self, step: int) -> None:
        """After optimizer step ``step`` was applied."""
        for technique in self.techniques:
            technique.after_step(self.run, step)

    def skipped_step(self) -> None:
        """After a step that an overflow prevented."""
        for technique in self.techniques:
            technique.skipped_step(self.run)

    def state_dict(self) -> dict[str, Any]:
        """What the techniques keep in a checkpoint beside tensors, by name."""
        for technique in self.techniques:
            technique.before_save(self.run)
        states = {technique.name: dict(technique.state_dict(self.run)) for technique in self.techniques}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Called once the tensors of a checkpoint are loaded."""
        for technique in self.techniques:
            technique.after_load(self.run)
            if technique.name in states:
                technique.load_state_dict(self.run, states[technique.name])
