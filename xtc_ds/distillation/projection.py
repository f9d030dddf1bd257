"""The learned projection from the student's hidden width to the teacher's, if these differ."""

from __future__ import annotations

import torch
from torch import nn

from xtc_ds.distillation.model_config import config_value
from xtc_ds.zero import modifiable

__all__ = ["PROJECTION_NAME", "attach_projection", "projection_widths", "strip_projection"]

PROJECTION_NAME = "xtc_projection"


def projection_widths(student: nn.Module, teacher: nn.Module) -> tuple[int, int] | None:
    """The hidden widths of both models if they are known to differ; else None."""
    ours, theirs = (config_value(model, "hidden_size") for model in (student, teacher))
    return None if None in (ours, theirs) or ours == theirs else (ours, theirs)


def attach_projection(student: nn.Module, student_width: int, teacher_width: int) -> nn.Linear:
    """Add one linear map (student_width to teacher_width), shared by all hidden states, as ``xtc_projection``.

    It is a submodule so that optimizer, ZeRO and training checkpoints include it; it is not saved by the student's
    ``save_pretrained``. All states share one map, as in TinyBERT, because the residual stream has one basis.
    """
    like = next((p for p in student.parameters() if p.is_floating_point()), torch.empty(0))
    projection = nn.Linear(student_width, teacher_width)
    # Orthogonal, so that the map initially preserves distances between the student's states.
    with modifiable(projection.parameters()), torch.no_grad():
        nn.init.orthogonal_(projection.weight)
        nn.init.zeros_(projection.bias)
    projection.to(device=like.device, dtype=like.dtype)
    setattr(student, PROJECTION_NAME, projection)
    ignored = getattr(student, "_keys_to_ignore_on_save", None)
    if isinstance(ignored, set):
        vars(student)["_keys_to_ignore_on_save"] = ignored | _keys()
    return projection


def strip_projection(student: nn.Module) -> None:
    """Remove the projection from a model that is no longer trained; no-op if it has none."""
    if PROJECTION_NAME in student._modules:
        delattr(student, PROJECTION_NAME)
        ignored = getattr(student, "_keys_to_ignore_on_save", None)
        if isinstance(ignored, set):
            vars(student)["_keys_to_ignore_on_save"] = ignored - _keys()


def _keys() -> set[str]:
    return {f"{PROJECTION_NAME}.weight", f"{PROJECTION_NAME}.bias"}
