"""Read data and model and rehearse the compression: everything that can fail before anything is written."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from rich.console import Console
from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

import xtc_ds
from xtc_ds.errors import TeacherError
from xtc_ds.launcher import models
from xtc_ds.launcher.ds_config import check_deepspeed, fill_config
from xtc_ds.launcher.hub import look_in_the_cache_if_offline
from xtc_ds.launcher.inputs import Inputs
from xtc_ds.launcher.run_state import RunState
from xtc_ds.launcher.tasks import EncodedDataset, Task, load_task

__all__ = ["rehearse_without_weights", "set_up"]

_PIPE_WIDTH = 140


def set_up(arguments: argparse.Namespace, inputs: Inputs) -> RunState:
    """Read data and model and rehearse the compression. Raises an XtcError for anything that does not fit."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    disable_progress_bar()
    leader = int(os.environ.get("RANK", "0")) == 0
    console = Console() if leader else None
    if console is not None and not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    check_deepspeed(fill_config(inputs.ds_config, inputs.batches, 1e-4, 1, 0, arguments.weight_decay))
    block = inputs.block
    data = load_task(
        inputs.task.name,
        arguments.data_dir,
        arguments.max_train_samples,
        arguments.max_eval_samples,
        arguments.seed,
        vars(arguments),
    )
    task = data.task
    teacher = arguments.teacher or _named_teacher(arguments, block)
    start = teacher or arguments.model_name_or_path or models.demo_model_path()
    look_in_the_cache_if_offline(start)
    config = models.load_config(start, task)
    if teacher:
        models.check_teacher(teacher, task)
    rehearse_without_weights(config, task, block)
    tokenizer = models.load_tokenizer(start, config, task)
    limit = models.token_limit(config, arguments.max_seq_length)
    train = task.encode(tokenizer, data.train, limit)
    dev = {name: task.encode(tokenizer, split, limit) for name, split in data.dev.items()}
    for encoded in (train, *dev.values()):
        _check_ids(start, encoded, config)
    set_seed(arguments.seed)
    if teacher:
        model = models.load_teacher_for(teacher, task, tokenizer)
    else:
        model = models.base_model(start, config, tokenizer, task)
    state = RunState(arguments, inputs, task, teacher, model, tokenizer, train, dev, console)
    for warning in block.warnings:
        state.say(f"warning: {warning}")
    return state


def _named_teacher(arguments: argparse.Namespace, block: xtc_ds.CompressionConfig) -> str | None:
    """The kd block's teacher; "self" is the fine-tuned model, from which the student is initialized anyway."""
    named: str | None = block.kd.teacher if block.kd else None
    if named in (None, "self"):
        return None
    if arguments.model_name_or_path:
        raise TeacherError(
            f"--model_name_or_path {arguments.model_name_or_path}: the config's kd block names the teacher '{named}', "
            "from which the student starts; leave one of them out"
        )
    return named


def rehearse_without_weights(config: Any, task: Task, block: xtc_ds.CompressionConfig) -> None:
    """Plan and check the compression of models without weights. Raises the errors that ``initialize`` would raise."""
    student, teacher = models.meta_model(config, task), models.meta_model(config, task)
    xtc_ds.rehearse(student, block, teacher if block.kd is not None else None)


def _check_ids(name: str, data: EncodedDataset, config: Any) -> None:
    most = max(max(ids) for ids in data.columns["input_ids"])
    if most >= getattr(config, "vocab_size", most + 1):
        raise TeacherError(
            f"{name}: the tokenizer gives token {most}, but the model knows {config.vocab_size} tokens; "
            "they do not belong together"
        )
