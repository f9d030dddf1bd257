"""The techniques, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from xtc_ds.extensions import import_from_techniques
from xtc_ds.plan import CompressionPlan

__all__ = ["Technique", "register_technique", "techniques"]

Apply = Callable[[nn.Module, CompressionPlan, nn.Module | None], None]


@dataclass(frozen=True)
class Technique:
    """name: its key in the config; apply: rewrites the model in place as the plan says."""

    name: str
    apply: Apply


_TECHNIQUES: dict[str, Technique] = {}


def register_technique(name: str, apply: Apply) -> None:
    """Add a technique; techniques run in the order of their registration."""
    assert name not in _TECHNIQUES, f"technique '{name}' is registered twice"
    _TECHNIQUES[name] = Technique(name, apply)


def techniques() -> tuple[Technique, ...]:
    """All techniques in order."""
    import_from_techniques("apply")
    return tuple(_TECHNIQUES.values())
