"""What the tests of the Triton kernels share.

They run on a GPU as they are; on a CPU in Triton's interpreter, if TRITON_INTERPRET=1 is set before the start
(``test_kernels_triton_runs.py`` does so in a process of its own).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat, get_format
from xtc_ds.kernels.triton import triton_available

FORMATS = ("binary", "ternary", "int2", "int3", "int4", "int5", "int8")


def device_or_skip() -> str:
    """Where the kernels run here; skips the module that asks if they do not."""
    for device in ("cuda", "cpu"):
        if triton_available(device):
            return device
    pytest.skip("no GPU, or no triton; on a CPU set TRITON_INTERPRET=1", allow_module_level=True)


DEVICE = device_or_skip()


def random_codes(name: str, outputs: int, inputs: int) -> Tensor:
    low, high = get_format(name).code_range
    codes = torch.randint(low, high + 1, (outputs, inputs)).to(torch.int8)
    codes = codes.where(codes != 0, torch.ones_like(codes)) if name == "binary" else codes
    return codes.to(DEVICE)


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(DEVICE, dtype)


def reference(
    x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, bits: int = 8, range_: Tensor | None = None
) -> Tensor:
    encoded = ActivationFormat(bits, True, "dynamic" if range_ is None else "static").encode(x, range_)
    exact = (encoded.codes.double() @ codes.double().t()).float()
    y = exact * encoded.scale * scale.reshape(1, -1)
    return (y if bias is None else y + bias).to(x.dtype)
