"""Find the attributes of attention modules that hold the number of heads, under the names that libraries use."""

from __future__ import annotations

from torch import nn

from xtc_ds.techniques.pruning.unit_rows import StructuredRow

__all__ = ["HEAD_ATTRIBUTES", "head_attributes"]

_COUNTS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "num_key_value_heads")
# Attributes that hold the number of heads times the size of a head.
_WIDTHS = ("all_head_size", "embed_dim", "split_size", "inner_dim", "dim")
HEAD_ATTRIBUTES = frozenset(_COUNTS + _WIDTHS)


def head_attributes(model: nn.Module, row: StructuredRow) -> dict[str, dict[str, int]]:
    """Module name to the attributes that depend on the number of heads, with their values after pruning.

    They are searched in the parents of the pruned projection and its related modules, and in the closest common
    ancestor of all these. An attribute counts only if it has the value of the unpruned module.
    """
    names = [row.module, *(related.module for related in row.related)]
    width = row.shape[1]
    kept_width = width // row.units * row.kept
    result = {}
    for holder in sorted(_holders(names)):
        module = model.get_submodule(holder)
        values = {key: row.kept for key in _COUNTS if _has(module, key, row.units)}
        if values:  # a width alone does not show that the module has heads
            values |= {key: kept_width for key in _WIDTHS if _has(module, key, width)}
            result[holder] = values
    return result


def _holders(names: list[str]) -> set[str]:
    parents = {name.rpartition(".")[0] for name in names}
    shared = names[0].split(".")
    for name in names[1:]:
        parts = name.split(".")
        shared = [a for i, a in enumerate(shared) if parts[: i + 1] == shared[: i + 1]]
    # Include the common ancestor (an attention block), but nothing above it, which holds other attention modules, too.
    return parents | {".".join(shared)} - {""}


def _has(module: nn.Module, key: str, value: int) -> bool:
    found = vars(module).get(key)
    return isinstance(found, int) and not isinstance(found, bool) and found == value
