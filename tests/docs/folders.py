"""Folders in which the documentation's commands run: tiny models stand where a page names a pretrained one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import tiny
from tests.docs.pages import ROOT
from tests.launcher.tiny_run import review_words, save_model, tokenizer_of

# Runs before the Python blocks that a page starts with a training script of the reader's.
TRAINING = """
import os, torch
from tests.conftest import free_port
from tests import tiny
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
import deepspeed
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
loader = [tiny.batch(seed=seed) for seed in range(2)]
"""


def prepare(folder: Path) -> None:
    """What every page may use: models under the names that the pages' comments give, configs, the launcher."""
    for name in ("json_configs", "launcher", "benchmarks", "docs"):
        (folder / name).symlink_to(ROOT / name)
    save_model(folder / "tiny-bert", words=review_words())
    save_model(folder / "tiny-bert-12", layers=12)
    save_model(folder / "tiny-teacher", words=review_words())


def packed(folder: Path) -> None:
    """``packed``: a compressed model as the library writes it."""
    if (folder / "packed").exists():
        return
    script = (
        "import xtc_ds; from tests import tiny; from tests.docs.folders import words_tokenizer\n"
        "model = tiny.tiny_model(); xtc_ds.compress(model, tiny.ds_config(tiny.block()))\n"
        "xtc_ds.export_packed(model, 'packed', words_tokenizer())\n"
    )
    run_python(script, folder)


def training(folder: Path) -> None:
    """``ds_config.json``: one bit, every other layer, distillation."""
    block = tiny.block(reduction={"keep_number_layer": 2}, kd={})
    (folder / "ds_config.json").write_text(json.dumps(tiny.ds_config(block)))


def checkpoints(folder: Path) -> None:
    """``checkpoints``: of the training script of the page, which comes before."""
    assert (folder / "checkpoints").is_dir(), "the page's training script has to run first"


def launcher(folder: Path) -> None:
    """``tiny.json``: a config for the launcher's smallest run."""
    block = tiny.block(reduction={"keep_number_layer": 2}, kd={})
    (folder / "tiny.json").write_text(json.dumps(tiny.ds_config(block)))


SETUPS: dict[str, Callable[[Path], None]] = {
    "packed": packed,
    "training": training,
    "checkpoints": checkpoints,
    "launcher": launcher,
}


def words_tokenizer() -> Any:
    """A tokenizer of the words of the launcher's generated task."""
    return tokenizer_of(review_words())


def environment() -> dict[str, str]:
    """Of the commands: this project first, CPU, one thread, no network."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'launcher'}",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in ``folder``; raises AssertionError with its output where it fails."""
    return run([sys.executable, "-c", code], folder, 0)


def run(command: list[str], folder: Path, expected: int) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, which has to end with the exit code ``expected``."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == expected, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done
