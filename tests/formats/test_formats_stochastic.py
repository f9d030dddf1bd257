"""Stochastic rounding: kept in the mean, and a function of (module, step, place) alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtc_ds.formats import (
    AffineFormat,
    Grouping,
    fake_quantize_weight,
    format_names,
    get_format,
    rounding_seed,
    uniform_noise,
)

GRIDS = [f"int{bits}{kind}" for bits in (2, 3, 4, 8, 12) for kind in ("", "_asymmetric")]


def noise_for(w: Tensor, seed: int) -> Tensor:
    return uniform_noise(seed, torch.arange(len(w)), w.shape[1])


@pytest.mark.parametrize("name", GRIDS)
def test_a_weight_becomes_one_of_its_two_neighbours_on_the_grid(name: str) -> None:
    w_GN = torch.randn(4, 256)
    fmt = get_format(name)
    encoded = fmt.encode_stochastic(w_GN, noise_for(w_GN, 5))
    nearest = fmt.encode(w_GN)
    assert torch.equal(encoded.scale, nearest.scale)
    assert isinstance(fmt, AffineFormat)
    place = (w_GN - encoded.parts.get("zero", torch.zeros(()))) / encoded.scale - fmt.code_offset
    low = place.floor()
    bottom, top = fmt.code_range
    assert bool(((encoded.codes == low.clamp(bottom, top)) | (encoded.codes == (low + 1).clamp(bottom, top))).all())
    assert not torch.equal(encoded.codes, nearest.codes)


@pytest.mark.parametrize("name", ["int4", "int4_asymmetric"])
def test_the_chance_of_rounding_up_is_the_fraction_exactly(name: str) -> None:
    # Steps of 1 on both grids: the range is -8 to 8, and the numbers 0, 1/64 ... 63/64 stand for every draw once.
    draws = torch.arange(64) / 64
    for sixteenths in range(-5 * 16, 5 * 16):
        w_GN = torch.tensor([-8.0, 8.0, sixteenths / 16]).expand(64, 3)
        encoded = get_format(name).encode_stochastic(w_GN, draws[:, None].expand(64, 3))
        values = encoded.decode()[:, 2]
        assert float(values.sum()) == 4 * sixteenths
        assert set(values.tolist()) <= {float(sixteenths // 16), float(sixteenths // 16 + 1)}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_the_mean_over_many_seeds_is_the_weight(name: str) -> None:
    w_GN = torch.randn(1, 64)
    w_GN[0, 0], w_GN[0, 1] = -4.0, 4.0
    seeds = 3000
    rows = torch.cat([uniform_noise(seed, torch.arange(1), 64) for seed in range(seeds)])
    encoded = get_format(name).encode_stochastic(w_GN.expand(seeds, 64), rows)
    inside = slice(2, 64)  # the ends of the range are clipped
    mean, step = encoded.decode().double().mean(0), float(encoded.scale[0])
    # One draw deviates by at most half a step: five standard errors of the mean.
    allowed = 5 * 0.5 * step / seeds**0.5
    values = w_GN[0, inside]
    reached = values < float(encoded.decode().max())
    assert bool(((mean[inside] - values).abs() <= allowed)[reached].all())
    assert int(reached.sum()) > 50


@pytest.mark.parametrize("name", GRIDS)
def test_weights_on_the_grid_stay(name: str) -> None:
    fmt = get_format(name)
    w_GN = torch.arange(*fmt.code_range, 2 ** max(0, int(fmt.bits) - 8)).float()[None]
    w_GN[0, 0] = fmt.code_range[0]
    w_GN = torch.cat([w_GN, torch.full((1, 1), -fmt.code_range[0])], 1)
    assert torch.equal(fmt.encode_stochastic(w_GN, noise_for(w_GN, 1)).codes, fmt.encode(w_GN).codes)


@pytest.mark.parametrize("name", ["binary", "ternary"])
def test_formats_without_a_grid_round_nothing(name: str) -> None:
    fmt = get_format(name)
    w_GN = torch.randn(3, 20)
    assert not fmt.has_grid
    assert torch.equal(fmt.encode_stochastic(w_GN, noise_for(w_GN, 1)).codes, fmt.encode(w_GN).codes)


def test_every_integer_format_has_a_grid() -> None:
    assert {name for name in format_names() if get_format(name).has_grid} == {
        name for name in format_names() if name.startswith("int")
    }


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_constant_group_gives_no_nan(name: str, value: float) -> None:
    w_GN = torch.full((2, 6), value)
    decoded = get_format(name).encode_stochastic(w_GN, noise_for(w_GN, 3)).decode()
    assert bool(decoded.isfinite().all())
    if value == 0 or name.endswith("asymmetric"):
        assert torch.equal(decoded, w_GN)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8), st.integers(1, 40))
def test_a_row_draws_the_same_numbers_whichever_rows_are_beside_it(seed: int, rows: list[int], columns: int) -> None:
    together = uniform_noise(seed, torch.tensor(rows), columns)
    alone = torch.cat([uniform_noise(seed, torch.tensor([row]), columns) for row in rows])
    assert torch.equal(together, alone)
    assert together.shape == (len(rows), columns)
    assert bool(((together >= 0) & (together < 1)).all())


def test_numbers_are_uniform_and_differ_between_seeds_rows_and_columns() -> None:
    first, second = (uniform_noise(rounding_seed("layer", step), torch.arange(256), 1024) for step in (1, 2))
    counts = torch.histc(first, 64, 0, 1)
    expected = first.numel() / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 63 + 5 * (2 * 63) ** 0.5
    pairs = {"seeds": (first, second), "rows": (first[1:], first[:-1]), "columns": (first[:, 1:], first[:, :-1])}
    for name, (a, b) in pairs.items():
        correlation = float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
        assert abs(correlation) < 5 / a.numel() ** 0.5, name


def slow_hash(x: int) -> int:
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def slow_noise(seed: int, row: int, column: int) -> float:
    """The same numbers from Python's unbounded integers."""
    key = slow_hash(slow_hash(row ^ seed % 2**32) ^ seed >> 32)
    return (slow_hash(slow_hash(column) ^ key) >> 8) / 2**24


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**31 - 1), st.integers(0, 30))
def test_the_numbers_are_the_same_on_every_machine(seed: int, row: int, column: int) -> None:
    assert float(uniform_noise(seed, torch.tensor([row]), 31)[0, column]) == slow_noise(seed, row, column)


def test_the_seed_is_of_the_module_and_the_step() -> None:
    seeds = {rounding_seed(module, step) for module in ("a", "b", "a1") for step in (0, 1, 10)}
    assert len(seeds) == 9
    assert rounding_seed("bert.pooler.dense", 7) == 12234970663169181100
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_the_gradient_passes_through_random_rounding_and_mixing() -> None:
    w = torch.randn(4, 6, dtype=torch.float16).requires_grad_()
    incoming = torch.randn(4, 6).half()
    fake_quantize_weight(w, get_format("int3"), Grouping(), noise_for(w, 2), 0.3).backward(incoming)  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert torch.equal(w.grad, incoming)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_share_of_the_float_weight_is_mixed_in(dtype: torch.dtype) -> None:
    w = torch.randn(4, 6).to(dtype)
    w_hat = fake_quantize_weight(w, get_format("int3"), Grouping())
    mixed = fake_quantize_weight(w, get_format("int3"), Grouping(), float_share=0.25)
    assert torch.equal(mixed, 0.25 * w + 0.75 * w_hat)
    assert mixed.dtype == dtype
    assert torch.equal(fake_quantize_weight(w, get_format("int3"), Grouping(), float_share=0.0), w_hat)
