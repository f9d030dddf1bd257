"""Check the old ``mpu`` argument for tensor-parallel layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from xtc_ds.errors import PlanError, Problem

__all__ = ["refuse_tensor_parallel"]

_CLASSES = ("ColumnParallelLinear", "RowParallelLinear")


def refuse_tensor_parallel(model: nn.Module, mpu: Any) -> None:
    """Raise PlanError if ``model`` holds layers of ``mpu`` that are split over ranks; otherwise ``mpu`` is ignored.

    If each rank holds a part of a layer, no rank has whole scale groups, rows and heads.
    """
    if mpu is None:
        return
    kinds = tuple(kind for name in _CLASSES if isinstance(kind := getattr(mpu, name, None), type))
    problems = [
        Problem(
            name,
            f"is a {type(module).__name__} of the mpu, split over ranks, which cannot be compressed; compress the "
            "model without tensor parallelism (ZeRO shards it instead) and pass mpu=None",
        )
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    if problems:
        raise PlanError(problems)
