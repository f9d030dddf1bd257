"""``freeze``: from a trained model to the one that is shipped."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from xtc_ds.errors import ExportError
from xtc_ds.export.density import warn_of_density
from xtc_ds.export.freezer import FLOATS, Freezer
from xtc_ds.export.packed import PackedLayer
from xtc_ds.export.quantization_config import describe_packed

__all__ = ["freeze", "is_frozen"]


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
    module = unwrap(model)
    dtype_name = float_dtype or _planned_dtype(module)
    if dtype_name not in FLOATS:
        raise ExportError(f"float_dtype: found {dtype_name!r}; allowed: {', '.join(FLOATS)}")
    if is_frozen(module):
        if dtype_name != _planned_dtype(module):
            raise ExportError(
                f"the model is frozen for {_planned_dtype(module)}; freeze the trained model again for {dtype_name}"
            )
        return module
    freezer = Freezer(module, dtype_name)
    warn_of_density(freezer.parts)
    frozen = freezer.run()
    # A copy of the config: the training model keeps its own.
    config = getattr(module, "config", None)
    if config is not None and hasattr(config, "to_dict"):
        _replace_config(frozen, config, copy.deepcopy(config))
        frozen.config.quantization_config = describe_packed(frozen, dtype_name)  # type: ignore[union-attr]
    return frozen.eval()


def is_frozen(model: nn.Module) -> bool:
    """Whether the model is one that ``freeze`` made, or loaded from its file."""
    return getattr(model, "xtc_frozen", False) or any(isinstance(module, PackedLayer) for module in model.modules())


def unwrap(model: Any) -> nn.Module:
    """The model itself, out of a DeepSpeed engine, a data-parallel wrapper or ``torch.compile``."""
    from deepspeed import DeepSpeedEngine

    while isinstance(model, (DeepSpeedEngine, nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    return getattr(model, "_orig_mod", model)  # type: ignore[no-any-return]


def _planned_dtype(model: nn.Module) -> str:
    return getattr(model, "xtc_float_dtype", "float32")


def _replace_config(model: nn.Module, old: Any, new: Any) -> None:
    for module in model.modules():
        if getattr(module, "config", None) is old:
            module.config = new
