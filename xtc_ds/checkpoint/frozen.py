"""``freeze``: a trained model as it will be shipped, which knows how to write itself."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from xtc_ds.checkpoint.quantization_config import describe_packed
from xtc_ds.checkpoint.saving import make_savable
from xtc_ds.freezing.freeze import freeze_model, planned_dtype, unwrap

__all__ = ["freeze"]


def freeze(model: Any, float_dtype: str | None = None) -> nn.Module:
    """The model as it will be shipped: packed codes, schedules at their end, floats rounded as stored.

    model: a compressed model, or the engine that trains it (any ZeRO stage; then a call for all ranks). It is
        not touched: the result is a new model on the CPU in evaluation mode, and training can go on.
    float_dtype: "float32", "float16" or "bfloat16", how scales and leftover floats are stored; by default
        what the config's ``export`` block says.

    A frozen model is returned as it is. Raises ExportError where a value does not fit ``float_dtype``, where a
    static activation range has never seen an input, and for a frozen model that stores another ``float_dtype``.
    What pruning with related modules takes away is gone from the result. Logs a warning where a mask of snip_momentum
    is not final yet.
    """
    frozen = freeze_model(model, float_dtype)
    if frozen is unwrap(model):
        return frozen
    # A copy of the config: the training model keeps its own.
    config = getattr(frozen, "config", None)
    if config is not None and hasattr(config, "to_dict"):
        _replace_config(frozen, config, copy.deepcopy(config))
        frozen.config.quantization_config = describe_packed(frozen, planned_dtype(frozen))  # type: ignore[union-attr]
    make_savable(frozen)
    return frozen


def _replace_config(model: nn.Module, old: Any, new: Any) -> None:
    for module in model.modules():
        if getattr(module, "config", None) is old:
            module.config = new
