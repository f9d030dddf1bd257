"""``initialize``: DeepSpeed's, for configs with a ``compression_training`` block."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from torch import nn

from xtc_ds.config import CompressionConfig, load_config
from xtc_ds.engine.optimizers import dropped_parameters, follow_optimizer, follow_parameters
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
    training_data: Any = None,
    lr_scheduler: Any = None,
    *,
    config: Any = None,
    config_params: Any = None,
    teacher: nn.Module | str | None = None,
    **deepspeed_arguments: Any,
) -> tuple[Any, Any, Any, Any]:
    """Compress ``model`` as the config says and build the DeepSpeed engine that trains it.

    All but ``teacher`` are the arguments of ``deepspeed.initialize``; those after the scheduler go by name. An
        optimizer and a scheduler made before lose what belongs to dropped layers. The config (dict, JSON or
        HJSON file) holds a ``compression_training`` block, which DeepSpeed never sees; the dict is not changed.
    teacher: the model to distil from, a folder, a hub id, or "self"; takes precedence over ``kd.teacher``.

    Returns (engine, optimizer, dataloader, lr_scheduler). The engine's forward adds the distillation loss,
    ``step`` advances the schedule, checkpoints carry it; ``engine.xtc`` gives plan, schedule and loss parts.

    Raises ConfigError, PlanError, TeacherError or EngineError before the model is changed.
    """
    import deepspeed

    if model is None:
        raise EngineError("initialize() needs a model")
    _refuse_pipeline(model)
    ds_config, block = load_config(_one_config(args, config, config_params))
    _let_deepspeed_check(ds_config, deepspeed_arguments)
    teacher_model = resolve_teacher(model, block, teacher)
    plan = make_plan(model, block, teacher_model)
    parameters = list(model.parameters())
    distiller = _rewrite(model, plan, block, teacher_model)
    dropped = dropped_parameters(parameters, model)
    engine, *rest = deepspeed.initialize(
        args=_without_config(args),
        model=model,
        optimizer=follow_optimizer(optimizer, model, dropped, lr_scheduler),
        model_parameters=follow_parameters(model_parameters, model, dropped),
        training_data=training_data,
        lr_scheduler=lr_scheduler,
        config=ds_config,
        **deepspeed_arguments,
    )
    if distiller is not None:
        distiller.teacher.to(engine.device)
    return (wrap_engine(engine, plan, distiller), *rest)


def _let_deepspeed_check(ds_config: dict[str, Any], deepspeed_arguments: dict[str, Any]) -> None:
    """Raise ConfigError for what DeepSpeed would refuse only after the model is rewritten.

    Batch sizes can be judged only once the number of ranks is known: before a process group exists,
    DeepSpeed's own error has to do.
    """
    import deepspeed
    from deepspeed.runtime.config import DeepSpeedConfig

    if not deepspeed.comm.is_initialized():
        return
    known = {key: deepspeed_arguments[key] for key in ("mpu",) if key in deepspeed_arguments}
    try:
        DeepSpeedConfig(copy.deepcopy(ds_config), **known)
    except Exception as error:  # assertions, pydantic's and DeepSpeed's own errors
        raise ConfigError(f"DeepSpeed refuses the config: {error}") from error


def _rewrite(
    model: nn.Module, plan: CompressionPlan, block: CompressionConfig, teacher: nn.Module | None
) -> Distiller | None:
    if block.kd is None:
        apply_plan(model, plan, teacher)
        return None
    from xtc_ds.distillation import Distiller, check_distillation

    assert teacher is not None
    teacher_layers, layers = (_stack(side, block) for side in (teacher, model))
    kept = plan.reduction.kept if plan.reduction else None
    depth = len(kept) if kept and len(layers) else len(layers)
    check_distillation(model, teacher, block.kd, depth, len(teacher_layers), kept)
    if block.kd.attention_weight > 0:
        _try_tap(model, teacher)
    apply_plan(model, plan, teacher)
    distiller = Distiller(model, teacher, block.kd, layers, teacher_layers, kept)
    distiller.attach()
    return distiller


def _stack(model: nn.Module, block: CompressionConfig) -> nn.ModuleList:
    kd, reduction = block.kd, block.layer_reduction
    assert kd is not None
    if not (kd.hidden_weight or kd.attention_weight or kd.layer_map):
        return nn.ModuleList()  # logits alone need no layers
    return find_layer_stack(model, reduction.module_name_prefix if reduction else None, kd.path).layers


def _try_tap(*models: nn.Module) -> None:
    """Raise DistillationError while nothing is changed yet if the attention of a model cannot be observed."""
    from xtc_ds.distillation import disable_attention_tap, enable_attention_tap

    try:
        for model in models:
            enable_attention_tap(model)
    finally:
        for model in models:
            disable_attention_tap(model)


def _one_config(args: Any, config: Any, config_params: Any) -> Any:
    given = {
        "config": config,
        "config_params": config_params,
        "args.deepspeed_config": getattr(args, "deepspeed_config", None),
    }
    named = [name for name, value in given.items() if value is not None]
    if not named:
        raise ConfigError("no DeepSpeed config; pass config=... or args.deepspeed_config")
    if len(named) > 1:
        raise ConfigError(f"more than one DeepSpeed config: {' and '.join(named)}; pass one of them")
    return given[named[0]]


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
    args = copy.copy(args)
    args.deepspeed_config = None
    return args
