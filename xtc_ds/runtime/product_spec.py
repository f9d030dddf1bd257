"""How the kernels are told of a packed layer's weight and inputs."""

from __future__ import annotations

from xtc_ds.kernels.backend import ProductSpec
from xtc_ds.runtime.packed import PackedSpec

__all__ = ["product_spec"]


def product_spec(spec: PackedSpec, unpacked: bool = False) -> ProductSpec:
    """unpacked: the layer keeps its weight unpacked in memory."""
    return ProductSpec(
        weight_format=None if spec.format is None else spec.weight_format,
        grouping=spec.grouping,
        shape=spec.shape,
        activation=spec.activation,
        masked=spec.masked,
        sparse=spec.sparse is not None,
        unpacked=unpacked,
    )
