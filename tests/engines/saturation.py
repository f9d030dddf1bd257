"""x86 processors without VNNI add pairs of 8-bit products in 16 bits; ONNX Runtime and OpenVINO let them saturate."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from tests.engines.engine_models import INTEGER_LAYERS

__all__ = ["EXACT_LAYERS", "needs_exact_products", "products_saturate"]


def products_saturate() -> bool:
    """Whether these engines may give wrong sums for 8-bit weights here (weights of up to 7 bits are always exact)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    file = Path("/proc/cpuinfo")
    return not (file.exists() and "vnni" in file.read_text())


needs_exact_products = pytest.mark.skipif(
    products_saturate(), reason="8-bit products saturate in ONNX Runtime and OpenVINO on x86 processors without VNNI"
)
# The layers of integers that these engines compute exactly on this processor.
EXACT_LAYERS: dict[str, Any] = {
    name: layer for name, layer in INTEGER_LAYERS.items() if layer["target_bits"] < 8 or not products_saturate()
}
