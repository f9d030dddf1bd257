"""The integer product of codes is exact for every shape, the smallest included."""

from __future__ import annotations

import itertools

import torch

from xtc_ds.kernels.integer_product import integer_product


def test_every_small_shape_is_exact() -> None:
    for tokens, inputs, outputs in itertools.product(range(5), range(1, 6), range(1, 6)):
        a_TI = torch.randint(-128, 128, (tokens, inputs), dtype=torch.int8)
        w_OI = torch.randint(-128, 128, (outputs, inputs), dtype=torch.int8)
        expected = a_TI.double() @ w_OI.double().t()
        assert torch.equal(integer_product(a_TI, w_OI).double(), expected), (tokens, inputs, outputs)
