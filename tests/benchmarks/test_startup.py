"""What a run waits for: ``benchmarks/startup.py``."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_phases_of_a_large_meta_model_take_moments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import startup

    assert startup.main(["--rounds", "1"]) == 0
    rows = dict(line.strip("| ").split(" | ")[:2] for line in capsys.readouterr().out.splitlines()[2:])
    assert set(rows) == {"validate", "plan", "rewrite", "in all"}
    # A second is the goal; the cores of a test are shared.
    assert float(rows["in all"]) < 5
