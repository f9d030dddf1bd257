"""Cut the layer stack in place and copy the teacher's tensors into the remaining layers."""

from __future__ import annotations

from torch import nn

from xtc_ds.techniques.layer_reduction.hf_config import shrink_hf_config
from xtc_ds.techniques.layer_reduction.plan import taken_over
from xtc_ds.techniques.layer_reduction.rows import ReductionRow
from xtc_ds.zero import gathered, modifiable

__all__ = ["copy_from_teacher", "reduce_layers"]


def reduce_layers(model: nn.Module, row: ReductionRow, teacher: nn.Module | None) -> None:
    """Keep the planned layers (the same module objects, renumbered), then initialize them from the teacher."""
    if row.cut:
        _cut(model, row)
    if teacher is not None and teacher is not model:
        copy_from_teacher(model, row, teacher)


def _cut(model: nn.Module, row: ReductionRow) -> None:
    layers = model.get_submodule(row.stack)
    assert isinstance(layers, nn.ModuleList)
    kept = [layers[index] for index in row.kept]
    # Keep the same container object: other references to it, and hooks on it, must see the cut.
    del layers[:]
    layers.extend(kept)
    for new_index, layer in enumerate(kept):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = new_index  # type: ignore[assignment]
    shrink_hf_config(model, row)


def copy_from_teacher(model: nn.Module, row: ReductionRow, teacher: nn.Module) -> None:
    """Copy the parameters and buffers of ``taken_over``, in place. With ZeRO-3 all ranks have to call this."""
    for _, target, _, origin in taken_over(model, row, teacher):
        with gathered([origin]), modifiable([target]):
            target.data.copy_(origin.data)
