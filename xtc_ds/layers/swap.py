"""Turning a plain layer into a compressed one, and back, by changing its class only."""

from __future__ import annotations

from torch import nn

from xtc_ds.layers.compressed import CompressedLayer
from xtc_ds.layers.conv1d import CompressedConv1D
from xtc_ds.layers.embedding import CompressedEmbedding
from xtc_ds.layers.linear import CompressedLinear
from xtc_ds.plan.candidates import kind_of

__all__ = ["swap_class"]

_CLASSES: dict[str, type[nn.Module]] = {
    "Linear": CompressedLinear,
    "Embedding": CompressedEmbedding,
    "Conv1D": CompressedConv1D,
}


def swap_class(module: nn.Module) -> CompressedLayer:
    """Make ``module`` a compressed layer in place; one that is one already is returned as it is.

    Parameters, buffers, hooks, mode and every reference to the module stay as they are.
    """
    if not isinstance(module, CompressedLayer):
        kind = kind_of(module)
        assert kind is not None, "the plan admits only known kinds"
        module.__class__ = _CLASSES[kind]
    assert isinstance(module, CompressedLayer)
    return module
