"""What a run waits for before its first step."""

from __future__ import annotations

import pytest

from benchmarks.startup.__main__ import main


def test_phases_of_a_large_meta_model_take_moments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1"]) == 0
    rows = dict(line.strip("| ").split(" | ")[:2] for line in capsys.readouterr().out.splitlines()[2:])
    assert set(rows) == {"validate", "plan", "rewrite", "in all"}
    # A second is the goal; the cores of a test are shared.
    assert float(rows["in all"]) < 5
