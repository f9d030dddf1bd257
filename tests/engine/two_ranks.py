"""The fixture that runs one scenario of ``scenarios.py`` on two ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ranks import run_ranks

__all__ = ["Figures", "two_ranks"]

Figures = list[dict[str, Any]]


def two_ranks(scenario: str) -> Any:
    """A fixture with the figures of both ranks. Each module starts its own scenario: modules run side by side."""

    @pytest.fixture(scope="module", name="ranks")
    def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
        return run_ranks(Path(__file__).with_name("scenarios.py"), tmp_path_factory.mktemp(scenario), scenario)

    return figures
