"""The DeepSpeed engine, extended to advance the compression schedule and to save it in its checkpoints."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from xtc_ds.engine.describe import describe_model
from xtc_ds.engine.hooks import TechniqueHooks
from xtc_ds.engine.loss_scale import loss_scale
from xtc_ds.engine.schedule import CompressionSchedule
from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import techniques

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

    from xtc_ds.distillation.distiller import Distiller

__all__ = ["EngineState", "engine_of", "wrap_engine"]

logger = logging.getLogger(__name__)

_CLIENT_KEY = "xtc_ds"
# Weak references: the engine holds its model, so a strong reference would keep both alive.
_engines: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Any]] = weakref.WeakKeyDictionary()


@dataclass
class EngineState:
    """The compression state of an engine: ``engine.xtc``."""

    plan: CompressionPlan
    schedule: CompressionSchedule
    distiller: Distiller | None
    hooks: TechniqueHooks
    # Applied steps that the engine does not count: those of an earlier run of which only the weights were loaded.
    earlier_steps: int = 0

    def loss_parts(self) -> dict[str, float]:
        """The unweighted parts of the last distillation loss and "loss", their weighted sum; empty without kd."""
        if self.distiller is None:
            return {}
        return {name: float(value) for name, value in self.distiller.last_parts.items()}


class _XtcEngineMixin:
    """Overrides of DeepSpeed's engine methods, with unchanged signatures and results."""

    xtc: EngineState

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Run DeepSpeed's ``step``, then advance the schedule if an update was applied."""
        steps: int = self.global_steps  # type: ignore[attr-defined]
        skipped: int = self.skipped_steps  # type: ignore[attr-defined]
        self.xtc.hooks.before_step()
        result = super().step(*args, **kwargs)  # type: ignore[misc]
        if self.global_steps != steps:  # type: ignore[attr-defined]
            self.xtc.schedule.weights_changed()
        applied = _applied_steps(self)
        if applied != self.xtc.schedule.step:
            self.xtc.hooks.after_step(applied)
            self.xtc.schedule.advance_to(applied)
        elif self.skipped_steps != skipped:  # type: ignore[attr-defined]
            self.xtc.hooks.skipped_step()
        return result

    def save_checkpoint(
        self, save_dir: Any, tag: Any = None, client_state: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Like DeepSpeed's, with the schedule and the config block added to the client state."""
        states = self.xtc.hooks.state_dict()
        ours = {**self.xtc.schedule.state_dict(), "compression_training": dict(self.xtc.plan.config.raw)}
        if states:
            ours["techniques"] = states
        ours["model"] = describe_model(self.module)  # type: ignore[attr-defined]
        state = {**(client_state or {}), _CLIENT_KEY: ours}
        return super().save_checkpoint(save_dir, tag, state, *args, **kwargs)  # type: ignore[misc]

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Like DeepSpeed's; the schedule continues at the checkpoint's step."""
        path, client_state = super().load_checkpoint(*args, **kwargs)  # type: ignore[misc]
        if path is None:
            return path, client_state
        ours = (client_state or {}).pop(_CLIENT_KEY, None)
        self.xtc.hooks.load_state_dict((ours or {}).get("techniques", {}))
        self.xtc.schedule.weights_changed()
        if ours is None:
            logger.warning("%s holds no compression schedule; it starts at the engine's step", path)
            self.xtc.schedule.advance_to(_applied_steps(self))
            return path, client_state
        if ours.get("compression_training") != dict(self.xtc.plan.config.raw):
            logger.warning("%s was trained with another compression_training block than this run's", path)
        self.xtc.schedule.load_state_dict(ours)
        self.xtc.earlier_steps = 0
        self.xtc.earlier_steps = self.xtc.schedule.step - _applied_steps(self)
        return path, client_state


def wrap_engine(engine: DeepSpeedEngine, plan: CompressionPlan, distiller: Distiller | None) -> DeepSpeedEngine:
    """Make ``engine`` advance the schedule, by swapping its class for a subclass, in place (once)."""
    module: nn.Module = engine.module
    used = (technique for technique in techniques() if plan.rows.get(technique.name))
    hooks = TechniqueHooks(module, used, lambda: loss_scale(engine))
    hooks.start()
    engine.xtc = EngineState(plan, CompressionSchedule(module), distiller, hooks)
    engine.xtc.schedule.weights_changed()
    _engines[module] = weakref.ref(engine)
    if isinstance(engine, _XtcEngineMixin):
        return engine
    base = type(engine)
    engine.__class__ = type(f"Xtc{base.__name__}", (_XtcEngineMixin, base), {"__doc__": base.__doc__})
    return engine


def engine_of(model: nn.Module) -> Any:
    """The engine most recently wrapped around a compressed model, if it still exists; else None."""
    found = _engines.get(model)
    return None if found is None else found()


def _applied_steps(engine: Any) -> int:
    return int(engine.global_steps) - int(engine.skipped_steps) + int(engine.xtc.earlier_steps)
