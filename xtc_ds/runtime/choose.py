"""Sets the runtime of a model with packed layers."""

from __future__ import annotations

from torch import nn

from xtc_ds.errors import ExportError
from xtc_ds.runtime.fused import fuse, unfuse
from xtc_ds.runtime.packed import RUNTIMES, PackedLayer

__all__ = ["check_runtime", "set_runtime"]


def check_runtime(runtime: str) -> None:
    """Raise ExportError if ``runtime`` is not the name of a runtime."""
    if runtime not in RUNTIMES:
        raise ExportError(f"runtime: found {runtime!r}, expected one of: {', '.join(RUNTIMES)}")


def set_runtime(model: nn.Module, runtime: str) -> None:
    """Choose how a model with packed layers computes.

    "packed": weights stay packed in memory, as small as in the file.
    "unpacked": weights are unpacked once, to int8 for layers that multiply codes with codes and to floats for others;
        results are bit-identical to "packed".
    "fused": like "packed", but BERT-like encoders also run attention, layer normalization and GELU on the native
        kernel; results are equal up to float rounding.

    Raises ExportError for any other name.
    """
    check_runtime(runtime)
    for module in model.modules():
        if isinstance(module, PackedLayer):
            module.runtime = runtime
            module.forget()
    (fuse if runtime == "fused" else unfuse)(model)
