"""What encode computes, against slow twins of the documented formulas, and what holds for any weights."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtc_ds.formats import Encoded, get_format

SLOW_BUT_SURE = settings(deadline=None, max_examples=25)
BITS = [*range(2, 9), 11, 16]
SYMMETRIC = [f"int{bits}" for bits in BITS]
ASYMMETRIC = [f"int{bits}_asymmetric" for bits in BITS]
ALL = ["binary", "ternary", *SYMMETRIC, *ASYMMETRIC]
F32 = np.float32

# Multiples of 1/256: sums of a few are exact in float32 in any order, so the twins can ask for equal bits.
GRID = st.integers(-512, 512).map(lambda k: k / 256)


@st.composite
def rows(draw: st.DrawFn, value: st.SearchStrategy[float] = GRID) -> Tensor:
    """(G, N), float32."""
    groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    values = draw(st.lists(value, min_size=groups * size, max_size=groups * size))
    return torch.tensor(values, dtype=torch.float32).reshape(groups, size)


def rounded(value: Fraction) -> np.float32:
    """To the nearest float32 (through float64, which is wide enough for a quotient of small integers)."""
    return F32(value.numerator / value.denominator)


def twin_binary(row: list[float]) -> tuple[list[int], np.float32]:
    alpha = rounded(sum((abs(Fraction(w)) for w in row), Fraction(0)) / len(row))
    return [1 if w >= 0 else -1 for w in row], alpha


def twin_ternary(row: list[float]) -> tuple[list[int], np.float32]:
    mean = rounded(sum((abs(Fraction(w)) for w in row), Fraction(0)) / len(row))
    threshold = F32(0.7) * mean
    kept = [abs(Fraction(w)) for w in row if abs(F32(w)) > threshold]
    alpha = rounded(sum(kept, Fraction(0)) / len(kept)) if kept else F32(0)
    return [(1 if w > 0 else -1) if abs(F32(w)) > threshold else 0 for w in row], alpha


def twin_symmetric(row: list[float], bits: int) -> tuple[list[int], np.float32]:
    scale = F32(2 * max(abs(w) for w in row)) / F32(2**bits)
    if scale == 0:
        return [0] * len(row), scale
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return [min(max(int(np.rint(F32(w) / scale)), low), high) for w in row], scale


def twin_asymmetric(row: list[float], bits: int) -> tuple[list[int], np.float32, np.float32]:
    scale = (F32(max(row)) - F32(min(row))) / F32(2**bits)
    if scale == 0:
        return [0] * len(row), scale, F32(row[0])
    zero = np.rint(F32(min(row)) / scale) * scale
    return [min(max(int(np.rint((F32(w) - zero) / scale)), 0), 2**bits - 1) for w in row], scale, zero


def assert_is(encoded: Encoded, codes: list[list[int]], scales: list[np.float32]) -> None:
    assert encoded.codes.tolist() == codes
    assert encoded.scale.dtype == torch.float32
    assert encoded.scale.shape == (len(scales), 1)
    assert encoded.scale.flatten().tolist() == [float(scale) for scale in scales]


@SLOW_BUT_SURE
@given(w_GN=rows())
def test_binary_is_its_formula(w_GN: Tensor) -> None:
    encoded = get_format("binary").encode(w_GN)
    twins = [twin_binary(row) for row in w_GN.tolist()]
    assert_is(encoded, [codes for codes, _ in twins], [alpha for _, alpha in twins])
    assert encoded.parts.keys() == {"scale"}
    expected = [[code * float(alpha) for code in codes] for codes, alpha in twins]
    assert torch.equal(encoded.decode(), torch.tensor(expected))


@SLOW_BUT_SURE
@given(w_GN=rows())
def test_ternary_is_its_formula(w_GN: Tensor) -> None:
    encoded = get_format("ternary").encode(w_GN)
    twins = [twin_ternary(row) for row in w_GN.tolist()]
    assert_is(encoded, [codes for codes, _ in twins], [alpha for _, alpha in twins])
    expected = [[code * float(alpha) for code in codes] for codes, alpha in twins]
    assert torch.equal(encoded.decode(), torch.tensor(expected))


@pytest.mark.parametrize("bits", BITS)
@SLOW_BUT_SURE
@given(w_GN=rows())
def test_symmetric_is_its_formula(bits: int, w_GN: Tensor) -> None:
    encoded = get_format(f"int{bits}").encode(w_GN)
    twins = [twin_symmetric(row, bits) for row in w_GN.tolist()]
    assert_is(encoded, [codes for codes, _ in twins], [scale for _, scale in twins])
    assert encoded.parts.keys() == {"scale"}
    expected = [[float(F32(code) * scale) for code in codes] for codes, scale in twins]
    assert torch.equal(encoded.decode(), torch.tensor(expected))


@pytest.mark.parametrize("bits", BITS)
@SLOW_BUT_SURE
@given(w_GN=rows())
def test_asymmetric_is_its_formula(bits: int, w_GN: Tensor) -> None:
    encoded = get_format(f"int{bits}_asymmetric").encode(w_GN)
    twins = [twin_asymmetric(row, bits) for row in w_GN.tolist()]
    shift = 2 ** (bits - 1)
    assert_is(encoded, [[code - shift for code in codes] for codes, _, _ in twins], [twin[1] for twin in twins])
    assert encoded.parts["zero"].flatten().tolist() == [float(zero) for _, _, zero in twins]
    expected = [[float(F32(code) * scale + zero) for code in codes] for codes, scale, zero in twins]
    assert torch.equal(encoded.decode(), torch.tensor(expected))


FLOATS = st.floats(-100, 100, width=32).filter(lambda w: w == 0 or abs(w) > 1e-20)


@pytest.mark.parametrize("name", ALL)
@SLOW_BUT_SURE
@given(w_GN=rows(FLOATS))
def test_any_weights_give_codes_in_range_and_finite_values(name: str, w_GN: Tensor) -> None:
    weight_format = get_format(name)
    before = w_GN.clone()
    encoded = weight_format.encode(w_GN)
    assert torch.equal(w_GN, before)
    assert encoded.codes.shape == w_GN.shape
    assert encoded.codes.dtype == (torch.int8 if weight_format.bits <= 8 else torch.int32)
    weight_format.check_codes(encoded.codes)
    assert bool((encoded.scale >= 0).all())
    assert tuple(encoded.parts) == tuple(part.name for part in weight_format.parts)
    assert encoded.format is weight_format
    values = encoded.decode()
    assert values.dtype == torch.float32
    assert bool(values.isfinite().all())
    if weight_format.bits <= 8:
        codes = weight_format.unpack(weight_format.pack(encoded.codes), w_GN.numel()).reshape(w_GN.shape)
        assert torch.equal(Encoded(codes, encoded.parts, weight_format).decode(), values)


@pytest.mark.parametrize("name", SYMMETRIC + ASYMMETRIC)
@SLOW_BUT_SURE
@given(w_GN=rows(FLOATS))
def test_integer_grids_are_half_a_step_off_except_at_the_clipped_top(name: str, w_GN: Tensor) -> None:
    encoded = get_format(name).encode(w_GN)
    error = (encoded.decode().double() - w_GN.double()).abs()
    clipped = encoded.codes == get_format(name).code_range[1]
    # The top of the grid is a step short of the largest weight; the asymmetric zero may be half a step off too.
    steps = torch.where(clipped, 1.5, 0.5)
    assert bool((error <= steps * encoded.scale + 1e-6 * w_GN.abs().amax(dim=1, keepdim=True)).all())


@pytest.mark.parametrize("name", ["binary", "ternary"])
@SLOW_BUT_SURE
@given(w_GN=rows(FLOATS))
def test_encoding_twice_gives_the_same_codes(name: str, w_GN: Tensor) -> None:
    once = get_format(name).encode(w_GN)
    twice = get_format(name).encode(once.decode())
    assert torch.equal(twice.codes, once.codes)
    assert torch.allclose(twice.scale, once.scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", SYMMETRIC)
@SLOW_BUT_SURE
@given(w_GN=rows(FLOATS))
def test_symmetric_encoding_twice_is_the_same_where_the_largest_weight_is_negative(name: str, w_GN: Tensor) -> None:
    # Otherwise the largest weight was clipped, and the second scale is smaller.
    largest = w_GN.abs().amax(dim=1, keepdim=True)
    once = get_format(name).encode(torch.cat([w_GN, -largest], dim=1))
    twice = get_format(name).encode(once.decode())
    assert torch.equal(twice.codes, once.codes)
    assert torch.equal(twice.scale, once.scale)


@pytest.mark.parametrize("name", ALL)
@SLOW_BUT_SURE
@given(w_GN=rows())
def test_groups_do_not_see_each_other(name: str, w_GN: Tensor) -> None:
    whole = get_format(name).encode(w_GN).decode()
    for index in range(len(w_GN)):
        assert torch.equal(get_format(name).encode(w_GN[index : index + 1]).decode(), whole[index : index + 1])


@pytest.mark.parametrize("name", ALL)
@SLOW_BUT_SURE
@given(w_GN=rows(), power=st.integers(-60, 60))
def test_a_power_of_two_passes_through(name: str, w_GN: Tensor, power: int) -> None:
    plain, scaled = (get_format(name).encode(w) for w in (w_GN, w_GN * 2.0**power))
    assert torch.equal(scaled.codes, plain.codes)
    assert torch.equal(scaled.decode(), plain.decode() * 2.0**power)
