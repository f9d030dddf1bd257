"""Checks whether the Triton kernels can run on a device. Does not import Triton."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch

__all__ = ["MOST_INPUTS", "interpreted", "triton_available", "triton_missing"]

# Ampere: the first generation whose tensor cores multiply both 8-bit integers and bfloat16.
_LEAST_CAPABILITY = (8, 0)
# Sums of this many products of two 8-bit codes stay below 2**31.
MOST_INPUTS = 2**31 // (255 * 128) - 1


def interpreted() -> bool:
    """Whether Triton runs kernels on the CPU in its interpreter, which is exact but slow and meant for tests.

    Triton itself reads the environment variable ``TRITON_INTERPRET`` when it is first imported.
    """
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")


def triton_available(device: torch.device | str) -> bool:
    """Whether the kernels run on tensors of ``device``: an NVIDIA GPU (Ampere or newer), or a CPU if interpreted."""
    return triton_missing(device) is None


# torch.compile must not trace the checks of the machine.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def triton_missing(device: torch.device | str) -> str | None:
    """Why the kernels do not run on tensors of ``device``; None if they do."""
    device = torch.device(device)
    on_cpu = device.type == "cpu" and interpreted()
    if device.type != "cuda" and not on_cpu:
        return f"it runs on NVIDIA GPUs, not on {device.type}"
    if not _installed():
        return "the package triton is not installed"
    if on_cpu:
        return None
    if interpreted():
        return "TRITON_INTERPRET runs it on CPUs alone"
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "there is no NVIDIA GPU"
    index = torch.cuda.current_device() if device.index is None else device.index
    return None if _capability(index) else "the GPU is older than Ampere"


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def _capability(index: int) -> bool:
    return torch.cuda.get_device_capability(index) >= _LEAST_CAPABILITY
