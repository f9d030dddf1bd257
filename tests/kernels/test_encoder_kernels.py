"""Attention, GELU and normalization on the native kernel against double precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xtc_ds.kernels.attention import attend, can_attend
from xtc_ds.kernels.encoder import add_norm_, encoder_kernel_works, gelu_

if not encoder_kernel_works(torch.zeros(1)):
    pytest.skip("needs a processor with AVX-512 VNNI and a C compiler", allow_module_level=True)


def heads(batch: int, count: int, tokens: int, features: int) -> Tensor:
    """(B, H, T, D), laid out as a linear layer gives it."""
    return torch.randn(batch, tokens, count, features).transpose(1, 2)


def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = scale * q.double() @ k.double().transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1).nan_to_num() @ v.double()).transpose(1, 2)


@pytest.mark.parametrize("threads", [1, 3])
def test_attention(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch, count, queries, keys, features in (
            (1, 1, 1, 1, 32), (2, 3, 7, 7, 32), (1, 2, 64, 64, 64), (1, 5, 65, 130, 96), (3, 4, 128, 100, 64),
        ):  # fmt: skip
            q, k, v = heads(batch, count, queries, features), *(heads(batch, count, keys, features) for _ in range(2))
            rows = torch.rand(batch, 1, 1, keys) > 0.4
            pairs = torch.rand(batch, count, queries, keys) > 0.4
            pairs[0, 0, 0] = False
            strided = pairs.transpose(0, 1).contiguous().transpose(0, 1)
            for mask in (None, rows, pairs, rows.expand(batch, count, queries, keys), strided):
                assert can_attend(q, k, v, mask)
                found = attend(q, k, v, mask, 0.3)
                assert found.is_contiguous()
                assert (found - exact(q, k, v, mask, 0.3)).abs().max() < 1e-5
    finally:
        torch.set_num_threads(before)


def test_large_scores_and_nan() -> None:
    q, k, v = (heads(1, 1, 20, 32) for _ in range(3))
    assert (attend(40 * q, 40 * k, v, None, 1.0) - exact(40 * q, 40 * k, v, None, 1.0)).abs().max() < 1e-4
    q[0, 0, 3, 5] = float("nan")
    found = attend(q, k, v, None, 1.0)
    assert found[0, 3].isnan().all()
    assert found[0, [*range(3), *range(4, 20)]].isfinite().all()


def test_what_attention_does_not_take() -> None:
    q, k, v = (heads(1, 2, 5, 32) for _ in range(3))
    assert not can_attend(q.double(), k.double(), v.double(), None)
    assert not can_attend(q[..., :20], k[..., :20], v[..., :20], None)
    assert not can_attend(q, k[:, :1], v[:, :1], None)
    assert not can_attend(q, k, v, torch.zeros(1, 1, 5, 5))
    assert not can_attend(q.detach().requires_grad_(), k, v, None)
    assert not can_attend(q, k[:, :, :0], v[:, :, :0], None)


def test_gelu_is_nearer_to_the_truth_than_torch() -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, 1e-30, 300.0, -300.0])]).reshape(2, -1)
    truth = F.gelu(x.double())
    error = (gelu_(x.clone()) - truth).abs() / truth.abs().clamp(min=1)
    assert error.max() < 3e-7
    odd = torch.tensor([[float("nan"), float("inf"), 1.0]])
    assert gelu_(odd.clone()).isnan().tolist() == [[True, False, False]]


def test_the_normalized_sum() -> None:
    for rows, columns in ((1, 1), (3, 17), (40, 768)):
        x, residual, weight, bias = (torch.randn(*shape) for shape in ((rows, columns),) * 2 + ((columns,),) * 2)
        x += 5
        eps = 1e-12 if columns > 1 else 1
        truth = F.layer_norm((x + residual).double(), (columns,), weight.double(), bias.double(), eps)
        found = add_norm_(x.clone(), residual, weight, bias, eps)
        assert (found - truth).abs().max() < 1e-5
