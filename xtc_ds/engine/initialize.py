"""``initialize``: DeepSpeed's, for configs with a ``compression_training`` block."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from torch import nn

from xtc_ds.config import CompressionConfig, load_config
from xtc_ds.engine.optimizers import follow_optimizer, follow_parameters
from xtc_ds.engine.teacher import resolve_teacher
from xtc_ds.engine.wrapper import wrap_engine
from xtc_ds.errors import ConfigError, EngineError
from xtc_ds.plan import find_layer_stack, make_plan
from xtc_ds.rewrite import apply_plan

if TYPE_CHECKING:
    from xtc_ds.distillation import Distiller
    from xtc_ds.plan import CompressionPlan

__all__ = ["initialize"]

logger = logging.getLogger(__name__)


def initialize(
    args: Any = None,
    model: nn.Module | None = None,
    optimizer: Any = None,
    model_parameters: Any = None,
    *,
    config: Any = None,
    config_params: Any = None,
    teacher: nn.Module | str | None = None,
    **deepspeed_arguments: Any,
) -> tuple[Any, Any, Any, Any]:
    """Compress ``model`` as the config says and build the DeepSpeed engine that trains it.

    args, model, optimizer, model_parameters, config, config_params and ``deepspeed_arguments`` are those of
        ``deepspeed.initialize``. The config (dict, JSON or HJSON file) holds a ``compression_training`` block,
        which DeepSpeed never sees; the dict is not changed.
    teacher: the model to distil from, a folder, a hub id, or "self"; takes precedence over ``kd.teacher``.

    Returns (engine, optimizer, dataloader, lr_scheduler). The engine's forward adds the distillation loss,
    ``step`` advances the schedule, checkpoints carry it; ``engine.xtc`` gives plan, schedule and loss parts.

    Raises ConfigError, PlanError, TeacherError or EngineError before the model is changed.
    """
    import deepspeed

    if model is None:
        raise EngineError("initialize() needs a model")
    _refuse_pipeline(model)
    source = config if config is not None else config_params
    if source is None:
        source = getattr(args, "deepspeed_config", None)
    if source is None:
        raise ConfigError("no DeepSpeed config; pass config=... or args.deepspeed_config")
    ds_config, block = load_config(source)
    teacher_model = resolve_teacher(model, block, teacher)
    plan = make_plan(model, block, teacher_model)
    distiller = _rewrite(model, plan, block, teacher_model)
    engine, *rest = deepspeed.initialize(
        args=_without_config(args),
        model=model,
        optimizer=follow_optimizer(optimizer, model),
        model_parameters=follow_parameters(model_parameters, model),
        config=ds_config,
        **deepspeed_arguments,
    )
    if teacher_model is not None and not any(hasattr(p, "ds_id") for p in teacher_model.parameters()):
        teacher_model.to(engine.device)
    return (wrap_engine(engine, plan, distiller), *rest)


def _rewrite(
    model: nn.Module, plan: CompressionPlan, block: CompressionConfig, teacher: nn.Module | None
) -> Distiller | None:
    if block.kd is None:
        apply_plan(model, plan, teacher)
        return None
    from xtc_ds.distillation import Distiller, check_distillation

    assert teacher is not None
    prefix = block.layer_reduction.module_name_prefix if block.layer_reduction else None
    teacher_layers, layers = (find_layer_stack(side, prefix, block.kd.path).layers for side in (teacher, model))
    kept = plan.reduction.kept if plan.reduction else None
    depth = len(kept) if kept else len(layers)
    check_distillation(model, teacher, block.kd, depth, len(teacher_layers), kept)
    apply_plan(model, plan, teacher)
    distiller = Distiller(model, teacher, block.kd, layers, teacher_layers, kept)
    distiller.attach()
    return distiller


def _refuse_pipeline(model: nn.Module) -> None:
    from deepspeed.runtime.pipe import PipelineModule

    if isinstance(model, PipelineModule):
        raise EngineError(
            "pipeline modules keep their layers outside the module tree, so they cannot be compressed; "
            "train the plain model with ZeRO instead"
        )


def _without_config(args: Any) -> Any:
    # DeepSpeed refuses a config in both places; ours is the one without the block.
    if args is None or getattr(args, "deepspeed_config", None) is None:
        return args
    import copy

    args = copy.copy(args)
    args.deepspeed_config = None
    return args
