"""What a model remembers of its ``init_compression``, until an engine is built around it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from xtc_ds.distillation.distiller import Distiller
    from xtc_ds.plan import CompressionPlan

__all__ = ["Memory", "forget_calls", "init_compression_was_called", "recall", "remember"]

_ATTRIBUTE = "xtc_compat_memory"
_calls = 0


class Memory:
    """The plan that was carried out and the loss that was attached.

    Copies and pickles of the model keep the plan only: they know nothing of the teacher.
    """

    def __init__(self, plan: CompressionPlan, distiller: Distiller | None = None) -> None:
        self.plan = plan
        # The student's hooks hold it; a second reference would keep the teacher alive in copies.
        self._distiller = weakref.ref(distiller) if distiller is not None else None

    @property
    def distiller(self) -> Distiller | None:
        """The attached loss; None without distillation."""
        return self._distiller() if self._distiller is not None else None

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "_distiller": None}


def remember(model: nn.Module, memory: Memory) -> None:
    """Note on ``model`` that it went through ``init_compression``."""
    global _calls
    _calls += 1
    setattr(model, _ATTRIBUTE, memory)


def recall(model: nn.Module) -> Memory | None:
    """The memory of a model, also where it is a part of a larger one; None if it was never compressed."""
    for module in model.modules():
        memory = module.__dict__.get(_ATTRIBUTE)
        if isinstance(memory, Memory):
            return memory
    return None


def init_compression_was_called() -> bool:
    """Whether this process called ``init_compression`` for any model."""
    return _calls > 0


def forget_calls() -> None:
    """Start anew: as if ``init_compression`` had not been called."""
    global _calls
    _calls = 0
