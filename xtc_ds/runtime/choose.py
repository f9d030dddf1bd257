"""How a model with packed layers computes."""

from __future__ import annotations

from torch import nn

from xtc_ds.errors import ExportError
from xtc_ds.runtime.fused import fuse, unfuse
from xtc_ds.runtime.packed import RUNTIMES, PackedLayer

__all__ = ["check_runtime", "set_runtime"]


def check_runtime(runtime: str) -> None:
    """Raise ExportError where there is no such runtime."""
    if runtime not in RUNTIMES:
        raise ExportError(f"runtime: found {runtime!r}, expected one of: {', '.join(RUNTIMES)}")


def set_runtime(model: nn.Module, runtime: str) -> None:
    """Choose how a model with packed layers computes.

    "packed": weights stay packed in memory, as small as in the file.
    "unpacked": they are unpacked once, to int8 where codes are multiplied with codes and to floats elsewhere; the same
        results, bit for bit.
    "fused": as "packed"; encoders of BERT's class also attend, normalize and activate on the native kernel, which
        gives the same up to the rounding of floats.

    Raises ExportError for another name.
    """
    check_runtime(runtime)
    for module in model.modules():
        if isinstance(module, PackedLayer):
            module.runtime = runtime
            module.forget()
    (fuse if runtime == "fused" else unfuse)(model)
