"""Call the hooks of techniques during training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from xtc_ds.layers import compressed_layers
from xtc_ds.techniques.base import Technique, TrainingRun

__all__ = ["TechniqueHooks"]


class TechniqueHooks:
    """The hooks of the used techniques, in order, for one model. All ranks have to call every method."""

    def __init__(self, model: nn.Module, used: Iterable[Technique], loss_scale: Callable[[], float]) -> None:
        self.techniques = tuple(used)
        self.run = TrainingRun(model, tuple(layer for _, layer in compressed_layers(model)), loss_scale)

    def start(self) -> None:
        """To be called before the first step."""
        for technique in self.techniques:
            technique.start(self.run)

    def before_step(self) -> None:
        """To be called before the optimizer may change the weights."""
        for technique in self.techniques:
            technique.before_step(self.run)

    def after_step(self, step: int) -> None:
        """To be called after optimizer step ``step`` was applied."""
        for technique in self.techniques:
            technique.after_step(self.run, step)

    def skipped_step(self) -> None:
        """To be called after a step that was skipped because of an overflow."""
        for technique in self.techniques:
            technique.skipped_step(self.run)

    def state_dict(self) -> dict[str, Any]:
        """Technique name to what it saves in a checkpoint besides tensors; techniques without state are left out."""
        for technique in self.techniques:
            technique.before_save(self.run)
        states = {technique.name: dict(technique.state_dict(self.run)) for technique in self.techniques}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Restore the states. To be called after the tensors of a checkpoint are loaded."""
        for technique in self.techniques:
            technique.after_load(self.run)
            if technique.name in states:
                technique.load_state_dict(self.run, states[technique.name])
