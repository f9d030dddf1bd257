"""Cut the layer stack in place and copy the teacher's tensors into what remains."""

from __future__ import annotations

from torch import nn

from xtc_ds.plan import CompressionPlan, ReductionRow, find_layer_stack
from xtc_ds.techniques.layer_reduction.hf_config import shrink_hf_config
from xtc_ds.zero import gathered, modifiable

__all__ = ["apply"]


def apply(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None) -> None:
    """Keep the planned layers (the same module objects, renumbered), then initialise from the teacher."""
    row = plan.reduction
    if row is None:
        return
    if row.cut:
        _cut(model, row)
    if teacher is not None and teacher is not model:
        _copy_from_teacher(model, row, teacher)


def _cut(model: nn.Module, row: ReductionRow) -> None:
    layers = model.get_submodule(row.stack)
    assert isinstance(layers, nn.ModuleList)
    kept = [layers[index] for index in row.kept]
    # The container stays the same object: other references to it, and hooks on it, must see the cut.
    del layers[:]
    layers.extend(kept)
    for new_index, layer in enumerate(kept):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = new_index  # type: ignore[assignment]
    shrink_hf_config(model, row.depth, row.kept)


def _copy_from_teacher(model: nn.Module, row: ReductionRow, teacher: nn.Module) -> None:
    source = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    prefix = find_layer_stack(teacher, row.stack if _has(teacher, row.stack) else None).name
    persistent = set(model.state_dict(keep_vars=True))
    for name, target in [*model.named_parameters(), *model.named_buffers()]:
        origin = _origin(name, row, prefix)
        if origin is None or origin not in source or name not in persistent:
            continue
        with gathered([source[origin]]), modifiable([target]):
            if source[origin].shape == target.shape:
                target.data.copy_(source[origin].data)


def _origin(name: str, row: ReductionRow, teacher_stack: str) -> str | None:
    """The teacher's name of what the student calls ``name``; None where it is not taken over."""
    if name.startswith(f"{row.stack}."):
        index, _, rest = name[len(row.stack) + 1 :].partition(".")
        return f"{teacher_stack}.{row.kept[int(index)]}.{rest}"
    if row.other_modules is None or any(name.startswith(f"{other}.") for other in row.other_modules):
        return name
    return None


def _has(model: nn.Module, name: str) -> bool:
    return any(name == known for known, _ in model.named_modules())
