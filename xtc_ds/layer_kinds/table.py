"""The table of layer kinds, and the layer classes that other packages register for them.

A kind is registered with ``register_kind``. Its compressed layer for training (``xtc_ds.layers``) and its packed layer
for frozen models (``xtc_ds.runtime``) are registered where they are defined. Another distribution registers its own
kinds in a function that it lists in the entry-point group ``xtc_ds.layer_kinds``::

    [project.entry-points."xtc_ds.layer_kinds"]
    gated_linear = "my_package.gated_linear:register"
"""

from __future__ import annotations

from typing import Any

from torch import nn

from xtc_ds.errors import PlanError
from xtc_ds.extensions import register_entry_points
from xtc_ds.layer_kinds.builtin import BUILTIN
from xtc_ds.layer_kinds.kind import LayerKind, Operation
from xtc_ds.zero import full_shape

__all__ = [
    "compressed_class",
    "kind_of",
    "kinds_with",
    "layer_kind",
    "layer_kind_of",
    "looks_like_a_layer",
    "packed_class",
    "packed_kinds",
    "register_compressed",
    "register_kind",
    "register_packed",
    "weight_shape",
]

_KINDS: dict[str, LayerKind] = {kind.name: kind for kind in BUILTIN}
_COMPRESSED: dict[str, type[nn.Module]] = {}
# Typed Any, because packed layers are defined in xtc_ds.runtime, which this package must not import.
_PACKED: dict[str, Any] = {}


def _all_kinds() -> dict[str, LayerKind]:
    register_entry_points("xtc_ds.layer_kinds")
    return _KINDS


def register_kind(kind: LayerKind) -> None:
    """Register a layer kind. Raises PlanError if the name is taken."""
    if kind.name in _KINDS:
        raise PlanError(f"layer kind '{kind.name}' is registered already")
    _KINDS[kind.name] = kind


def register_compressed(name: str, cls: type[nn.Module]) -> None:
    """Register the class of compressed layers of kind ``name`` for training; a subclass of the layer's own class."""
    assert name in _KINDS, name
    cls.layer_kind = _KINDS[name]  # type: ignore[attr-defined]
    _COMPRESSED[name] = cls


def register_packed(name: str, cls: type[nn.Module]) -> None:
    """Register the class of packed layers that files call ``name`` (see ``LayerKind.packed``)."""
    _PACKED[name] = cls


def layer_kind(name: str) -> LayerKind:
    """The kind called ``name``. Raises KeyError if there is none."""
    return _all_kinds()[name]


def kind_of(module: nn.Module) -> str | None:
    """The name of the kind of an uncompressed module; None if it is of no kind."""
    return next((kind.name for kind in _all_kinds().values() if kind.is_one(module)), None)


def layer_kind_of(module: nn.Module) -> LayerKind | None:
    """The kind of a module, compressed or not; None if it is of no kind."""
    own: LayerKind | None = getattr(type(module), "layer_kind", None)
    return own or next((kind for kind in _all_kinds().values() if kind.is_one(module)), None)


def kinds_with(*operations: Operation) -> tuple[str, ...]:
    """Names of the kinds with one of these operations, in the order of registration."""
    return tuple(kind.name for kind in _all_kinds().values() if kind.operation in operations)


def looks_like_a_layer(module: nn.Module) -> bool:
    """Whether a module is an instance of some kind's ``base`` class, including subclasses."""
    return any(kind.base is not None and isinstance(module, kind.base) for kind in _all_kinds().values())


def weight_shape(module: nn.Module) -> tuple[int, ...]:
    """Shape of a module's whole weight, outputs first; in stored order for a module of no kind."""
    kind = layer_kind_of(module)
    return full_shape(module.weight) if kind is None else kind.shape_of(module)  # type: ignore[arg-type]


def compressed_class(name: str) -> type[nn.Module]:
    """The class of compressed layers of kind ``name``. Raises KeyError if none is registered."""
    return _COMPRESSED[name]


def packed_class(name: str) -> Any:
    """The class of packed layers that files call ``name``. Raises KeyError if none is registered."""
    _all_kinds()
    return _PACKED[name]


def packed_kinds() -> tuple[str, ...]:
    """The registered names of packed layers."""
    _all_kinds()
    return tuple(_PACKED)
