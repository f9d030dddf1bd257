"""Sparse storage: places and kept weights, exact both ways and as small as counted."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtc_ds.errors import FormatError
from xtc_ds.formats import SparseStorage, smallest_storage
from xtc_ds.formats.sparse import pattern_fits

PATTERNS = [(1, 2), (2, 4), (1, 4), (4, 8), (2, 8), (3, 3), (7, 8), (1, 16)]


def mask_of(pattern: tuple[int, int], shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    kept, of = pattern
    outputs, inputs, *kernel = shape
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand((outputs, *kernel, inputs // of, of), generator=generator).argsort(-1)
    mask = torch.zeros(order.shape, dtype=torch.bool).scatter_(-1, order[..., :kept], True)
    mask = mask.reshape(outputs, *kernel, inputs)
    return mask if not kernel else mask.permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("kernel", [(), (3, 2)], ids=str)
def test_patterns_come_back(pattern: tuple[int, int], kernel: tuple[int, ...]) -> None:
    shape = (5, 3 * pattern[1], *kernel)
    mask = mask_of(pattern, shape)
    storage = SparseStorage(int(mask.sum()), pattern, "int4")
    packed = storage.pack_mask(mask)
    assert packed.numel() == storage.mask_bytes(mask.numel())
    assert torch.equal(storage.unpack_mask(packed, shape), mask)
    values = torch.randint(-8, 8, shape, dtype=torch.int8)
    kept = storage.kept_values(values, mask)
    assert kept.numel() == storage.kept
    assert torch.equal(storage.scattered(kept, mask), values * mask)
    assert pattern_fits(pattern, mask)


def test_the_combinations_of_2_of_4_have_the_numbers_of_the_spec() -> None:
    for places in itertools.combinations(range(4), 2):
        mask = torch.zeros(1, 4, dtype=torch.bool)
        mask[0, list(places)] = True
        number = int(SparseStorage(2, (2, 4), None).pack_mask(mask)[0])
        assert number == math.comb(places[0], 1) + math.comb(places[1], 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_any_mask_comes_back_as_bits(outputs: int, inputs: int, seed: int) -> None:
    mask = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(seed)) < 0.4
    storage = SparseStorage(int(mask.sum()), None, None)
    assert torch.equal(storage.unpack_mask(storage.pack_mask(mask), (outputs, inputs)), mask)
    values = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(storage.scattered(storage.kept_values(values, mask), mask), values.masked_fill(~mask, 0))


def test_bytes_that_are_no_mask_are_refused() -> None:
    storage, shape = SparseStorage(8, (2, 4), None), (4, 4)
    right = storage.pack_mask(mask_of((2, 4), shape))
    assert right.numel() == 2
    with pytest.raises(FormatError, match="takes 2 bytes"):
        storage.unpack_mask(right[:1], shape)
    with pytest.raises(FormatError, match="combination 7 of 6"):
        storage.unpack_mask(torch.tensor([7, 0], dtype=torch.uint8), shape)
    with pytest.raises(FormatError, match="padding bits"):
        storage.unpack_mask(torch.tensor([0, 128], dtype=torch.uint8), shape)
    with pytest.raises(FormatError, match="keeps 3 weights; 8 are stored"):
        SparseStorage(8, None, None).unpack_mask(torch.tensor([7, 0], dtype=torch.uint8), shape)


def test_the_smaller_storage_is_chosen() -> None:
    assert smallest_storage(800, 400, None, "int8", 400, 800) == SparseStorage(400, None, "int8")
    assert smallest_storage(800, 400, (2, 4), "int8", 400, 800) == SparseStorage(400, (2, 4), "int8")
    # 12870 combinations have no number in a byte: a bit each.
    assert smallest_storage(1600, 800, (8, 16), "int8", 800, 1600) == SparseStorage(800, None, "int8")
    assert smallest_storage(800, 700, None, "int8", 700, 800) is None
    assert smallest_storage(800, 400, None, "ternary", 80, 160) is None


def test_a_mask_that_only_nearly_fits_is_told() -> None:
    mask = mask_of((2, 4), (3, 8))
    mask[0, 0] = ~mask[0, 0]
    assert not pattern_fits((2, 4), mask)
    assert not pattern_fits((2, 3), mask)
