"""``initialize``: like ``deepspeed.initialize``, for configs with a ``compression_training`` block."""

from __future__ import annotations

import copy
import logging
from typing import Any

from torch import nn

from xtc_ds.config import load_config
from xtc_ds.engine.arguments import one_config, without_config
from xtc_ds.engine.deepspeed_faults import refuse_faults
from xtc_ds.engine.optimizers import dropped_parameters, follow_optimizer, follow_parameters
from xtc_ds.engine.rehearsal import rehearse
from xtc_ds.engine.wrapper import wrap_engine
from xtc_ds.errors import ConfigError, EngineError

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
    """Compress ``model`` as configured and build the DeepSpeed engine that trains it.

    All arguments but ``teacher`` are those of ``deepspeed.initialize``; those after ``lr_scheduler`` are keyword-only.
        Parameters of dropped layers are removed from a given optimizer and scheduler. The config (dict, JSON or HJSON
        file) holds a ``compression_training`` block, which is not passed on to DeepSpeed; the dict is not changed. In
        a dict, the block may also be a result of ``load_config`` or ``parse_block``, which is not validated again.
    teacher: the model to distil from, a folder, a hub id, or "self"; overrides ``kd.teacher``.

    Returns (engine, optimizer, dataloader, lr_scheduler). The engine's forward adds the distillation loss, its ``step``
    advances the schedule, and its checkpoints contain the schedule; ``engine.xtc`` holds plan, schedule and loss parts.

    Raises ConfigError, PlanError, TeacherError or EngineError before the model is changed.
    """
    import deepspeed

    if model is None:
        raise EngineError("initialize() needs a model")
    ds_config, block = load_config(one_config(args, config, config_params))
    refuse_faults(ds_config)
    _let_deepspeed_check(ds_config, deepspeed_arguments)
    rehearsal = rehearse(model, block, teacher)
    parameters = list(model.parameters())
    distiller = rehearsal.carry_out()
    dropped = dropped_parameters(parameters, model)
    engine, *rest = deepspeed.initialize(
        args=without_config(args),
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
    return (wrap_engine(engine, rehearsal.plan, distiller), *rest)


def _let_deepspeed_check(ds_config: dict[str, Any], deepspeed_arguments: dict[str, Any]) -> None:
    """Raise ConfigError for a config that DeepSpeed would refuse only after the model has been changed.

    Batch sizes can be checked only if the number of ranks is known. Therefore this is a no-op before a process group
    exists; DeepSpeed then raises its own error later.
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
