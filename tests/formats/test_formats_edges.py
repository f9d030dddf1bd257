"""Zeros, NaNs, constants, few levels, other dtypes and layouts."""

from __future__ import annotations

import pytest
import torch

from xtc_ds.formats import ActivationFormat, Grouping, fake_quantize_weight, format_names, get_format

ALL = list(format_names())
INTEGERS = [name for name in ALL if name.startswith("int")]


def random_weights(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ALL)
def test_a_group_of_zeros_is_zeros_beside_a_group_that_is_not(name: str) -> None:
    w_GN = random_weights(3, 8)
    w_GN[1] = 0
    decoded = get_format(name).encode(w_GN).decode()
    assert torch.equal(decoded[1], torch.zeros(8))
    assert bool(decoded[[0, 2]].any(dim=1).all())
    assert bool(decoded.isfinite().all())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_single_zero(name: str, zero: float) -> None:
    assert get_format(name).encode(torch.tensor([[zero]])).decode().tolist() == [[0.0]]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_stays_visible_in_its_group_only(name: str, bad: float) -> None:
    w_GN = random_weights(3, 8)
    w_GN[1, 5] = bad
    decoded = get_format(name).encode(w_GN).decode()
    assert not bool(decoded[1].isfinite().all())
    assert bool(decoded[[0, 2]].isfinite().all())


@pytest.mark.parametrize("name", ALL)
def test_a_nan_among_zeros_stays_visible(name: str) -> None:
    w_GN = torch.zeros(1, 8)
    w_GN[0, 3] = float("nan")
    assert bool(get_format(name).encode(w_GN).decode().isnan().any())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-38, 1e-30, 1e30, 1e36])
def test_very_small_and_very_large_weights_stay_finite(name: str, size: float) -> None:
    w_GN = random_weights(4, 8).clamp(-3, 3) * size
    decoded = get_format(name).encode(w_GN).decode()
    assert bool(decoded.isfinite().all())
    assert bool((decoded.abs() <= 2 * w_GN.abs().amax(dim=1, keepdim=True)).all())


def test_the_sign_of_zero_is_plus_one() -> None:
    encoded = get_format("binary").encode(torch.tensor([[0.0, -0.0, 1.0, -1.0]]))
    assert encoded.codes.tolist() == [[1, 1, 1, -1]]
    assert encoded.decode().tolist() == [[0.5, 0.5, 0.5, -0.5]]


def test_binary_has_exactly_two_values_in_every_group() -> None:
    w_GN = random_weights(6, 64)
    w_GN[:, ::5] = 0
    decoded = get_format("binary").encode(w_GN).decode()
    assert [len(row.unique()) for row in decoded] == [2] * 6
    assert torch.allclose(decoded.abs(), w_GN.abs().mean(dim=1, keepdim=True), rtol=1e-6, atol=0)


def test_ternary_has_exactly_three_values_in_every_group() -> None:
    decoded = get_format("ternary").encode(random_weights(6, 64)).decode()
    for row in decoded:
        values = row.unique()
        assert len(values) == 3
        assert values[1] == 0
        assert values[0] == -values[2]


def test_the_ternary_threshold_is_strict() -> None:
    # mean 1, threshold 0.7 (as float32): a weight on it is dropped.
    threshold = float(torch.tensor(0.7))
    w_GN = torch.tensor([[threshold, 2 - threshold]])
    assert get_format("ternary").encode(w_GN).codes.tolist() == [[0, 1]]


@pytest.mark.parametrize("name", INTEGERS)
def test_an_integer_grid_has_no_more_values_than_codes(name: str) -> None:
    weight_format = get_format(name)
    levels = int(2**weight_format.bits)
    decoded = weight_format.encode(random_weights(2, 4096).clamp(-1, 1)).decode()
    for row in decoded:
        assert len(row.unique()) <= levels
        if weight_format.bits <= 4:
            assert len(row.unique()) == levels


@pytest.mark.parametrize("bits", range(2, 17))
def test_the_largest_positive_weight_is_clipped_by_one_step(bits: int) -> None:
    decoded = get_format(f"int{bits}").encode(torch.tensor([[1.0, -1.0]])).decode()
    assert decoded.tolist() == [[1 - 2.0 ** (1 - bits), -1.0]]


def test_ties_go_to_the_even_code() -> None:
    # step 1: 2 * 4 / 2**3
    w_GN = torch.tensor([[-4.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5]])
    assert get_format("int3").encode(w_GN).codes.tolist() == [[-4, -2, -2, 0, 0, 2, 2]]


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("value", [0.3, -7.25, 1e30, -1e-30])
def test_a_constant_group_is_kept_exactly_by_asymmetric_grids(bits: int, value: float) -> None:
    w_GN = torch.full((2, 5), value)
    w_GN[1] = random_weights(5)
    encoded = get_format(f"int{bits}_asymmetric").encode(w_GN)
    assert encoded.scale[0] == 0
    assert torch.equal(encoded.decode()[0], w_GN[0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_encoded_as_float32_and_decoded_to_what_is_asked(name: str, dtype: torch.dtype) -> None:
    w_GN = random_weights(3, 20).to(dtype)
    encoded, expected = get_format(name).encode(w_GN), get_format(name).encode(w_GN.float())
    assert torch.equal(encoded.codes, expected.codes)
    for part, values in expected.parts.items():
        assert encoded.parts[part].dtype == torch.float32
        assert torch.equal(encoded.parts[part], values)
    assert encoded.decode(dtype).dtype == dtype
    assert torch.equal(encoded.decode(dtype), expected.decode().to(dtype))
    assert fake_quantize_weight(w_GN, get_format(name), Grouping("row")).dtype == dtype


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["tensor", "row", "group"])
def test_a_layout_that_is_not_contiguous_changes_nothing(name: str, kind: str) -> None:
    grouping = Grouping(kind, 4)  # type: ignore[arg-type]
    for view in (random_weights(8, 6).t(), random_weights(6, 16)[:, ::2], random_weights(1, 8).expand(6, 8)):
        result = fake_quantize_weight(view, get_format(name), grouping)
        assert result.shape == view.shape
        assert torch.equal(result, fake_quantize_weight(view.contiguous(), get_format(name), grouping))


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_and_activations_are_on_the_same_grid(bits: int) -> None:
    x = random_weights(5, 12)
    assert torch.equal(ActivationFormat(bits).encode(x).decode(), get_format(f"int{bits}").encode(x).decode())
