"""``freeze``: turn a trained model into the model to ship, which can save itself in the packed format."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from xtc_ds.checkpoint.quantization_config import describe_packed
from xtc_ds.checkpoint.saving import make_savable
from xtc_ds.freezing.freeze import freeze_model, planned_dtype, unwrap

__all__ = ["freeze"]


def freeze(model: Any, float_dtype: str | None = None) -> nn.Module:
    """The model as it will be shipped: packed codes, schedules at their end, floats rounded to the stored dtype.

    model: a compressed model, or the engine that trains it (any ZeRO stage; all ranks have to call this). It is not
        changed: the result is a new model on the CPU in evaluation mode, and training can continue.
    float_dtype: "float32", "float16" or "bfloat16": the dtype in which scales and the remaining float tensors are
        stored; by default that of the config's ``export`` block.

    A frozen model is returned unchanged. Raises ExportError if a value does not fit ``float_dtype``, if a static
    activation range has never seen an input, and for a frozen model that is stored in another ``float_dtype``. What
    pruning with related modules removes is cut away. Logs a warning if a snip_momentum mask is not final yet.
    """
    frozen = freeze_model(model, float_dtype)
    if frozen is unwrap(model):
        return frozen
    # Copy the config, because the training model keeps using its own.
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
