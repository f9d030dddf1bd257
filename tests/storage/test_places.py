"""Sparse storage: places and kept weights, exact both ways and as small as counted."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtc_ds.errors import FormatError
from xtc_ds.formats import Grouping, get_format
from xtc_ds.storage import Coded, Dense, Places, Sparse, pattern_fits, pruned_weight

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
    storage = Places(int(mask.sum()), pattern)
    packed = storage.pack(mask)
    assert packed.numel() == storage.bytes(mask.numel())
    assert torch.equal(storage.unpack(packed, shape), mask)
    values = torch.randint(-8, 8, shape, dtype=torch.int8)
    kept = storage.kept_values(values, mask)
    assert kept.numel() == storage.kept
    assert torch.equal(storage.scattered(kept, mask), values * mask)
    assert pattern_fits(pattern, mask)


def test_the_combinations_of_2_of_4_have_the_numbers_of_the_spec() -> None:
    for places in itertools.combinations(range(4), 2):
        mask = torch.zeros(1, 4, dtype=torch.bool)
        mask[0, list(places)] = True
        number = int(Places(2, (2, 4)).pack(mask)[0])
        assert number == math.comb(places[0], 1) + math.comb(places[1], 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_any_mask_comes_back_as_bits(outputs: int, inputs: int, seed: int) -> None:
    mask = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(seed)) < 0.4
    storage = Places(int(mask.sum()), None)
    assert torch.equal(storage.unpack(storage.pack(mask), (outputs, inputs)), mask)
    values = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(storage.scattered(storage.kept_values(values, mask), mask), values.masked_fill(~mask, 0))


def test_bytes_that_are_no_mask_are_refused() -> None:
    storage, shape = Places(8, (2, 4)), (4, 4)
    right = storage.pack(mask_of((2, 4), shape))
    assert right.numel() == 2
    with pytest.raises(FormatError, match="takes 2 bytes"):
        storage.unpack(right[:1], shape)
    with pytest.raises(FormatError, match="combination 7 of 6"):
        storage.unpack(torch.tensor([7, 0], dtype=torch.uint8), shape)
    with pytest.raises(FormatError, match="padding bits"):
        storage.unpack(torch.tensor([0, 128], dtype=torch.uint8), shape)
    with pytest.raises(FormatError, match="keeps 3 weights; 8 are stored"):
        Places(8, None).unpack(torch.tensor([7, 0], dtype=torch.uint8), shape)


def test_the_smaller_storage_is_chosen() -> None:
    def chosen(name: str, shape: tuple[int, int], kept: int, pattern: tuple[int, int] | None) -> object:
        coded = Coded(get_format(name), Grouping("row"), shape)
        result = pruned_weight(coded, coded, kept, pattern, 4)
        return result.places if isinstance(result, Sparse) else result.kind

    assert chosen("int8", (8, 100), 400, None) == Places(400, None)
    assert chosen("int8", (8, 100), 400, (2, 4)) == Places(400, (2, 4))
    # 12870 combinations have no number in a byte: a bit each.
    assert chosen("int8", (16, 100), 800, (8, 16)) == Places(800, None)
    assert chosen("int8", (8, 100), 700, None) == "coded"
    assert chosen("ternary", (8, 100), 400, None) == "coded"
    assert chosen("int4_asymmetric", (8, 100), 798, None) == Places(798, None)  # the mask is there anyway
    floats = Dense((8, 100))
    assert pruned_weight(floats, floats, 700, None, 4).kind == "sparse"
    assert pruned_weight(floats, floats, 760, None, 2).kind == "dense"


def test_a_mask_that_only_nearly_fits_is_told() -> None:
    mask = mask_of((2, 4), (3, 8))
    mask[0, 0] = ~mask[0, 0]
    assert not pattern_fits((2, 4), mask)
    assert not pattern_fits((2, 3), mask)
