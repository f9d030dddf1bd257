"""Turn a trained model into the frozen model to ship."""

from __future__ import annotations

from typing import Any

from torch import nn

from xtc_ds.compression_state import state_of
from xtc_ds.errors import ExportError
from xtc_ds.freezing.freezer import FLOATS, Freezer
from xtc_ds.layers import compressed_layers
from xtc_ds.runtime.packed import PackedLayer
from xtc_ds.techniques.registry import techniques

__all__ = ["freeze_model", "is_frozen", "planned_dtype", "unwrap", "warn_before_freeze"]


def freeze_model(model: Any, float_dtype: str | None = None) -> nn.Module:
    """Like :func:`xtc_ds.freeze`, but without the ``quantization_config`` and the methods that save the model."""
    module = unwrap(model)
    dtype_name = float_dtype or planned_dtype(module)
    if dtype_name not in FLOATS:
        raise ExportError(f"float_dtype: found {dtype_name!r}; allowed: {', '.join(FLOATS)}")
    if is_frozen(module):
        if dtype_name != planned_dtype(module):
            raise ExportError(
                f"the model is frozen for {planned_dtype(module)}; freeze the trained model again for {dtype_name}"
            )
        return module
    freezer = Freezer(module, dtype_name)
    warn_before_freeze(module)
    return freezer.run().eval()


def warn_before_freeze(model: nn.Module) -> None:
    """Let each technique warn about what has not reached its final state. With ZeRO-3 all ranks have to call this."""
    layers = dict(compressed_layers(model))
    for technique in techniques():
        technique.before_freeze(layers)


def is_frozen(model: nn.Module) -> bool:
    """Whether the model was made by ``freeze`` or loaded from a packed checkpoint."""
    return state_of(model).frozen or any(isinstance(module, PackedLayer) for module in model.modules())


def unwrap(model: Any) -> nn.Module:
    """The module inside a DeepSpeed engine, a data-parallel wrapper or a ``torch.compile`` wrapper."""
    from deepspeed import DeepSpeedEngine

    while isinstance(model, (DeepSpeedEngine, nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    return getattr(model, "_orig_mod", model)  # type: ignore[no-any-return]


def planned_dtype(model: nn.Module) -> str:
    """The name of the dtype in which the model's floats are stored."""
    return state_of(model).float_dtype
