"""One script, unchanged: under DeepSpeed 0.19.6 by itself, and here through ``python -m xtc_ds.compat``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import free_port

HERE = Path(__file__).parent
SCRIPT = HERE / "old_loop.py"
# Losses of the script with DeepSpeed 0.19.6 and torch 2.13 on a CPU.
GOLDEN: dict[str, list[float]] = json.loads((HERE / "golden_losses.json").read_text())
# 1 bit: the mean of a group is summed in another order; static ranges: the first batch sets them exactly.
CLOSE = {"one_bit_static"}

Figures = dict[str, Any]


def run(command: list[str], config: str, out: Path, single: bool = True) -> Figures:
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ranks},
        **(ranks if single else {}),
        "MASTER_PORT": str(free_port()),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "" if "compat" not in " ".join(command) else str(HERE.parents[1]),
    }
    arguments = ["--deepspeed", "--deepspeed_config", str(HERE / "configs" / f"{config}.json"), "--out", str(out)]
    done = subprocess.run(
        [*command, str(SCRIPT), *arguments],
        env=environment,
        cwd=out.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    figures: Figures = torch.load(out)
    return figures


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Figures]:
    """What this project makes of a config; the first one goes through the deepspeed launcher."""
    out = tmp_path_factory.mktemp("ours")
    launcher = [str(Path(sys.executable).with_name("deepspeed")), "--num_accelerators", "1"]

    @cache
    def figures(config: str) -> Figures:
        if config == "mixed":
            command = [*launcher, "--master_port", str(free_port()), "--module", "xtc_ds.compat"]
            return run(command, config, out / "mixed.pt", single=False)
        return run([sys.executable, "-m", "xtc_ds.compat"], config, out / f"{config}.pt")

    return figures


@pytest.mark.slow
@pytest.mark.multirank
@pytest.mark.parametrize("config", ["mixed", "shallow"])
def test_an_old_script_runs_unchanged_with_the_losses_it_had(ours: Callable[[str], Figures], config: str) -> None:
    figures = ours(config)
    assert figures["losses"] == pytest.approx(GOLDEN[config], abs=1e-4)
    # Cleaned weights compute what the compressed forward computed, and the teacher was left as it is.
    torch.testing.assert_close(figures["before"], figures["after"], rtol=1e-5, atol=1e-5)
    assert len(figures["teacher"]["layers.0.inner.weight"].unique()) > 300
    levels = {name: len(value.unique()) for name, value in figures["state"].items()}
    if config == "mixed":
        assert (levels["layers.1.inner.weight"], levels["layers.2.outer.weight"]) == (16, 3)
    assert levels["head.bias"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("config", ["mixed", "shallow", "one_bit_static"])
def test_losses_and_cleaned_weights_are_those_of_the_old_library(
    deepspeed_0196: Path, ours: Callable[[str], Figures], tmp_path: Path, config: str
) -> None:
    old, new = run([str(deepspeed_0196)], config, tmp_path / "old.pt"), ours(config)
    assert old["state"].keys() == new["state"].keys()
    if config in CLOSE:
        assert new["losses"] == pytest.approx(old["losses"], abs=1e-5)
        for name, tensor in old["state"].items():
            torch.testing.assert_close(new["state"][name], tensor, rtol=1e-5, atol=1e-5)
        return
    assert new["losses"] == old["losses"]
    assert torch.equal(new["after"], old["after"])
    for name, tensor in old["state"].items():
        assert torch.equal(new["state"][name], tensor), name
