"""``compression_scheduler``: advance the schedule in training loops without a DeepSpeed engine."""

from __future__ import annotations

from typing import Any

from xtc_ds.compat.old_config import get_compression_config
from xtc_ds.engine.hooks import TechniqueHooks
from xtc_ds.engine.schedule import CompressionSchedule
from xtc_ds.engine.wrapper import EngineState
from xtc_ds.errors import EngineError
from xtc_ds.freezing.freeze import unwrap
from xtc_ds.layers import compressed_layers
from xtc_ds.techniques.registry import techniques

__all__ = ["compression_scheduler"]


class compression_scheduler:
    """Advances the schedule of a model that went through ``init_compression``. Engines do this on their own.

    ``training_steps``: number of applied optimizer steps so far. ``weight_quantization_enabled``: whether the weights
    of any layer were quantized after the last ``step``.

    Raises EngineError if the config enables compression but the model was never compressed, and for an engine, which
    advances the schedule already.
    """

    def __init__(self, model: Any, compression_config: Any) -> None:
        if isinstance(getattr(model, "xtc", None), EngineState):
            raise EngineError("compression_scheduler: this engine advances the schedule itself; leave it out")
        self.model = unwrap(model)
        self.compression_config = get_compression_config(compression_config)
        self.training_steps = 0
        self.weight_quantization_enabled = False
        if self._enabled() and not any(True for _ in compressed_layers(self.model)):
            raise EngineError("compression_scheduler: the model was never compressed; call init_compression first")
        # The plan is not known here, so use all techniques; hooks are no-ops for those that the model does not use.
        self._hooks = TechniqueHooks(self.model, techniques(), lambda: 1.0)
        self._hooks.start()
        self._schedule = CompressionSchedule(self.model)

    def step(self, step_zero_check: bool = False) -> None:
        """Count one applied optimizer step and activate what the schedule asks for after it.

        All ranks have to call it after ``optimizer.step``. snip_momentum expects a loss that is not scaled.
        step_zero_check: set the current state without counting a step (before the first forward).
        """
        if not step_zero_check:
            self.training_steps += 1
            self._hooks.after_step(self.training_steps)
        self._schedule.advance_to(self.training_steps)
        layers = (layer for _, layer in compressed_layers(self.model))
        self.weight_quantization_enabled = any(layer.weight_format is not None for layer in layers)

    def _enabled(self) -> bool:
        sections = (section for section in self.compression_config.values() if isinstance(section, dict))
        return any(section.get("shared_parameters", {}).get("enabled") for section in sections)
