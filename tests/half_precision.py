"""fp16 on processors, where DeepSpeed takes it only with fast instructions for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deepspeed.accelerator import get_accelerator

__all__ = ["NO_FP16", "allow_fp16", "fp16_supported"]

NO_FP16 = "DeepSpeed takes fp16 on a CPU only with fast instructions for it (avx512_fp16 or AMX), which this one lacks"


def fp16_supported() -> bool:
    """Whether DeepSpeed itself takes fp16 on this machine."""
    return bool(get_accelerator().is_fp16_supported())


@contextmanager
def allow_fp16() -> Iterator[None]:
    """Let DeepSpeed train in fp16 everywhere: torch computes it without fast instructions too, only slowly."""
    accelerator = get_accelerator()
    supported = accelerator.is_fp16_supported
    accelerator.is_fp16_supported = lambda: True
    try:
        yield
    finally:
        accelerator.is_fp16_supported = supported
