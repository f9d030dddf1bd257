"""Make the tensors of a packed layer from the codes of a trained weight: cut, mask, drop zeros, pack into bytes."""

from __future__ import annotations

from torch import Tensor

from xtc_ds.formats import Encoded, Grouping
from xtc_ds.freezing.trained_parts import TrainedParts
from xtc_ds.plan.rows import CodedRow
from xtc_ds.storage import Coded, Elementwise, Masked, Sparse

__all__ = ["pack_weight"]


def pack_weight(
    encoded: Encoded, row: CodedRow, stored: Elementwise | Masked | Sparse, parts: TrainedParts, name: str
) -> dict[str, Tensor]:
    """The layer's tensors, keyed by the names of the parts of ``stored``.

    encoded: the whole trained weight, with the groups in the first dimension. Its scales and other parts are those of
        the unpruned weight, so that the remaining weights keep their exact values.
    """
    codes = encoded.codes.reshape(row.shape).cpu()
    mask = parts.weight_mask(name)
    if mask is not None:
        # A masked position needs some code even if the format has none for zero; the mask hides its value.
        codes = codes.masked_fill(~mask, 0)
        mask = parts.cut(name, "weight", mask, output_first=True)
    codes = parts.cut(name, "weight", codes, output_first=True)
    kept_rows = dict(parts.kept_indices(name, "weight", row.shape, output_first=True)).get(0)
    coded = stored.around if isinstance(stored, Masked | Sparse) else stored
    assert isinstance(coded, Coded)
    beside = {
        f"weight_{part.name}": _cut_groups(
            encoded.parts[part.name].reshape(part.shape(len(encoded.codes))),
            row.grouping, coded.grouping, row.shape[0], kept_rows,
        )
        for part in coded.format.parts
    }  # fmt: skip
    return stored.pack(codes, beside, mask)


def _cut_groups(values: Tensor, trained: Grouping, stored: Grouping, rows: int, kept_rows: Tensor | None) -> Tensor:
    """Select the entries of a part of the format for the remaining groups. values: (G,) or (G, size)."""
    values = values.cpu()
    if stored.kind == "tensor" or (stored == trained and kept_rows is None):
        return values
    # Groups are whole rows: repeat each group's values for every one of its rows.
    values = values.repeat_interleave(rows // len(values), dim=0)
    return values if kept_rows is None else values[kept_rows]
