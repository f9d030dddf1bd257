"""The base class of techniques: ways of compressing a model, from the config to the packed file.

A technique is a package: ``config.py`` (its typed section of the config block; imports no torch) and ``technique.py``,
which derives a class from ``Technique`` and ends with ``register_technique(TheTechnique())``. ``xtc_ds.extensions``
finds the packages: the built-in ones by name, others by an entry point. A program may also call
``register_technique`` itself.

The registered techniques are called, in order, at each stage of a model's life:

1. ``plan``, then ``check`` once all techniques are planned: pure functions from the model and the config to rows
   (subclasses of ``xtc_ds.plan.rows.Row``), problems and warnings.
2. ``apply`` rewrites the model in place; it must not refuse anything any more.
3. ``added_parameters`` adds new parameters to optimizers. During training, the hooks ``start``, ``before_step``,
   ``after_step``, ``skipped_step``, ``before_save`` and ``after_load`` run under any engine, and ``state_dict`` and
   ``load_state_dict`` save in the checkpoint what is not a tensor of the model.
4. ``training_only`` names submodules that a frozen model does not have.

All methods but ``plan`` and ``apply`` are no-ops by default. A technique holds no state of a model or a run: one object
serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import Problem
from xtc_ds.layers import CompressedLayer
from xtc_ds.plan import PlanContext, Planned, Row

__all__ = ["Technique", "TrainingRun"]


@dataclass
class TrainingRun:
    """A model during training.

    layers: its compressed layers, in module order.
    loss_scale: returns the factor by which the backward passes currently multiply the loss.
    memory: technique name to what it remembers between two hooks.
    """

    model: nn.Module
    layers: tuple[CompressedLayer, ...]
    loss_scale: Callable[[], float]
    memory: dict[str, Any] = field(default_factory=dict)


class Technique:
    """Base class of all techniques.

    name: the key in the config. after, before: techniques whose ``plan`` and ``apply`` come earlier, or later, if both
    are used; names that are not registered are ignored. conflicts: techniques that cannot be used on the same model.
    uses_teacher: whether the technique reads the teacher, if there is one.
    empty_report: entries of the JSON plan if the technique has no rows. frozen_attributes: names of all attributes that
    ``WeightTransform.module_attributes`` may return.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    before: ClassVar[tuple[str, ...]] = ()
    conflicts: ClassVar[tuple[str, ...]] = ()
    uses_teacher: ClassVar[bool] = False
    empty_report: ClassVar[Mapping[str, Any]] = {}
    frozen_attributes: ClassVar[frozenset[str]] = frozenset()

    def section(self, config: CompressionConfig) -> Any:
        """The technique's section of the config; None or empty if the technique is off."""
        return config.section(self.name)

    def plan(self, context: PlanContext) -> Planned:
        """Rows, problems and warnings, without side effects. May raise PlanError if planning cannot continue."""
        raise NotImplementedError

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        """Problems that can be found only after every technique is planned; ``context.rows`` holds the rows of all.

        rows: the rows of this technique.
        """
        return []

    def apply(self, model: nn.Module, rows: Sequence[Any], teacher: nn.Module | None) -> None:
        """Rewrite ``model`` in place according to ``rows``. With ZeRO-3 all ranks have to call this."""
        raise NotImplementedError

    def changes_parameters(self, rows: Sequence[Any]) -> bool:
        """Whether ``apply`` adds, drops or replaces parameters, which an already existing engine would not notice."""
        return False

    def added_parameters(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter, nn.Parameter | None]]:
        """(name, parameter, the parameter whose optimizer group it joins, or None for the first group)."""
        return ()

    def start(self, run: TrainingRun) -> None:
        """Called once before the first step. With several ranks, all of them call this and all other hooks."""

    def before_step(self, run: TrainingRun) -> None:
        """Called after all backward passes of a step, before the optimizer changes the weights."""

    def after_step(self, run: TrainingRun, step: int) -> None:
        """Called after optimizer step ``step`` (counted from 1) was applied, before the schedule advances to it."""

    def skipped_step(self, run: TrainingRun) -> None:
        """Called if a step was skipped because of an overflow."""

    def before_save(self, run: TrainingRun) -> None:
        """Called before a checkpoint is written."""

    def after_load(self, run: TrainingRun) -> None:
        """Called after the tensors of a checkpoint are loaded."""

    def state_dict(self, run: TrainingRun) -> Mapping[str, Any]:
        """Plain data for the checkpoint, besides parameters and buffers, which are saved anyway."""
        return {}

    def load_state_dict(self, run: TrainingRun, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""

    def before_freeze(self, layers: Mapping[str, CompressedLayer]) -> None:
        """Called before a model is frozen or baked, to warn about what is not in its final state. layers: by name."""

    def training_only(self, name: str) -> bool:
        """Whether the submodule ``name`` (dotted, from the top of the model) is left out of a frozen model."""
        return False

    def calibrate(self, model: nn.Module, rows: Sequence[Any], batches: Iterable[Any]) -> None:
        """Optional calibration pass over unlabelled batches between ``apply`` and training, for a better start."""
