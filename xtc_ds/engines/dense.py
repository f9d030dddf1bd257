"""The container "dense": decoded weights as floats in an ordinary transformers checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from xtc_ds.engines.base import Written, refuse
from xtc_ds.engines.transformers_layout import TransformersLayout, unquantized_inputs
from xtc_ds.errors import ExportError
from xtc_ds.runtime.packed import PackedLayer

__all__ = ["write_dense"]

_DTYPES = ("float32", "float16", "bfloat16")


def write_dense(frozen: nn.Module, folder: Path, float_dtype: str = "float32") -> Written:
    """Write ``model.safetensors`` and ``config.json``, which transformers loads without ``xtc_ds``.

    float_dtype: dtype of the weights. Raises ExportError if it cannot represent the decoded weights exactly.
    """
    if float_dtype not in _DTYPES:
        raise ExportError(f"dense: float_dtype: found {float_dtype!r}; allowed: {', '.join(_DTYPES)}")
    layout, dtype = TransformersLayout(frozen, "dense"), getattr(torch, float_dtype)

    def decoded(name: str, layer: PackedLayer) -> dict[str, Tensor]:
        weight = layout.dense_weight(name, layer)
        if not torch.equal(weight.to(dtype).float(), weight):
            raise refuse("dense", name, f"{float_dtype} does not hold its weights exactly", "use float_dtype float32")
        return {"weight": weight.to(dtype)}

    layout.write(layout.tensors(decoded), folder)
    return Written(unquantized_inputs(layout.layers()))
