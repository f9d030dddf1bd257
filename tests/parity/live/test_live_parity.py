"""The old library and this one, side by side: ``pytest --deepspeed-0196 PATH_TO_ENV tests/parity/live``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import free_port
from tests.parity.arrays import Arrays, load_arrays
from tests.parity.blocks import activations, pruned, weights
from tests.parity.comparison import disagreements
from tests.parity.random_cases import random_cases
from xtc_ds.errors import XtcError

ROOT = Path(__file__).parents[3]
COUNT = 120
STEPS = 6


def call(python: Path, arguments: list[str | Path]) -> None:
    """Run a program of this folder from the repository's root."""
    environment = {**os.environ, "MASTER_PORT": str(free_port()), "PYTHONPATH": ""}
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_random_cases(deepspeed_0196: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from tests.parity.new_library import run

    seed = request.config.getoption("--parity-seed")
    cases = random_cases(seed, COUNT)
    (tmp_path / "cases.json").write_text(json.dumps([case.to_dict() for case in cases]))
    call(deepspeed_0196, ["-m", "tests.parity.old_library", tmp_path / "cases.json", tmp_path / "old.npz"])
    old = load_arrays(tmp_path / "old.npz")
    found = {}
    for case in cases:
        mine = {key.partition(":")[2]: value for key, value in old.items() if key.startswith(f"{case.name}:")}
        try:
            what = disagreements(case, mine, run(case))
        except XtcError as error:
            what = [str(error)]
        if what:
            found[case.name] = {"case": case.to_dict(), "differs": what}
    assert not found, f"seed {seed}: {json.dumps(found, indent=1)}"


def config(block: dict[str, Any], stage: int, **offsets: int) -> dict[str, Any]:
    """A DeepSpeed config around a block whose techniques start at ``offsets``."""
    block = json.loads(json.dumps(block))
    for name, offset in offsets.items():
        block[name]["shared_parameters"]["schedule_offset"] = offset
    return {
        "train_micro_batch_size_per_gpu": 4,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-2, "torch_adam": True}},
        "zero_optimization": {"stage": stage},
        "steps_per_print": 10**9,
        "compression_training": block,
    }


def trainings() -> dict[str, dict[str, Any]]:
    """name -> model, config, seed and number of steps."""
    fc, every = "fc", "query|key|value|dense"
    pair: dict[str, Any] = {"modules": ["^fc1$"], "related": [["^fc2$"]]}
    heads: dict[str, Any] = {"modules": ["^dense$"], "related": [["^query$", "^key$", "^value$"]]}
    # With related modules what a norm makes of pruned channels is a named difference.
    channels: dict[str, Any] = {"modules": ["^conv1$"]}
    blocks: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
        "w8_late": ("stack", weights(8, 8, modules=fc), {"weight_quantization": 2}),
        "w1": ("stack", weights(1, modules=fc), {}),
        "w2_table": ("lookup", weights(2, modules="table|fc"), {"weight_quantization": 1}),
        "w4_asymmetric": ("stack", weights(4, 1, "asymmetric", modules=fc), {}),
        "a8_dynamic": ("stack", activations(modules=fc), {"activation_quantization": 1}),
        "a8_static": ("stack", activations(8, "asymmetric", "static", fc), {"activation_quantization": 2}),
        "row_l1": ("stack", pruned("row", 0.4, "l1", **pair), {"row_pruning": 2}),
        "row_topk": ("stack", pruned("row", 0.4, "topk", **pair), {"row_pruning": 2}),
        "head_topk": ("attention", pruned("head", 0.5, "topk", **heads), {"head_pruning": 3}),
        "channel_topk": ("conv_net", pruned("channel", 0.5, "topk", **channels), {"channel_pruning": 1}),
        "w8a8_head": (
            "attention",
            weights(8, modules=every) | activations(modules=every) | pruned("head", 0.5, "topk", ["^dense$"]),
            {"weight_quantization": 1, "activation_quantization": 2, "head_pruning": 3},
        ),
        "w1a8_row": (
            "stack",
            weights(1, modules=fc) | activations(modules=fc) | pruned("row", 0.5, "topk", **pair),
            {"activation_quantization": 1, "row_pruning": 2},
        ),
    }
    return {
        f"{name}_stage{stage}": {
            "model_name": model,
            "config": config(block, stage, **offsets),
            "seed": place,
            "steps": STEPS,
        }
        for place, (name, (model, block, offsets)) in enumerate(blocks.items())
        for stage in (0, 2)
    }


@pytest.fixture(scope="module")
def both(deepspeed_0196: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Arrays]:
    """The results of one script in the old environment and in this one."""
    folder = tmp_path_factory.mktemp("trainings")
    (folder / "trainings.json").write_text(json.dumps(trainings()))
    script = Path(__file__).with_name("training.py")
    call(deepspeed_0196, [script, folder / "trainings.json", folder / "old.npz"])
    call(Path(sys.executable), [script, folder / "trainings.json", folder / "new.npz", "--install"])
    return load_arrays(folder / "old.npz"), load_arrays(folder / "new.npz")


@pytest.mark.parametrize("name", trainings())
def test_a_training_goes_the_same_way(both: tuple[Arrays, Arrays], name: str) -> None:
    old, new = ({k.partition(":")[2]: v for k, v in side.items() if k.startswith(f"{name}:")} for side in both)
    assert old.keys() == new.keys()
    assert len(old["losses"]) == STEPS
    assert old["losses"][-1] != old["losses"][0]
    # Sums of floats in another order, here and there, and an Adam step after each.
    np.testing.assert_allclose(new["losses"], old["losses"], rtol=1e-5)
    for key in old:
        assert new[key].shape == old[key].shape, key
        np.testing.assert_allclose(new[key], old[key], rtol=1e-4, atol=1e-5, err_msg=key)
