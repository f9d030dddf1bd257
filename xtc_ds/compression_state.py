"""What a model knows of its compression: one typed object on the model, read and written by the functions here.

The object is immutable, so that a copy of the model may share it; a change puts another one in its place. It is no
part of the state dict. ``copy.deepcopy``, ``clone_model`` and pickles keep it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from xtc_ds.plan import CompressionPlan
from xtc_ds.plan.shrinkage import Shrinkage

__all__ = ["CompressionState", "InitCompression", "state_of", "update_state"]

_ATTRIBUTE = "_xtc_compression_state"


class InitCompression:
    """That a model went through ``init_compression``: the plan that was carried out, and the loss that was attached.

    Copies and pickles keep the plan only: they know nothing of the teacher.
    """

    def __init__(self, plan: CompressionPlan, distiller: object | None = None) -> None:
        self.plan = plan
        # The student's hooks hold it; a second reference would keep the teacher alive in copies.
        self._distiller = None if distiller is None else weakref.ref(distiller)

    @property
    def distiller(self) -> Any:
        """The attached distillation loss; None without distillation."""
        return None if self._distiller is None else self._distiller()

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "_distiller": None}


@dataclass(frozen=True)
class CompressionState:
    """The defaults are those of a plain model.

    float_dtype: name of the type in which scales and leftover floats are stored.
    about: what the model card tells, such as ``original_bytes``, "base_model" and ``scores``; plain data.
    frozen: whether ``freeze`` made the model, or its file did.
    shrinkage: what pruning made smaller than the model's own config says.
    init_compression: of a model that went through the function of that name.
    """

    float_dtype: str = "float32"
    about: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    shrinkage: Shrinkage = field(default_factory=Shrinkage)
    init_compression: InitCompression | None = None


def state_of(model: nn.Module) -> CompressionState:
    """The state of a model; that of a plain model where nothing was noted."""
    state: CompressionState | None = model.__dict__.get(_ATTRIBUTE)
    return CompressionState() if state is None else state


def update_state(model: nn.Module, **changes: Any) -> None:
    """Change fields of a model's state; see ``CompressionState``."""
    model.__dict__[_ATTRIBUTE] = replace(state_of(model), **changes)
