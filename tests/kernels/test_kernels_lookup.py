"""Rows of packed tables on the native kernel against the slow way."""

from __future__ import annotations

import pytest
import torch

from xtc_ds.formats import AffineFormat, get_format
from xtc_ds.kernels.native import lookup, native_library
from xtc_ds.kernels.unpack_rows import unpack_rows

if native_library() is None:
    pytest.skip("no C compiler here", allow_module_level=True)

FORMATS = ("binary", "ternary", "int2", "int4", "int8", "int2_asymmetric", "int4_asymmetric", "int8_asymmetric")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("per_row", [True, False])
def test_rows_have_the_bits_of_the_slow_way(name: str, per_row: bool) -> None:
    torch.manual_seed(0)
    weight_format = get_format(name)
    assert isinstance(weight_format, AffineFormat)
    low, high = weight_format.code_range
    for rows, width in ((1, 1), (5, 3), (7, 16), (9, 40), (300, 768)):
        codes = torch.randint(low, high + 1, (rows, width), dtype=torch.int8)
        codes = codes.where(codes != 0, torch.ones_like(codes)) if name == "binary" else codes
        packed, groups = weight_format.pack(codes), rows if per_row else 1
        scale = torch.rand(groups)
        zero = torch.randn(groups) if weight_format.has_zero else None
        for ids in (torch.randint(0, rows, (50,)), torch.randint(0, rows, (0,)), torch.tensor([rows - 1])):
            found = lookup(ids, packed, weight_format, (rows, width), scale, zero)
            assert found is not None
            values = (unpack_rows(packed, weight_format, width, ids).float() + weight_format.code_offset) * (
                scale.expand(rows)[ids].unsqueeze(1)
            )
            assert torch.equal(found, values if zero is None else values + zero.expand(rows)[ids].unsqueeze(1))


def test_what_it_does_not_take() -> None:
    weight_format = get_format("binary")
    packed, scale = weight_format.pack(torch.ones(4, 8, dtype=torch.int8)), torch.ones(1)
    assert lookup(torch.tensor([3]), packed, weight_format, (4, 8), scale, None) is not None
    for wrong in (torch.tensor([4]), torch.tensor([-1]), torch.tensor([1], dtype=torch.int32)):
        assert lookup(wrong, packed, weight_format, (4, 8), scale, None) is None
    assert lookup(torch.tensor([0]), packed[:-1], weight_format, (4, 8), scale, None) is None
    assert lookup(torch.tensor([0]), packed, weight_format, (4, 8), scale.double(), None) is None
    assert lookup(torch.tensor([0]), packed, get_format("int3"), (4, 8), scale, None) is None
