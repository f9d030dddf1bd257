"""Sizes before and after compression, counted as in files. MB = 1e6 bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from xtc_ds.plan.changes import coded_rows, cut_dims, cut_shape, module_changes
from xtc_ds.plan.rows import Row
from xtc_ds.plan.stored import float_weight, stored_weight
from xtc_ds.plan.tensors import iterate_tensors
from xtc_ds.zero import full_numel, full_shape

__all__ = ["FLOAT_BYTES", "LeftoverRow", "Sizes", "count_sizes", "dense_bytes"]

FLOAT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class LeftoverRow:
    """A tensor that is not quantized: name, shape and bytes in the packed file."""

    name: str
    shape: tuple[int, ...]
    packed_bytes: int


@dataclass(frozen=True)
class Sizes:
    """Bytes of tensor data, without file headers.

    original: the original model, floats as float32. student: the same after layers are dropped. student_quantized: the
    part of ``student`` that gets quantized. packed: codes, scales and leftover tensors of the student. leftovers: the
    tensors that are not quantized, largest first.
    """

    original: int
    student: int
    student_quantized: int
    packed: int
    leftovers: tuple[LeftoverRow, ...]

    @property
    def ratio(self) -> float:
        """How many times smaller the packed student is than the float32 original."""
        return self.original / self.packed if self.packed else math.inf


def dense_bytes(modules: dict[str, nn.Module]) -> int:
    """Bytes of all parameters and persistent buffers with floats as float32; shared tensors count once."""
    seen: dict[int, int] = {}
    for _, _, tensor, _ in iterate_tensors(modules):
        size = 4 if tensor.is_floating_point() else tensor.element_size()
        seen[id(tensor)] = full_numel(tensor) * size
    return sum(seen.values())


def count_sizes(
    before: dict[str, nn.Module], after: dict[str, nn.Module], rows: Iterable[Row], float_dtype: str
) -> Sizes:
    """Sizes of the original model, of the student and of its packed file.

    before, after: name to module, before and after the plan drops or renames modules.
    """
    rows = tuple(rows)
    float_bytes = FLOAT_BYTES[float_dtype]
    coded = coded_rows(rows)
    changes = module_changes(rows)
    packed: dict[int, int] = {}
    leftovers: list[LeftoverRow] = []
    quantized_bytes = 0
    uses = Counter(id(tensor) for _, _, tensor, _ in iterate_tensors(after))
    for name, key, tensor, is_parameter in iterate_tensors(after):
        if id(tensor) in packed:
            continue
        row = coded.get(name) if key == "weight" and is_parameter else None
        change = changes.get(name)
        if row is not None:
            packed[id(tensor)] = stored_weight(row, change).packed_bytes(float_bytes)
            quantized_bytes += 4 * full_numel(tensor)
        else:
            shape = full_shape(tensor)
            if change is not None:
                shape = cut_shape(shape, cut_dims(change, key))
            packed[id(tensor)] = math.prod(shape) * _item_bytes(tensor, float_bytes)
            if key == "weight" and uses[id(tensor)] == 1 and tensor.is_floating_point():
                packed[id(tensor)] = float_weight(shape, change, float_bytes).packed_bytes(float_bytes)
            leftovers.append(LeftoverRow(f"{name}.{key}".lstrip("."), shape, packed[id(tensor)]))
    added = [
        LeftoverRow(name, shape, math.prod(shape) * float_bytes) for row in rows for name, shape in row.added_tensors()
    ]
    total = sum(packed.values()) + sum(tensor.packed_bytes for tensor in added)
    leftovers = sorted([*leftovers, *added], key=lambda leftover: -leftover.packed_bytes)
    student = dense_bytes(after)
    return Sizes(dense_bytes(before), student, quantized_bytes, total, tuple(leftovers))


def _item_bytes(tensor: Tensor, float_bytes: int) -> int:
    return float_bytes if tensor.is_floating_point() else tensor.element_size()
