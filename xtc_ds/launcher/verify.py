"""Reload a packed checkpoint in a fresh process and compare its logits with those of the model that was saved.

Run as ``python -m xtc_ds.launcher.verify FOLDER AUTO_CLASS INPUTS DEVICE``; prints one line of JSON.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import xtc_ds
from xtc_ds.errors import ExportError
from xtc_ds.launcher.tasks.base import logits_of

__all__ = ["main", "verify_in_fresh_process"]


def verify_in_fresh_process(
    folder: Path, auto_class: str, batches: list[dict[str, Any]], logits: np.ndarray, device: str
) -> dict[str, float]:
    """``max_logit_difference`` and ``load_seconds``, measured in a new Python process.

    auto_class: the ``transformers`` class that loads the folder; batches: inputs as tensors; logits: those of the
    frozen model, (examples, ...), padded with -100 if batches differ in width. Raises ExportError if the process fails.
    """
    import torch
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as scratch:
        tensors = {f"{i}/{name}": t.contiguous() for i, batch in enumerate(batches) for name, t in batch.items()}
        file = Path(scratch) / "inputs.safetensors"
        save_file({**tensors, "logits": torch.from_numpy(np.ascontiguousarray(logits))}, file)
        # Remove the variables of the process group, or the child would wait for other ranks.
        environment = {k: v for k, v in os.environ.items() if k not in _RANK_VARIABLES}
        package = Path(xtc_ds.__file__).resolve().parent
        places = [str(package.parent), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        command = [sys.executable, "-m", "xtc_ds.launcher.verify", str(folder), auto_class, str(file), device]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ExportError(f"{folder} could not be loaded in a fresh process: {lines[-1]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


_RANK_VARIABLES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "CROSS_RANK", "LOCAL_SIZE"}


def main(folder: str, auto_class: str, file: str, device: str) -> None:
    """Load, run all batches and print the largest difference."""
    import time

    import torch
    import transformers  # reads packed checkpoints because xtc_ds is imported above
    from safetensors.torch import load_file
    from transformers.trainer_pt_utils import nested_concat

    began = time.monotonic()
    model = getattr(transformers, auto_class).from_pretrained(folder).to(device).eval()
    seconds = time.monotonic() - began
    tensors = load_file(file)
    expected = tensors.pop("logits")
    batches: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/")
        batches.setdefault(int(index), {})[name] = tensor.to(device)
    with torch.no_grad():
        pieces = [logits_of(model, batches[index]).float().cpu() for index in sorted(batches)]
    difference = float((functools.reduce(nested_concat, pieces) - expected).abs().max())
    print(json.dumps({"max_logit_difference": difference, "load_seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
