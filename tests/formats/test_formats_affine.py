"""Codes are multiplied only where a format says that they may be; all others are decoded."""

from __future__ import annotations

import pytest

from xtc_ds.formats import ActivationFormat, Grouping, WeightFormat, format_names, get_format
from xtc_ds.formats.integer import IntegerFormat
from xtc_ds.kernels import product_is_integer
from xtc_ds.kernels.native.lookup import _stored
from xtc_ds.kernels.triton import takes_weight


class CurvedGrid(IntegerFormat):
    """Looks like int4 in everything but in what its codes stand for, and says nothing about it."""

    affine = WeightFormat.affine

    def __init__(self) -> None:
        super().__init__(4)
        self.name = "curved4"


def test_our_formats_are_affine() -> None:
    assert all(get_format(name).affine for name in format_names())


@pytest.mark.parametrize("per", ["row", "tensor"])
def test_a_format_that_says_nothing_is_not_multiplied(per: str) -> None:
    grouping = Grouping(per)  # type: ignore[arg-type]
    assert product_is_integer(get_format("int4"), grouping, ActivationFormat(8))
    assert takes_weight(get_format("int4"), grouping, (8, 8))
    assert _stored(get_format("int4")) is not None
    assert not product_is_integer(CurvedGrid(), grouping, ActivationFormat(8))
    assert not takes_weight(CurvedGrid(), grouping, (8, 8))
    assert _stored(CurvedGrid()) is None
