"""The registry, what bits mean, and which weights share a scale."""

from __future__ import annotations

import math

import pytest
import torch

from xtc_ds.errors import FormatError
from xtc_ds.formats import Grouping, format_for_bits, format_names, get_format, register_format


def test_names_give_the_format_of_that_name() -> None:
    for name in format_names():
        weight_format = get_format(name)
        assert weight_format.name == name
        low, high = weight_format.code_range
        assert low < high
        assert weight_format.bits == pytest.approx(math.log2(high - low + 1 - (name == "binary")))
        shifted = name.endswith("_asymmetric")
        parts = [part.name for part in weight_format.parts]
        if weight_format.affine:
            assert parts == (["scale", "zero"] if shifted else ["scale"])
            assert weight_format.scaled_codes != shifted
            assert (weight_format.zero_format is None) == shifted
        else:
            assert (parts, weight_format.scaled_codes) == (["codebook"], False)
        assert name in repr(weight_format)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FormatError, match=r"'nf4'.*binary, ternary.*int8_asymmetric"):
        get_format("nf4")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(FormatError, match="'binary' is registered already"):
        register_format(get_format("binary"))


@pytest.mark.parametrize(
    ("bits", "symmetric", "family", "name"),
    [
        (1, True, "auto", "binary"),
        (1.58, True, "auto", "ternary"),
        (math.log2(3), True, "auto", "ternary"),
        (2, True, "auto", "ternary"),
        (2, True, "ternary", "ternary"),
        (2, True, "integer", "int2"),
        (2, False, "auto", "int2_asymmetric"),
        (3, True, "auto", "int3"),
        (3.0, False, "auto", "int3_asymmetric"),
        (8, True, "auto", "int8"),
        (16, True, "integer", "int16"),
    ],
)
def test_bits_of_a_config(bits: float, symmetric: bool, family: str, name: str) -> None:
    assert format_for_bits(bits, symmetric, family).name == name


@pytest.mark.parametrize("bits", [0, -3, 0.5, 2.5, 17, math.nan, math.inf])
def test_bits_that_mean_nothing(bits: float) -> None:
    with pytest.raises(FormatError):
        format_for_bits(bits)


@pytest.mark.parametrize(
    ("grouping", "shape", "count"),
    [
        (Grouping(), (4, 6), 1),
        (Grouping("tensor"), (5,), 1),
        (Grouping("row"), (4, 6), 4),
        (Grouping("group", 1), (4, 6), 1),
        (Grouping("group", 3), (4, 6), 3),
        (Grouping("group", 8), (4, 6), 8),
        (Grouping("group", 24), (4, 6), 24),
    ],
)
def test_groups_are_contiguous_runs_of_the_flattened_weight(
    grouping: Grouping, shape: tuple[int, ...], count: int
) -> None:
    w = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    split = grouping.split(w)
    assert grouping.count(shape) == count == split.shape[0]
    assert torch.equal(split.flatten(), w.flatten())
    assert split.data_ptr() == w.data_ptr()


@pytest.mark.parametrize("groups", [0, -1, 5, 7, 25])
def test_groups_that_do_not_divide_the_weight(groups: int) -> None:
    with pytest.raises(FormatError, match=rf"^{groups} groups do not divide the 24 weights of shape \(4, 6\)"):
        Grouping("group", groups).split(torch.zeros(4, 6))


def test_only_tensor_and_row_allow_rescaling_after_a_product() -> None:
    assert Grouping("tensor").per_row
    assert Grouping("row").per_row
    assert not Grouping("group", 4).per_row


def test_a_transposed_weight_is_grouped_as_its_contiguous_copy() -> None:
    w = torch.arange(24.0).reshape(6, 4).t()
    assert torch.equal(Grouping("row").split(w), w.contiguous())
    assert torch.equal(Grouping("group", 8).split(w), w.contiguous().reshape(8, 3))
