"""Planning a compression run, checking all that can be refused, and only then changing the model.

``initialize``, the old names of ``deepspeed.compression`` and the launcher all go through ``rehearse``, so that they
refuse the same configs with the same errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.engine.teacher import resolve_teacher
from xtc_ds.errors import EngineError
from xtc_ds.plan import CompressionPlan, find_layer_stack
from xtc_ds.rewrite import apply_plan, make_plan

if TYPE_CHECKING:
    from xtc_ds.distillation.distiller import Distiller

__all__ = ["Rehearsal", "refuse_pipeline", "rehearse"]


@dataclass(frozen=True)
class Rehearsal:
    """A compression that has passed all checks. ``teacher``: None where nothing needs one."""

    model: nn.Module
    plan: CompressionPlan
    teacher: nn.Module | None

    def carry_out(self) -> Distiller | None:
        """Compress the model in place and attach the distillation loss; the distiller, or None without distillation."""
        kd, teacher = self.plan.config.kd, self.teacher
        if kd is None:
            apply_plan(self.model, self.plan, teacher)
            return None
        from xtc_ds.distillation.distiller import Distiller
        from xtc_ds.engine.teacher_dtype import in_dtype

        assert teacher is not None
        layers, kept = _stack(self.model, self.plan.config)[1], _kept_layers(self.model, self.plan)
        apply_plan(self.model, self.plan, teacher)
        # Only now, so that the student starts from weights that are not rounded.
        converted = in_dtype(teacher, kd.teacher_dtype, device_type(self.model))
        teacher_layers = _stack(converted, self.plan.config)[1]
        distiller = Distiller(self.model, converted, kd, layers, teacher_layers, kept)
        distiller.attach()
        return distiller


def rehearse(model: nn.Module, block: CompressionConfig, teacher: nn.Module | str | None = None) -> Rehearsal:
    """Find the teacher, plan, and check everything that can be refused; ``model`` is not changed.

    model: may lie on the meta device, without weights. teacher: as in ``initialize``.

    Raises ConfigError, PlanError, TeacherError, DistillationError or EngineError.
    """
    refuse_pipeline(model)
    found = resolve_teacher(model, block, teacher)
    plan = make_plan(model, block, found)
    if block.kd is not None:
        assert found is not None
        _check_distillation(model, plan, found)
    return Rehearsal(model, plan, found)


def _check_distillation(model: nn.Module, plan: CompressionPlan, teacher: nn.Module) -> None:
    from xtc_ds.distillation.attention_tap import check_observable
    from xtc_ds.distillation.check import check_distillation
    from xtc_ds.distillation.settings import active_losses
    from xtc_ds.engine.teacher_dtype import check_dtype

    kd = plan.config.kd
    assert kd is not None
    teacher_layers, layers = (_stack(side, plan.config)[1] for side in (teacher, model))
    kept = _kept_layers(model, plan)
    depth = len(kept) if kept and len(layers) else len(layers)
    layer_map = check_distillation(model, teacher, kd, depth, len(teacher_layers), kept)
    check_dtype(teacher, kd.teacher_dtype, device_type(model))
    keys = tuple(loss.weight_key for loss in active_losses(kd) if loss.taps(layer_map).attention)
    if keys:
        check_observable((model, teacher), keys)


def _kept_layers(model: nn.Module, plan: CompressionPlan) -> tuple[int, ...] | None:
    """The teacher's layers that the layer reduction keeps of the stack that is distilled."""
    stack = _stack(model, plan.config)[0]
    # What another stack loses says nothing of this one.
    return plan.reduction.kept if plan.reduction and stack in (None, plan.reduction.stack) else None


def _stack(model: nn.Module, block: CompressionConfig) -> tuple[str | None, nn.ModuleList]:
    """Name and layers of the stack that distillation looks at; no layers where it looks at none."""
    from xtc_ds.distillation.check import needs_layers

    kd, reduction = block.kd, block.layer_reduction
    assert kd is not None
    if not needs_layers(kd):
        return None, nn.ModuleList()
    if kd.module_name_prefix is None and reduction is not None and reduction.module_name_prefix is not None:
        stack = find_layer_stack(model, reduction.module_name_prefix, reduction.path)
    else:
        stack = find_layer_stack(model, kd.module_name_prefix, kd.path)
    return stack.name, stack.layers


def device_type(model: nn.Module) -> str:
    """Where the engine will put the model; a model that is on a device already stays there."""
    from deepspeed.accelerator import get_accelerator

    there = next((p.device.type for p in model.parameters() if p.device.type not in ("cpu", "meta")), None)
    return there or str(get_accelerator().device_name())


def refuse_pipeline(model: nn.Module) -> None:
    """Raise EngineError for a model whose layers cannot be reached."""
    from deepspeed.runtime.pipe import PipelineModule

    if isinstance(model, PipelineModule):
        raise EngineError(
            "pipeline modules keep their layers outside the module tree, so they cannot be compressed; "
            "train the plain model with ZeRO instead"
        )
