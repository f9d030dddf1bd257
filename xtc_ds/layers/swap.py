"""Turn a plain layer into a compressed one, and back, by changing only its class."""

from __future__ import annotations

import inspect

from torch import nn

from xtc_ds.layer_kinds import compressed_class, kind_of
from xtc_ds.layers.compressed import CompressedLayer

__all__ = ["restore_class", "swap_class"]


def swap_class(module: nn.Module) -> CompressedLayer:
    """Make ``module`` a compressed layer in place; a layer that is already compressed is returned unchanged.

    Parameters, buffers, hooks, training mode and all references to the module are kept.
    """
    if not isinstance(module, CompressedLayer):
        kind = kind_of(module)
        assert kind is not None, "the plan admits only known kinds"
        module.__class__ = compressed_class(kind)
    assert isinstance(module, CompressedLayer)
    return module


def restore_class(module: nn.Module) -> nn.Module:
    """Turn a compressed layer back into the original plain layer, in place, and remove its transforms."""
    if isinstance(module, CompressedLayer):
        module.remove_transforms()
        # The bases of a compressed class are (CompressedLayer, the plain class).
        plain = type(module).__bases__[-1]
        ours = set(type(module).__mro__) - set(plain.__mro__)
        for name in {name for owner in ours for name in inspect.get_annotations(owner)} - {"training"}:
            module.__dict__.pop(name, None)
        module.__class__ = plain
    return module
