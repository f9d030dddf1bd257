"""An old-style training script: DeepSpeed's compression library as its scripts use it, under a real engine.

It runs in an environment with DeepSpeed 0.19.6 as it stands, and in this one after ``install()``:
``training.py TRAININGS.json RESULTS.npz [--install]``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch

sys.path.insert(0, str(Path(__file__).parents[3]))
if "--install" in sys.argv:
    from xtc_ds.compat.deepspeed import install

    install()

from deepspeed.compression.compress import init_compression, redundancy_clean

from tests.parity.arrays import Arrays, as_array, save_arrays
from tests.parity.models import MODELS, fill, model_input

MASTER_PORT = "29677"


def train(model_name: str, config: dict[str, Any], seed: int, steps: int) -> Arrays:
    """Loss of each step, and the cleaned weights."""
    model = MODELS[model_name]()
    fill(model, "normal", seed)
    model = init_compression(model, config)
    fill(model, "distinct", seed, only="_scores")
    for module in model.modules():
        # The old convolution lacks it where its weight is not quantized, and its forward asks for it.
        if isinstance(module, torch.nn.Conv2d) and not hasattr(module, "weight_quantization_enabled"):
            setattr(module, "weight_quantization_enabled", False)  # noqa: B010
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    losses = []
    for step in range(steps):
        x = model_input(model_name, seed + step, batch=4)
        y = engine(x)
        loss = ((y - torch.linspace(-1, 1, y.shape[-1])) ** 2).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach())
    engine.module.eval()
    cleaned = redundancy_clean(engine.module, config)
    state = {f"clean/{name}": as_array(value) for name, value in cleaned.state_dict().items()}
    return {"losses": as_array(torch.stack(losses)), **state}


def main() -> None:
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(alone)
    os.environ.setdefault("MASTER_PORT", MASTER_PORT)
    # The extension for collectives takes a minute to compile, and one rank has none.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
    results: Arrays = {}
    for name, training in json.loads(Path(sys.argv[1]).read_text()).items():
        results |= {f"{name}:{key}": value for key, value in train(**training).items()}
    save_arrays(Path(sys.argv[2]), results)


if __name__ == "__main__":
    main()
