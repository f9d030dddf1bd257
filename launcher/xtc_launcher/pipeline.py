"""The phases of a run: prepare, teacher, plan, student, score, export, verify."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
from rich.console import Console
from torch import nn
from transformers import set_seed

import xtc_ds
from xtc_ds.config import CompressionConfig
from xtc_ds.config import load_config as load_ds_config
from xtc_ds.distributed import on_rank_zero, rank, world_size
from xtc_ds.plan import CompressionPlan
from xtc_launcher import models
from xtc_launcher.backend import start_process_group
from xtc_launcher.batching import EncodedDataset, LengthGroupedBatchSampler, PadCollator, encode, eval_batches
from xtc_launcher.ds_config import BatchPlan, fill_config, plan_batches
from xtc_launcher.evaluation import all_logits, score
from xtc_launcher.results import results_table, versions, write_json
from xtc_launcher.run_folder import RunFolder, choose_folder
from xtc_launcher.tasks import Task, load_task
from xtc_launcher.training import Trainer, TrainOptions, build_optimizer, total_steps
from xtc_launcher.verify import verify_in_fresh_process

__all__ = ["run"]

_STUDENT_EPOCHS, _STUDENT_RATE = 2.0, 3e-4
_TEACHER_EPOCHS, _TEACHER_RATE = 1.0, 1e-4


@dataclass
class Run:
    """Everything that the phases share."""

    arguments: argparse.Namespace
    ds_config: dict[str, Any]
    block: CompressionConfig
    task: Task
    tokenizer: Any
    start: str
    model_config: Any
    train: EncodedDataset
    dev: dict[str, EncodedDataset]
    batches: BatchPlan
    folder: RunFolder
    console: Console | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 2)

    def say(self, what: Any) -> None:
        """Print on rank 0."""
        if self.console:
            self.console.print(what)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do the whole run and return what ``results.json`` holds. Raises an XtcError before training for bad input."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    began = time.monotonic()
    # Everything a user can get wrong is looked at before a process group or a file exists.
    state = _prepare(arguments)
    start_process_group()
    set_seed(arguments.seed)
    state.seconds["prepare"] = round(time.monotonic() - began, 2)
    on_rank_zero(lambda: state.folder.begin(_settings(arguments)))
    teacher_path = _teacher(state)
    plan, student, frozen, steps = _student(state, teacher_path)
    return _finish(state, teacher_path, plan, student, frozen, steps)


def _prepare(arguments: argparse.Namespace) -> Run:
    ds_config, block = load_ds_config(arguments.ds_config)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    batches = plan_batches(ds_config, arguments.per_device_train_batch_size, world)
    folder = choose_folder(
        arguments.output_dir,
        f"{arguments.task_name}-{Path(arguments.ds_config).stem}",
        _settings(arguments),
        arguments.resume,
        arguments.overwrite_output_dir,
    )
    data = load_task(
        arguments.task_name, arguments.data_dir, arguments.max_train_samples, arguments.max_eval_samples, arguments.seed
    )
    start = arguments.teacher or arguments.model_name_or_path or models.demo_model_path()
    config = models.load_config(start, data.task)
    xtc_ds.make_plan(models.meta_model(config), block)
    tokenizer = models.load_tokenizer(start)
    train = encode(tokenizer, data.train, arguments.max_seq_length)
    dev = {name: encode(tokenizer, split, arguments.max_seq_length) for name, split in data.dev.items()}
    leader = int(os.environ.get("RANK", "0")) == 0
    console = Console() if leader else None
    if console is not None and not console.is_terminal:
        console = Console(width=140)
    return Run(arguments, ds_config, block, data.task, tokenizer, start, config, train, dev, batches, folder, console)


def _teacher(state: Run) -> str:
    """Path of the fine-tuned teacher; trains it unless there is one."""
    arguments = state.arguments
    if arguments.teacher:
        return str(arguments.teacher)
    if arguments.resume and (state.folder.teacher / "config.json").is_file():
        state.say(f"teacher: taken from {state.folder.teacher}")
        return str(state.folder.teacher)
    with state.phase("teacher"):
        model = models.base_model(state.start, state.model_config, state.tokenizer)
        sampler = _sampler(state)
        steps = total_steps(
            arguments.teacher_max_steps,
            arguments.teacher_num_train_epochs or _TEACHER_EPOCHS,
            sampler.steps_per_epoch,
        )
        options = _options(state, "teacher", steps, arguments.teacher_learning_rate or _TEACHER_RATE)
        config = fill_config(state.ds_config, state.batches, options.rate, steps, options.warmup)
        engine, *_ = deepspeed.initialize(model=model, config=config, **build_optimizer(model, options, config))
        _trainer(state, engine, sampler, options).run()
        whole = xtc_ds.snapshot(engine.module).float()
        engine.destroy()
        on_rank_zero(lambda: _save_dense(state, whole))
    return str(state.folder.teacher)


def _save_dense(state: Run, model: Any) -> None:
    temporary = state.folder.path / ".teacher"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    state.tokenizer.save_pretrained(temporary)
    shutil.rmtree(state.folder.teacher, ignore_errors=True)
    temporary.rename(state.folder.teacher)


def _student(state: Run, teacher_path: str) -> tuple[CompressionPlan, Any, Any, int]:
    """Compress and train; returns plan, engine, frozen model and steps."""
    arguments = state.arguments
    set_seed(arguments.seed)
    teacher = models.load_teacher_for(teacher_path, state.task)
    student = models.load_teacher_for(teacher_path, state.task).requires_grad_(True)
    plan = xtc_ds.make_plan(student, state.block, teacher)
    state.say(xtc_ds.plan_table(plan))
    with state.phase("student"):
        sampler = _sampler(state)
        steps = total_steps(arguments.max_steps, arguments.num_train_epochs or _STUDENT_EPOCHS, sampler.steps_per_epoch)
        options = _options(state, "student", steps, arguments.learning_rate or _STUDENT_RATE)
        config = fill_config(state.ds_config, state.batches, options.rate, steps, options.warmup)
        engine, *_ = xtc_ds.initialize(
            model=student,
            teacher=teacher,
            config={**config, "compression_training": dict(state.block.raw)},
            **build_optimizer(student, options, config),
        )
        trainer = _trainer(state, engine, sampler, options)
        trainer.after_step = lambda step: _checkpoint(state, engine, step)
        trainer.run(_resume(state, engine))
    with state.phase("freeze"):
        frozen = xtc_ds.freeze(engine).to(engine.device)
    return plan, engine, frozen, steps


def _checkpoint(state: Run, engine: Any, step: int) -> None:
    every = state.arguments.save_steps
    if every and step % every == 0:
        engine.save_checkpoint(str(state.folder.checkpoints))
        on_rank_zero(state.folder.keep_newest_checkpoint)


def _resume(state: Run, engine: Any) -> int:
    if not (state.arguments.resume and (state.folder.checkpoints / "latest").is_file()):
        return 0
    engine.load_checkpoint(str(state.folder.checkpoints))
    state.say(f"resumed at step {engine.global_steps}")
    return int(engine.global_steps)


def _finish(
    state: Run, teacher_path: str, plan: CompressionPlan, engine: Any, frozen: nn.Module, steps: int
) -> dict[str, Any]:
    arguments, device = state.arguments, engine.device
    collate, size = _collator(state), arguments.per_device_eval_batch_size
    with state.phase("evaluate"):
        engine.eval()
        trained = {n: all_logits(engine, data, collate, size, device) for n, data in state.dev.items()}
        shipped = {n: all_logits(frozen, data, collate, size, device) for n, data in state.dev.items()}
        teacher = models.load_teacher_for(teacher_path, state.task).to(device)
        taught = {n: all_logits(teacher, data, collate, size, device) for n, data in state.dev.items()}
    with state.phase("export"):
        report = xtc_ds.export_packed(frozen, state.folder.packed, tokenizer=state.tokenizer)
    with state.phase("verify"):
        check = on_rank_zero(lambda: _verify(state, shipped, str(device)))
    layers = plan.reduction
    depth = getattr(teacher.config, "num_hidden_layers", None)
    results = {
        "task": state.task.name,
        "metric": state.task.headline,
        "teacher": score(state.task, taught, state.dev),
        "student": score(state.task, shipped, state.dev),
        "student_before_freeze": score(state.task, trained, state.dev),
        "layers": {"teacher": depth, "student": len(layers.kept) if layers else depth},
        "steps": steps,
        "seconds": state.seconds,
        "world_size": world_size(),
        "zero_stage": int(engine.zero_optimization_stage()),
        "bytes": {
            "dense": plan.sizes.original,
            "packed": report.file_bytes,
            "packed_planned": plan.sizes.packed,
            "packed_header": report.header_bytes,
        },
        "compression_ratio": round(plan.sizes.original / report.file_bytes, 3),
        "max_logit_difference": check["max_logit_difference"],
        "max_logit_difference_freeze": _difference(trained, shipped),
        "versions": versions(),
        "seed": arguments.seed,
        "ds_config": str(arguments.ds_config),
    }
    on_rank_zero(lambda: write_json(state.folder.results, results))
    state.say(results_table(results))
    state.say(f"reloaded in a fresh process: largest logit difference {check['max_logit_difference']:.2g}")
    state.say(f"packed model: {state.folder.packed}   figures: {state.folder.results}")
    return results


def _verify(state: Run, shipped: dict[str, np.ndarray], device: str) -> dict[str, float]:
    collate, worst = _collator(state), {"max_logit_difference": 0.0}
    for name, data in state.dev.items():
        parts = eval_batches(len(data), state.arguments.per_device_eval_batch_size)
        batches = [collate([data[i] for i in part.indices]) for part in parts]
        for batch in batches:
            batch.pop("labels")
        check = verify_in_fresh_process(state.folder.packed, batches, shipped[name], device)
        worst = max(worst, check, key=lambda item: item["max_logit_difference"])
    return worst


def _difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def _options(state: Run, title: str, steps: int, rate: float) -> TrainOptions:
    warmup = int(state.arguments.warmup_ratio * steps)
    return TrainOptions(title, steps, rate, warmup, state.arguments.weight_decay)


def _sampler(state: Run) -> LengthGroupedBatchSampler:
    return LengthGroupedBatchSampler(
        state.train.lengths,
        state.batches.micro,
        accumulation_steps=state.batches.accumulation,
        world_size=world_size(),
        rank=rank(),
        seed=state.arguments.seed,
    )


def _collator(state: Run) -> PadCollator:
    return PadCollator(state.tokenizer, is_regression=state.task.is_regression)


def _trainer(state: Run, engine: Any, sampler: LengthGroupedBatchSampler, options: TrainOptions) -> Trainer:
    return Trainer(engine, state.train, sampler, _collator(state), options, state.console)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    keys = ("ds_config", "task_name", "model_name_or_path", "teacher", "max_seq_length", "seed", "max_steps")
    more = ("num_train_epochs", "max_train_samples", "learning_rate", "per_device_train_batch_size")
    return {key: getattr(arguments, key) for key in keys + more}
