"""Plan a compression run and check everything that can be refused, before the model is changed.

``initialize``, the old names of ``deepspeed.compression`` and the launcher all call ``rehearse``, so that they refuse
the same configs with the same errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from xtc_ds.config import CompressionConfig, load_config
from xtc_ds.engine.teacher import resolve_teacher
from xtc_ds.errors import EngineError
from xtc_ds.plan import CompressionPlan
from xtc_ds.rewrite import apply_plan, make_plan
from xtc_ds.techniques.kd.attach import attach_distillation
from xtc_ds.techniques.kd.stacks import student_stack
from xtc_ds.techniques.kd.teacher_dtype import check_dtype

if TYPE_CHECKING:
    from xtc_ds.distillation.distiller import Distiller

__all__ = ["Rehearsal", "refuse_pipeline", "rehearse"]


@dataclass(frozen=True)
class Rehearsal:
    """A compression that has passed all checks.

    plan: what will be done to ``model``. teacher: None if nothing needs one.
    """

    model: nn.Module
    plan: CompressionPlan
    teacher: nn.Module | None

    def carry_out(self) -> Distiller | None:
        """Compress the model in place and attach the distillation loss; returns the distiller, or None without kd."""
        config = self.plan.config
        if config.kd is None:
            apply_plan(self.model, self.plan, self.teacher)
            return None
        assert self.teacher is not None
        student = student_stack(self.model, config, self.plan.all_rows())
        apply_plan(self.model, self.plan, self.teacher)
        return attach_distillation(self.model, self.teacher, config, student, device_type(self.model))


def rehearse(
    model: nn.Module,
    config: CompressionConfig | Mapping[str, Any] | str | os.PathLike[str],
    teacher: nn.Module | str | None = None,
) -> Rehearsal:
    """Load the teacher, make the plan and check everything that can be refused; ``model`` is not changed.

    model: may be on the meta device, without weights.
    config: a DeepSpeed config with a ``compression_training`` block (dict, JSON or HJSON file), or the parsed block.
    teacher: as in ``initialize``.

    Raises ConfigError, PlanError, TeacherError, DistillationError or EngineError, as ``initialize`` does.
    """
    block = config if isinstance(config, CompressionConfig) else load_config(config)[1]
    refuse_pipeline(model)
    found = resolve_teacher(model, block, teacher)
    plan = make_plan(model, block, found)
    if block.kd is not None:
        assert found is not None
        check_dtype(found, block.kd.teacher_dtype, device_type(model))
    return Rehearsal(model, plan, found)


def device_type(model: nn.Module) -> str:
    """The type of the device to which the engine will move the model; a model already on an accelerator stays there."""
    from deepspeed.accelerator import get_accelerator

    there = next((p.device.type for p in model.parameters() if p.device.type not in ("cpu", "meta")), None)
    return there or str(get_accelerator().device_name())


def refuse_pipeline(model: nn.Module) -> None:
    """Raise EngineError for a DeepSpeed pipeline module, whose layers cannot be reached."""
    from deepspeed.runtime.pipe import PipelineModule

    if isinstance(model, PipelineModule):
        raise EngineError(
            "pipeline modules keep their layers outside the module tree, so they cannot be compressed; "
            "train the plain model with ZeRO instead"
        )
