"""What a technique is: one way of compressing a model, from the config to the packed file.

A technique is a package: ``config.py`` (its typed piece of the block; imports no torch) and ``technique.py``, which
derives a class from ``Technique`` and ends with ``register_technique(TheTechnique())``. ``xtc_ds.extensions`` finds the
packages: the built-in ones by name, others by an entry point. A program may also call ``register_technique`` itself.

The mechanism asks the registered techniques, in order, at each stage of a model's life:

1. ``plan``, then ``check`` once all techniques are planned: pure functions from the model and the config to rows
   (subclasses of ``xtc_ds.plan.rows.Row``), problems and warnings.
2. ``apply`` rewrites the model in place; nothing is refused any more.
3. ``added_parameters`` puts new parameters into optimizers; while training, the hooks ``start``, ``before_step``,
   ``after_step``, ``skipped_step``, ``before_save`` and ``after_load`` run under any engine, and ``state_dict`` and
   ``load_state_dict`` keep what is not a tensor of the model in the checkpoint.
4. ``training_only`` names submodules that a frozen model does not have.

Every method but ``plan`` and ``apply`` does nothing unless it is overridden. A technique holds no state of a model or a
run: one object serves all of them.
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
    """A model while it is trained.

    layers: its compressed layers, in module order.
    loss_scale: gives the factor by which the backward passes multiply the loss now.
    memory: what techniques remember between two hooks, by technique name.
    """

    model: nn.Module
    layers: tuple[CompressedLayer, ...]
    loss_scale: Callable[[], float]
    memory: dict[str, Any] = field(default_factory=dict)


class Technique:
    """Base class of all techniques.

    name: the key in the config. after, before: techniques whose ``plan`` and ``apply`` come earlier, or later, where
    both are used; names that are not registered are ignored. conflicts: techniques that cannot be used on the same
    model.
    uses_teacher: whether it looks at a teacher, if there is one.
    empty_report: what the plan as JSON says where the technique has no rows. frozen_attributes: names of all attributes
    that ``WeightTransform.module_attributes`` may give.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    before: ClassVar[tuple[str, ...]] = ()
    conflicts: ClassVar[tuple[str, ...]] = ()
    uses_teacher: ClassVar[bool] = False
    empty_report: ClassVar[Mapping[str, Any]] = {}
    frozen_attributes: ClassVar[frozenset[str]] = frozenset()

    def section(self, config: CompressionConfig) -> Any:
        """The technique's piece of the config; None or empty where it is off."""
        return config.section(self.name)

    def plan(self, context: PlanContext) -> Planned:
        """Rows, problems and warnings; touches nothing. May raise PlanError where nothing more can be said."""
        raise NotImplementedError

    def check(self, rows: Sequence[Row], context: PlanContext) -> list[Problem]:
        """Problems that show only once every technique is planned; ``context.rows`` holds the rows of all.

        rows: those of this technique.
        """
        return []

    def apply(self, model: nn.Module, rows: Sequence[Any], teacher: nn.Module | None) -> None:
        """Rewrite ``model`` in place as ``rows`` say. With ZeRO-3 a call for all ranks."""
        raise NotImplementedError

    def changes_parameters(self, rows: Sequence[Any]) -> bool:
        """Whether ``apply`` adds, drops or replaces parameters, which an engine that exists already would not see."""
        return False

    def added_parameters(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter, nn.Parameter | None]]:
        """(name, parameter, the parameter in whose optimizer group it belongs, None for the first group)."""
        return ()

    def start(self, run: TrainingRun) -> None:
        """Called once before the first step. With several ranks a call for all of them, as all hooks are."""

    def before_step(self, run: TrainingRun) -> None:
        """Called when all backward passes of a step are done, before the optimizer changes the weights."""

    def after_step(self, run: TrainingRun, step: int) -> None:
        """Called after optimizer step ``step`` (counted from 1) was applied, before the schedule advances to it."""

    def skipped_step(self, run: TrainingRun) -> None:
        """Called where a step was not applied because of an overflow."""

    def before_save(self, run: TrainingRun) -> None:
        """Called before a checkpoint is written."""

    def after_load(self, run: TrainingRun) -> None:
        """Called when the tensors of a checkpoint are loaded."""

    def state_dict(self, run: TrainingRun) -> Mapping[str, Any]:
        """Plain data for the checkpoint; what is in parameters and buffers is there already."""
        return {}

    def load_state_dict(self, run: TrainingRun, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""

    def before_freeze(self, layers: Mapping[str, CompressedLayer]) -> None:
        """Called before a model is frozen or baked, to warn of what is not at its end. layers: by name."""

    def training_only(self, name: str) -> bool:
        """Whether the submodule ``name`` (dotted, from the top of the model) is left out of a frozen model."""
        return False

    def calibrate(self, model: nn.Module, rows: Sequence[Any], batches: Iterable[Any]) -> None:
        """Optional pass over unlabelled batches between ``apply`` and the training, for a better start."""
