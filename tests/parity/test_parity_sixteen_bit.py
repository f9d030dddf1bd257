"""bf16 and fp16 weights: the codes and scales are those of the same numbers in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.arrays import as_array, load_arrays
from tests.parity.differences import pins
from xtc_ds.formats import Grouping, fake_quantize_weight, get_format

GOLDEN = Path(__file__).parent / "golden"
OLD = load_arrays(GOLDEN / "sixteen_bit.npz")
NAMES = [
    "binary",
    "ternary",
    *(f"int{bits}{kind}" for kind in ("", "_asymmetric") for bits in (2, 3, 4, 5, 6, 7, 8, 12)),
]
UNIT = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


def weight(case: str) -> torch.Tensor:
    name, _, dtype = case.split("/")
    with np.load(GOLDEN / "quantizers.npz", allow_pickle=False) as arrays:
        return torch.from_numpy(arrays[name]).to(getattr(torch, dtype))


@pins("16-bit weights are quantized in float32")
@pytest.mark.parametrize("case", OLD)
def test_sixteen_bit_weights_are_quantized_in_float32(case: str) -> None:
    w = weight(case)
    groups = int(case.split("/")[1])
    unit = UNIT[case.split("/")[2]]
    old = torch.from_numpy(OLD[case])
    assert len(old) == len(NAMES)
    for name, before in zip(NAMES, old, strict=True):
        new = fake_quantize_weight(w, get_format(name), Grouping("group", groups))
        exact = fake_quantize_weight(w.float(), get_format(name), Grouping("group", groups))
        assert new.dtype == w.dtype
        assert torch.equal(new, exact.to(w.dtype))
        # The old one is near it where it is a number: some units in the last place, or one step of the grid.
        largest = float(w.float().abs().amax())
        step = 2 * largest / 2 ** int(name[3:].split("_")[0]) if name.startswith("int") else largest
        error = (new.float() - before).abs()
        ok = ~before.isfinite() | (error <= (0 if name == "binary" else 1.05 * step) + 8 * unit * largest) | (w == 0)
        assert bool(ok.all()), f"{name}: {float(error[~ok].max())}"


def test_the_old_ones_were_not() -> None:
    differing = 0
    for case, old in OLD.items():
        w, groups = weight(case), int(case.split("/")[1])
        for name, before in zip(NAMES, old, strict=True):
            new = fake_quantize_weight(w, get_format(name), Grouping("group", groups))
            differing += int((as_array(new) != before).sum())
    assert differing > 1000
