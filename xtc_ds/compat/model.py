"""``init_compression`` and ``redundancy_clean``: the first and last call of old scripts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from torch import nn

from xtc_ds.compat.memory import recall, remember
from xtc_ds.compat.old_config import anything_enabled, block_of, has_other_block
from xtc_ds.compat.parallel import refuse_tensor_parallel
from xtc_ds.compat.student import check_same_tensors
from xtc_ds.compression_state import InitCompression
from xtc_ds.config import CompressionConfig
from xtc_ds.engine.rehearsal import refuse_pipeline, rehearse
from xtc_ds.engine.wrapper import wrap_engine
from xtc_ds.errors import EngineError, ExportError, PlanError
from xtc_ds.freezing.freeze import unwrap
from xtc_ds.layers import compressed_layers
from xtc_ds.plan import CompressionPlan
from xtc_ds.techniques.registry import teacher_is_used, techniques

if TYPE_CHECKING:
    from xtc_ds.distillation.distiller import Distiller

__all__ = ["init_compression", "redundancy_clean"]

logger = logging.getLogger(__name__)


def init_compression(model: Any, deepspeed_config: Any, teacher_model: Any = None, mpu: Any = None) -> Any:
    """Compress ``model`` in place as configured and return the same object.

    model: a module, which may be wrapped in a DeepSpeed engine, a data-parallel wrapper or ``torch.compile``.
    deepspeed_config: dict (not changed) or path (JSON, HJSON) of a config with a ``compression_training`` block.
    teacher_model: the model whose layers layer reduction copies. With it, ``model`` may have the student's depth
        already, or the teacher's and is then cut. By default a full-depth model is its own teacher.
    mpu: must not use tensor-parallel layers.

    Optimizers may be built before or after this call; the engine is built afterwards. Raises ConfigError, PlanError or
    EngineError, with all problems, before the model is changed.
    """
    module = unwrap(model)
    refuse_pipeline(module)
    refuse_tensor_parallel(module, mpu)
    block = block_of(deepspeed_config)
    if block is None:
        logger.warning("init_compression: the config has no compression_training block; the model stays as it is")
        block = CompressionConfig()
    if _is_done(module, block):
        return model
    # Scripts with their own distillation code pass a teacher that is not needed here.
    rehearsal = rehearse(module, block, teacher_model if teacher_is_used(block) else None)
    plan = rehearsal.plan
    if plan.reduction is not None and rehearsal.teacher is not None:
        check_same_tensors(module, plan.reduction, rehearsal.teacher)
    _refuse_late(model, plan)
    distiller = rehearsal.carry_out()
    remember(module, InitCompression(plan, distiller))
    _join_engine(model, plan, distiller)
    return model


def redundancy_clean(model: Any, deepspeed_config: Any, mpu: Any = None) -> Any:
    """Write the effective compressed weights into plain dense layers, in place; returns ``model``.

    Quantized weights get their dequantized final values under the same keys; pruned parts with ``related_modules`` are
    cut off. A second call is a no-op. For an engine with ZeRO-3 all ranks have to call this.

    Raises ExportError if the config enables compression but the model never went through ``init_compression``.
    """
    module = unwrap(model)
    refuse_tensor_parallel(module, mpu)
    call = recall(module)
    if call is None:
        block = block_of(deepspeed_config)
        if not any(True for _ in compressed_layers(module)):
            if block is None or not anything_enabled(block):
                return model
            raise ExportError(
                "redundancy_clean: the model was never compressed; call init_compression (or xtc_ds.initialize) before "
                "training, or before loading a checkpoint of a compressed model"
            )
    elif has_other_block(deepspeed_config, call.plan.config):
        logger.warning("redundancy_clean: the model was compressed by another block, and that one counts")
    from xtc_ds.freezing.bake import bake

    bake(model)
    return model


def _is_done(module: nn.Module, block: CompressionConfig) -> bool:
    """Whether the model was already compressed with this very block. Raises PlanError if it was with another block."""
    call = recall(module)
    if call is None or not any(True for _ in compressed_layers(module)):
        return False
    if dict(call.plan.config.raw) == dict(block.raw):
        logger.warning("init_compression: the model went through it before, with the same block; it stays as it is")
        return True
    raise PlanError("init_compression: the model is compressed by another block already; put all techniques into one")


def _refuse_late(model: Any, plan: CompressionPlan) -> None:
    """Raise EngineError if ``model`` is an engine and the plan adds or drops parameters, which the engine holds."""
    if not _is_engine(model):
        return
    if any(technique.changes_parameters(plan.rows.get(technique.name, ())) for technique in techniques()):
        raise EngineError(
            "init_compression: the engine exists already, and this block adds or drops parameters (layer_reduction, "
            "kd, learned masks); call init_compression before deepspeed.initialize"
        )


def _join_engine(model: Any, plan: CompressionPlan, distiller: Distiller | None) -> None:
    if _is_engine(model):
        wrap_engine(model, plan, distiller)


def _is_engine(model: Any) -> bool:
    from deepspeed import DeepSpeedEngine

    return isinstance(model, DeepSpeedEngine)
