"""The backward of a product of codes in a type by choice: what is rounded, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import xtc_ds.kernels.backward as backward
from tests.kernels.backends import native_and_torch
from xtc_ds.kernels.backward import gradients
from xtc_ds.kernels.native import CodePlanes, native_library

BOTH = (True, True)


backend = native_and_torch(backward)


def operands(low: int = -127, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x_codes_TI": torch.randint(-127, 128, (70, 48), generator=generator).to(torch.int8),
        "x_scale_T1": torch.rand(70, 1, generator=generator) + 0.01,
        "w_codes_OI": torch.randint(low, 128, (33, 48), generator=generator).to(torch.int8),
        "w_scale_O": torch.rand(33, generator=generator) + 0.01,
    }


def exact(grad: Tensor, x_codes_TI: Tensor, x_scale_T1: Tensor, w_codes_OI: Tensor, w_scale_O: Tensor) -> list[Tensor]:
    grad = grad.double()
    w, x = w_codes_OI.double() * w_scale_O.double()[:, None], x_codes_TI.double() * x_scale_T1.double()
    return [grad @ w, grad.t() @ x]


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("grad_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("dtype", "most"), [(None, 5e-7), (torch.float32, 5e-7), (torch.bfloat16, 4e-3)])
def test_gradients_are_as_exact_as_their_type(
    dtype: torch.dtype | None, most: float, grad_dtype: torch.dtype, columns: bool, backend: str
) -> None:
    given = operands()
    grad = torch.randn(70, 33, generator=torch.Generator().manual_seed(1)).to(grad_dtype)
    rounds = dtype or grad_dtype
    made = gradients(grad, **given, needed=BOTH, dtype=dtype, columns=columns)
    assert made[1] is not None and (made[1].t() if columns else made[1]).is_contiguous()
    for found, wanted in zip(made, exact(grad, **given), strict=True):
        assert found is not None
        assert found.shape == wanted.shape
        assert found.dtype == rounds
        assert error(found, wanted) < (most if rounds == torch.float32 else 4e-3)


def test_bfloat16_rounds_only_the_gradient_and_the_result(backend: str) -> None:
    given = operands()
    # Powers of two: a gradient of few digits stays exact when it takes over the scales.
    given["x_scale_T1"], given["w_scale_O"] = torch.full((70, 1), 0.25), torch.full((33,), 2.0)
    grad = torch.randint(-8, 9, (70, 33), generator=torch.Generator().manual_seed(1)).float()
    for found, wanted in zip(
        gradients(grad, **given, needed=BOTH, dtype=torch.bfloat16), exact(grad, **given), strict=True
    ):
        assert found is not None
        assert torch.equal(found, wanted.to(torch.bfloat16))


def test_both_ways_round_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    if native_library() is None:
        pytest.skip("no C compiler here")
    given, grad = operands(), torch.randn(33, 70).t()
    grad[0, 0], grad[1, 1] = float("nan"), float("inf")
    native = gradients(grad, **given, needed=BOTH, dtype=torch.bfloat16)
    monkeypatch.setattr(backward, "native_library", lambda: None)
    for one, other in zip(native, gradients(grad, **given, needed=BOTH, dtype=torch.bfloat16), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
        assert torch.equal(one.isnan(), other.isnan())


@pytest.mark.parametrize(("bits", "low", "high"), [(1, -1, 1), (2, -1, 2), (4, -8, 7)])
def test_codes_in_few_bits_are_the_same_codes(bits: int, low: int, high: int) -> None:
    if native_library() is None:
        pytest.skip("no C compiler here")
    for outputs, inputs in ((1, 1), (3, 7), (16, 64), (33, 48), (5, 771)):
        codes = torch.randint(low, high + 1, (outputs, inputs), generator=torch.Generator().manual_seed(inputs))
        codes = codes.to(torch.int8) if bits > 1 else codes.ge(0).to(torch.int8) * 2 - 1
        planes, scale = CodePlanes.of(codes, bits), torch.rand(outputs)
        assert planes.planes.shape == (outputs, -(-inputs * bits // 8))
        assert torch.equal(planes.decode(None, torch.float32), codes.float())
        for dtype in (torch.float32, torch.bfloat16):
            assert torch.equal(planes.decode(scale, dtype), (codes * scale[:, None]).to(dtype))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradients_of_codes_in_few_bits_are_the_same(grad_dtype: torch.dtype, dtype: torch.dtype | None) -> None:
    if native_library() is None:
        pytest.skip("no C compiler here")
    given, grad = operands(), torch.randn(70, 33).to(grad_dtype)
    given["w_codes_OI"] = given["w_codes_OI"].sign()
    few: Any = {**given, "w_codes_OI": CodePlanes.of(given["w_codes_OI"], 2)}
    for one, other in zip(
        gradients(grad, **few, needed=BOTH, dtype=dtype),
        gradients(grad, **given, needed=BOTH, dtype=dtype),
        strict=True,
    ):
        assert torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_what_nobody_needs_is_not_computed(dtype: torch.dtype | None, backend: str) -> None:
    given, grad = operands(), torch.randn(70, 33)
    grad_x, grad_w = gradients(grad, **given, needed=BOTH, dtype=dtype)
    for needed in ((True, False), (False, True), (False, False)):
        x_alone, w_alone = gradients(grad, **given, needed=needed, dtype=dtype)
        assert (x_alone is not None, w_alone is not None) == needed
        assert x_alone is None or torch.equal(x_alone, grad_x)  # type: ignore[arg-type]
        assert w_alone is None or torch.equal(w_alone, grad_w)  # type: ignore[arg-type]


def test_compiled_as_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "native_library", lambda: None)
    given, grad = operands(), torch.randn(70, 33)
    compiled: Any = torch.compile(gradients, backend="aot_eager", fullgraph=True)
    one = compiled(grad, **given, needed=BOTH, dtype=torch.bfloat16)
    for found, wanted in zip(one, gradients(grad, **given, needed=BOTH, dtype=torch.bfloat16), strict=True):
        assert torch.equal(found, wanted)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_the_sums_come_out_in_float32() -> None:
    given, grad = operands(), torch.randn(70, 33)
    there = {name: tensor.cuda() for name, tensor in given.items()}
    found = gradients(grad.cuda(), **there, needed=BOTH, dtype=torch.bfloat16)
    for one, wanted in zip(found, exact(grad, **given), strict=True):
        assert one is not None
        assert one.dtype == torch.float32
        assert error(one.cpu(), wanted) < 3e-3
