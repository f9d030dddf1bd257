"""Turning a plain layer into a compressed one, and back, by changing its class only."""

from __future__ import annotations

import inspect

from torch import nn

from xtc_ds.layer_kinds import compressed_class, kind_of
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["restore_class", "swap_class"]


def swap_class(module: nn.Module) -> CompressedLayer:
    """Make ``module`` a compressed layer in place; one that is one already is returned as it is.

    Parameters, buffers, hooks, mode and every reference to the module stay as they are.
    """
    if not isinstance(module, CompressedLayer):
        kind = kind_of(module)
        assert kind is not None, "the plan admits only known kinds"
        module.__class__ = compressed_class(kind)
    assert isinstance(module, CompressedLayer)
    return module


def restore_class(module: nn.Module) -> nn.Module:
    """Make a compressed layer the plain layer that it was, in place; its transforms are removed."""
    if isinstance(module, CompressedLayer):
        module.remove_transforms()
        # Compressed classes are (CompressedLayer, the plain class).
        plain = type(module).__bases__[-1]
        ours = set(type(module).__mro__) - set(plain.__mro__)
        for name in {name for owner in ours for name in inspect.get_annotations(owner)} - {"training"}:
            module.__dict__.pop(name, None)
        module.__class__ = plain
    return module
