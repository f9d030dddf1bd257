"""From the codes of a trained weight to the tensors of a packed layer, pruned parts zeroed or gone.

Shape legend: O and I = output and input features or channels, G = scale groups, N = weights in a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xtc_ds.formats import Encoded, Grouping, get_format
from xtc_ds.formats.bits import pack_bits
from xtc_ds.freezing.pruned_parts import PrunedParts
from xtc_ds.plan.rows import WeightRow
from xtc_ds.runtime.packed import PackedSpec

__all__ = ["pack_weight"]


def pack_weight(
    encoded: Encoded, rule: WeightRow, spec: PackedSpec, parts: PrunedParts, name: str
) -> dict[str, Tensor]:
    """The layer's tensors by name: ``weight``, ``weight_scale`` and what else ``spec`` asks for.

    encoded: the whole weight as it was trained, groups first. The scales are those of the unpruned weight, so
    what stays keeps its value exactly.
    """
    codes = encoded.codes.reshape(rule.shape).cpu()
    mask = parts.weight_mask(name)
    if mask is not None:
        # A shifted grid has no code for zero; what its pruned codes stand for is hidden by the mask beside them.
        codes = codes.masked_fill(~mask, 0)
    codes = parts.cut(name, "weight", codes, output_first=True)
    kept_rows = dict(parts.kept_indices(name, "weight", rule.shape, output_first=True)).get(0)
    result = {
        "weight": _packed(codes, spec, mask),
    }
    for name_of_part, values in encoded.parts.items():
        left = _cut_groups(values, rule.grouping, spec.grouping, rule.shape[0], kept_rows)
        result[f"weight_{name_of_part}"] = left
    if spec.sparse is not None:
        assert mask is not None
        result["weight_mask"] = spec.sparse.pack_mask(mask)
    elif spec.masked:
        assert mask is not None
        kept = parts.cut(name, "weight", mask, output_first=True)
        result["weight_mask"] = pack_bits(kept.reshape(-1).to(torch.uint8), 1)
    return result


def _packed(codes: Tensor, spec: PackedSpec, mask: Tensor | None) -> Tensor:
    if spec.sparse is None:
        return spec.weight_format.pack(codes)
    assert mask is not None
    assert spec.sparse.format is not None
    return get_format(spec.sparse.format).pack(spec.sparse.kept_values(codes, mask))


def _cut_groups(values_G1: Tensor, trained: Grouping, stored: Grouping, rows: int, kept_rows: Tensor | None) -> Tensor:
    """The parts of the groups that are left, flat where each has one value."""
    values = (values_G1.flatten() if values_G1.shape[1] == 1 else values_G1).cpu()
    if stored.kind == "tensor" or (stored == trained and kept_rows is None):
        return values
    # Groups of whole rows: each row takes its group's value along.
    values = values.repeat_interleave(rows // len(values))
    return values if kept_rows is None else values[kept_rows]
