"""The compression state of a model: one typed object stored on the model, accessed through the functions here.

The object is immutable, so that copies of the model can share it; a change replaces it. It is not part of the state
dict. ``copy.deepcopy``, ``clone_model`` and pickling keep it.
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
    """The record that a model went through ``init_compression``: the plan carried out and the attached distiller.

    Pickles and deep copies keep only the plan.
    """

    def __init__(self, plan: CompressionPlan, distiller: object | None = None) -> None:
        self.plan = plan
        # A weak reference: the student's hooks hold the distiller; another one would keep the teacher alive in copies.
        self._distiller = None if distiller is None else weakref.ref(distiller)

    @property
    def distiller(self) -> Any:
        """The attached distiller; None without distillation."""
        return None if self._distiller is None else self._distiller()

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "_distiller": None}


@dataclass(frozen=True)
class CompressionState:
    """The state of one model; the defaults describe a model without compression.

    float_dtype: name of the dtype in which scales and the remaining float tensors are stored.
    about: facts for the model card, such as ``original_bytes``, "base_model" and ``scores``; plain data.
    frozen: whether the model was made by ``freeze`` or loaded from a packed checkpoint.
    shrinkage: which modules pruning made smaller than the model's own config says.
    init_compression: the record of ``init_compression``, if the model went through it.
    """

    float_dtype: str = "float32"
    about: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    shrinkage: Shrinkage = field(default_factory=Shrinkage)
    init_compression: InitCompression | None = None


def state_of(model: nn.Module) -> CompressionState:
    """The state of a model; the defaults if none was set."""
    state: CompressionState | None = model.__dict__.get(_ATTRIBUTE)
    return CompressionState() if state is None else state


def update_state(model: nn.Module, **changes: Any) -> None:
    """Set fields of a model's state; see ``CompressionState``."""
    model.__dict__[_ATTRIBUTE] = replace(state_of(model), **changes)
