"""What happens to a model before DeepSpeed gets it: the rewrite, and the distillation loss on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import EngineError
from xtc_ds.plan import find_layer_stack
from xtc_ds.rewrite import apply_plan

if TYPE_CHECKING:
    from xtc_ds.distillation import Distiller
    from xtc_ds.plan import CompressionPlan

__all__ = ["refuse_pipeline", "rewrite"]


def rewrite(
    model: nn.Module, plan: CompressionPlan, block: CompressionConfig, teacher: nn.Module | None
) -> Distiller | None:
    """Carry out ``plan`` on ``model`` and, where the block distils, attach the loss: the distiller, else None.

    teacher: what ``resolve_teacher`` gave. Raises TeacherError or DistillationError before the model is changed.
    """
    if block.kd is None:
        apply_plan(model, plan, teacher)
        return None
    from xtc_ds.distillation import Distiller, check_distillation
    from xtc_ds.engine.teacher_dtype import check_dtype, in_dtype

    assert teacher is not None
    (_, teacher_layers), (stack, layers) = (_stack(side, block) for side in (teacher, model))
    # What another stack loses says nothing of this one.
    reduction = plan.reduction if plan.reduction and stack in (None, plan.reduction.stack) else None
    kept = reduction.kept if reduction else None
    depth = len(kept) if kept and len(layers) else len(layers)
    check_distillation(model, teacher, block.kd, depth, len(teacher_layers), kept)
    device = _device_type(model)
    check_dtype(teacher, block.kd.teacher_dtype, device)
    if block.kd.attention_weight > 0:
        _try_tap(model, teacher)
    apply_plan(model, plan, teacher)
    # Only now: what the student starts from is not rounded.
    lecturer = in_dtype(teacher, block.kd.teacher_dtype, device)
    if lecturer is not teacher:
        teacher, teacher_layers = lecturer, _stack(lecturer, block)[1]
    distiller = Distiller(model, teacher, block.kd, layers, teacher_layers, kept)
    distiller.attach()
    return distiller


def _stack(model: nn.Module, block: CompressionConfig) -> tuple[str | None, nn.ModuleList]:
    """Name and layers of the stack that distillation looks at; no layers where logits are all it looks at."""
    kd, reduction = block.kd, block.layer_reduction
    assert kd is not None
    if not (kd.hidden_weight or kd.attention_weight or kd.layer_map):
        return None, nn.ModuleList()
    if kd.module_name_prefix is None and reduction is not None and reduction.module_name_prefix is not None:
        stack = find_layer_stack(model, reduction.module_name_prefix, reduction.path)
    else:
        stack = find_layer_stack(model, kd.module_name_prefix, kd.path)
    return stack.name, stack.layers


def _device_type(model: nn.Module) -> str:
    """Where the engine will put the model; a model that is on a device already stays there."""
    from deepspeed.accelerator import get_accelerator

    there = next((p.device.type for p in model.parameters() if p.device.type not in ("cpu", "meta")), None)
    return there or str(get_accelerator().device_name())


def _try_tap(*models: nn.Module) -> None:
    """Raise DistillationError while nothing is changed yet if the attention of a model cannot be observed."""
    from xtc_ds.distillation import disable_attention_tap, enable_attention_tap

    try:
        for model in models:
            enable_attention_tap(model)
    finally:
        for model in models:
            disable_attention_tap(model)


def refuse_pipeline(model: nn.Module) -> None:
    """Raise EngineError for a model whose layers cannot be reached."""
    from deepspeed.runtime.pipe import PipelineModule

    if isinstance(model, PipelineModule):
        raise EngineError(
            "pipeline modules keep their layers outside the module tree, so they cannot be compressed; "
            "train the plain model with ZeRO instead"
        )
