"""The fixture that runs a test with the native library and with torch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from xtc_ds.kernels.native import native_library

__all__ = ["native_and_torch"]


def native_and_torch(module: ModuleType) -> Any:
    """A fixture ``backend``, "native" or "torch": in the second ``module`` finds no native library."""

    @pytest.fixture(params=["native", "torch"], name="backend")
    def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        if request.param == "torch":
            monkeypatch.setattr(module, "native_library", lambda: None)
        elif native_library() is None:
            pytest.skip("no C compiler here")
        return str(request.param)

    return backend
