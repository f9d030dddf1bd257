"""Fake quantization of weights and activations: the forward value, and the gradient straight through."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from xtc_ds.errors import FormatError
from xtc_ds.formats import (
    ActivationFormat,
    Grouping,
    fake_quantize_activation,
    fake_quantize_weight,
    format_names,
    get_format,
)

GROUPINGS = [Grouping(), Grouping("row"), Grouping("group", 3)]
ACTIVATIONS = [ActivationFormat(bits, symmetric) for bits in (4, 8) for symmetric in (True, False)]


def as_static(dynamic: ActivationFormat) -> ActivationFormat:
    return ActivationFormat(dynamic.bits, dynamic.symmetric, "static")


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_grid(x: list[float], low: float, high: float, bits: int, symmetric: bool) -> list[float]:
    """The documented grids in float64, one value at a time."""
    if symmetric:
        scale, zero = 2 * max(abs(low), abs(high)) / 2**bits, 0.0
        codes = [min(max(round(v / scale), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1) for v in x]
    else:
        scale = (high - low) / 2**bits
        zero = round(low / scale) * scale
        codes = [min(max(round((v - zero) / scale), 0), 2**bits - 1) for v in x]
    return [code * scale + zero for code in codes]


@pytest.mark.parametrize("name", format_names())
@pytest.mark.parametrize("grouping", GROUPINGS, ids=lambda grouping: grouping.kind)
def test_weights_forward_and_gradient(name: str, grouping: Grouping) -> None:
    w = random_tensor(6, 10).requires_grad_()
    result = fake_quantize_weight(w, get_format(name), grouping)
    encoded = get_format(name).encode(w.detach().reshape(grouping.count((6, 10)), -1))
    assert torch.equal(result, encoded.decode().reshape(6, 10))
    incoming = random_tensor(6, 10, seed=1) * 1e3
    result.backward(incoming)  # type: ignore[no-untyped-call]
    assert w.grad is not None
    assert torch.equal(w.grad, incoming)


def test_weights_without_gradient() -> None:
    w = random_tensor(4, 4)
    assert not fake_quantize_weight(w, get_format("binary"), Grouping()).requires_grad


def test_the_result_is_no_view_of_the_weight() -> None:
    w = torch.tensor([[1.0, -1.0]])
    fake_quantize_weight(w, get_format("binary"), Grouping()).zero_()
    assert w.tolist() == [[1.0, -1.0]]


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(FormatError, match="7 groups"):
        fake_quantize_weight(random_tensor(4, 5), get_format("int8"), Grouping("group", 7))


@pytest.mark.parametrize("calibration", ["dynamic", "static"])
@pytest.mark.parametrize("dynamic", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (2, 2, 2, 4), (1, 1)])
def test_activations_forward_and_gradient(
    dynamic: ActivationFormat, calibration: Literal["dynamic", "static"], shape: tuple[int, ...]
) -> None:
    x = random_tensor(*shape).requires_grad_()
    fmt, range_ = (dynamic, None) if calibration == "dynamic" else (as_static(dynamic), torch.tensor([-1.5, 2.0]))
    result = fake_quantize_activation(x, fmt, range_)
    assert result.shape == x.shape
    assert result.dtype == x.dtype

    incoming = random_tensor(*shape, seed=1) * 1e3
    result.backward(incoming)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad, incoming)

    expected = []
    for token in x.detach().reshape(-1, shape[-1]).double().tolist():
        low, high = (min(token), max(token)) if range_ is None else (-1.5, 2.0)
        is_constant = low == high and not fmt.symmetric
        expected.append(token if is_constant else slow_grid(token, low, high, fmt.bits, fmt.symmetric))
    assert torch.allclose(result.detach().double(), torch.tensor(expected).double().reshape(shape), atol=1e-6)


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_every_token_has_its_own_scale(fmt: ActivationFormat) -> None:
    x = random_tensor(2, 3, 8) * torch.tensor([1e-3, 1.0, 1e3]).reshape(1, 3, 1)
    whole = fake_quantize_activation(x, fmt)
    assert fmt.encode(x).scale.shape == (6, 1)
    for batch in range(2):
        for token in range(3):
            assert torch.equal(fake_quantize_activation(x[batch, token], fmt), whole[batch, token])
    # Padding or shuffling the batch cannot change a token.
    assert torch.equal(fake_quantize_activation(x.flip(0, 1), fmt).flip(0, 1), whole)


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_a_token_of_zeros_stays_zeros(fmt: ActivationFormat) -> None:
    x = random_tensor(4, 8)
    x[2] = 0
    result = fake_quantize_activation(x, fmt)
    assert torch.equal(result[2], torch.zeros(8))
    assert bool(result.isfinite().all())


@pytest.mark.parametrize("fmt", [fmt for fmt in ACTIVATIONS if not fmt.symmetric], ids=str)
def test_a_constant_token_is_kept_by_asymmetric_grids(fmt: ActivationFormat) -> None:
    x = torch.full((2, 3), 0.3)
    assert torch.equal(fake_quantize_activation(x, fmt), x)
    static = fake_quantize_activation(torch.tensor([[0.1, 0.3, 0.9]]), as_static(fmt), torch.tensor([0.3, 0.3]))
    assert torch.equal(static, torch.full((1, 3), 0.3))


@pytest.mark.parametrize("fmt", ACTIVATIONS + [as_static(fmt) for fmt in ACTIVATIONS], ids=str)
@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8)])
def test_no_tokens_at_all(fmt: ActivationFormat, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, requires_grad=True)
    result = fake_quantize_activation(x, fmt, torch.tensor([-1.0, 1.0]))
    assert result.shape == shape
    result.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_values_outside_a_static_range_are_clipped(fmt: ActivationFormat) -> None:
    result = fake_quantize_activation(torch.tensor([[-9.0, -1.0, 9.0]]), as_static(fmt), torch.tensor([-1.0, 1.0]))
    top = 1 - 2 / 2**fmt.bits
    assert result.tolist() == [[-1.0, -1.0, top]]


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_the_static_range_of_the_batch_equals_dynamic_on_one_token(fmt: ActivationFormat) -> None:
    x = random_tensor(1, 16)
    range_ = torch.stack([x.min(), x.max()])
    assert torch.equal(fake_quantize_activation(x, as_static(fmt), range_), fake_quantize_activation(x, fmt))


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_bfloat16_activations_are_computed_in_float32(fmt: ActivationFormat) -> None:
    x = random_tensor(3, 16).bfloat16()
    result = fake_quantize_activation(x, fmt)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, fake_quantize_activation(x.float(), fmt).bfloat16())


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_a_transposed_activation(fmt: ActivationFormat) -> None:
    x = random_tensor(8, 5, 3).transpose(0, 1)
    assert torch.equal(fake_quantize_activation(x, fmt), fake_quantize_activation(x.contiguous(), fmt))


@pytest.mark.parametrize("fmt", ACTIVATIONS, ids=str)
def test_a_nan_spoils_its_own_token_only(fmt: ActivationFormat) -> None:
    x = random_tensor(3, 8)
    x[1, 4] = float("nan")
    result = fake_quantize_activation(x, fmt)
    assert bool(result[1].isnan().any())
    assert bool(result[[0, 2]].isfinite().all())
