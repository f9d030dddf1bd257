"""Checks that need neither model nor data, without slow imports, so that mistakes are reported at once."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtc_ds import CompressionConfig, load_config
from xtc_ds.launcher.configs import find_config
from xtc_ds.launcher.ds_config import BatchPlan, check_rates, fill_config, plan_batches
from xtc_ds.launcher.run_folder import RunFolder, choose_folder
from xtc_ds.launcher.tasks import Task, get_task

__all__ = ["Inputs", "check_inputs"]

# Flags that may change when a run is resumed.
_FREE = (
    "debug",
    "ds_config",
    "local_rank",
    "max_eval_samples",
    "output_dir",
    "overwrite_output_dir",
    "per_device_eval_batch_size",
    "resume",
    "save_steps",
)


@dataclass(frozen=True)
class Inputs:
    """ds_config: config without the block; settings: values that must be equal when the run is resumed."""

    ds_config: dict[str, Any]
    block: CompressionConfig
    task: Task
    batches: BatchPlan
    folder: RunFolder
    settings: dict[str, Any]


def check_inputs(arguments: argparse.Namespace) -> Inputs:
    """Read the config and choose the folder; nothing is written. Raises ConfigError or DataError."""
    ds_config, block = load_config(find_config(arguments.ds_config))
    task = get_task(arguments.task_name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    batches = plan_batches(ds_config, arguments.per_device_train_batch_size, world)
    check_rates(ds_config, arguments.learning_rate, arguments.teacher_learning_rate)
    fill_config(ds_config, batches, 1e-4, 1, 0, arguments.weight_decay)
    settings = {key: value for key, value in vars(arguments).items() if key not in _FREE}
    settings |= {"task_name": task.name, "world_size": world, "ds_config": ds_config, "block": dict(block.raw)}
    settings = json.loads(json.dumps(settings, default=_json_value))  # in the form stored in the run's folder
    folder = choose_folder(
        arguments.output_dir,
        f"{task.name}-{Path(arguments.ds_config).stem[:80]}",
        settings,
        arguments.resume,
        arguments.overwrite_output_dir,
        arguments.teacher,
    )
    return Inputs(ds_config, _with_cache_folder(block, folder), task, batches, folder, settings)


def _with_cache_folder(block: CompressionConfig, folder: RunFolder) -> CompressionConfig:
    kd = block.kd
    if kd is None or kd.cache == "none" or kd.cache_folder is not None:
        return block
    return block.with_keys("kd", cache_folder=str(folder.logits))


def _json_value(value: Any) -> Any:
    return str(value.resolve() if isinstance(value, Path) else value)
