"""The phases of a run: set-up, teacher, plan, student, score, export, verify."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch import nn
from transformers import set_seed

import xtc_ds
from xtc_ds.atomic import whole_folder
from xtc_ds.distributed import on_rank_zero, rank
from xtc_ds.errors import ConfigError, XtcError
from xtc_ds.launcher import models
from xtc_ds.launcher.ds_config import fill_config
from xtc_ds.launcher.evaluation import score
from xtc_ds.launcher.finish import finish, predict_dev
from xtc_ds.launcher.inputs import Inputs, check_inputs
from xtc_ds.launcher.nodes import meet
from xtc_ds.launcher.results import LossCurve
from xtc_ds.launcher.run_state import RunState
from xtc_ds.launcher.setup import set_up
from xtc_ds.launcher.training import TrainingLoop, TrainOptions, build_optimizer, total_steps

__all__ = ["run"]

_STUDENT_EPOCHS, _STUDENT_RATE = 3.0, 3e-4
_TEACHER_EPOCHS, _TEACHER_RATE = 1.0, 1e-4


def run(arguments: argparse.Namespace, inputs: Inputs | None = None) -> dict[str, Any]:
    """Do the whole run and return the content of ``results.json``.

    Raises an XtcError for bad input before anything is written or trained.
    """
    began = time.monotonic()
    # Everything that a user can get wrong is checked before a process group or a file exists.
    state = set_up(arguments, inputs or check_inputs(arguments))
    meet()
    state.seconds["prepare"] = round(time.monotonic() - began, 2)
    teacher = _teacher(state)
    with state.phase("evaluate"):
        device = torch.device(get_accelerator().current_device_name())
        scores = score(state.task, predict_dev(state, teacher.to(device), device), state.dev)
    shown = ", ".join(
        f"{name} {state.task.format_score(name, value)}" for name, value in scores.items() if name != "headline"
    )
    state.say(f"teacher: {shown}")
    depth = getattr(teacher.config, "num_hidden_layers", None)
    plan, engine, frozen, steps = _student(state, teacher)
    return finish(state, plan, engine, frozen, steps, {"score": scores, "layers": depth})


def _teacher(state: RunState) -> Any:
    """The teacher with frozen parameters; trains it unless one is given."""
    arguments, folder = state.arguments, state.inputs.folder
    if state.teacher:
        return state.model
    if arguments.resume and (folder.teacher / "config.json").is_file():
        state.say(f"teacher: taken from {folder.teacher}")
        return models.load_teacher_for(str(folder.teacher), state.task, state.tokenizer)
    with state.phase("teacher"):
        set_seed(arguments.seed)
        model, sampler = state.model, state.sampler()
        steps = total_steps(
            arguments.teacher_max_steps,
            arguments.teacher_num_train_epochs or _TEACHER_EPOCHS,
            sampler.steps_per_epoch,
        )
        options = _options(state, "teacher", steps, arguments.teacher_learning_rate or _TEACHER_RATE)
        config = _config(state, options)
        engine = _initialize(
            deepspeed.initialize, model=model, config=config, **build_optimizer(model, options, config)
        )
        _begin(state)
        TrainingLoop(engine, state.train, sampler, state.collator(), options, state.console).run()
        whole = xtc_ds.snapshot(engine.module).float()
        engine.destroy()
        on_rank_zero(lambda: _save_dense(state, whole))
    if not (folder.teacher / "config.json").is_file():
        return whole.requires_grad_(False).eval()  # another node wrote it to a folder that is not shared
    return models.load_teacher_for(str(folder.teacher), state.task, state.tokenizer)


def _save_dense(state: RunState, model: Any) -> None:
    folder = state.inputs.folder
    with whole_folder(folder.teacher) as temporary:
        model.save_pretrained(temporary)
        state.tokenizer.save_pretrained(temporary)


def _student(state: RunState, teacher: nn.Module) -> tuple[xtc_ds.CompressionPlan, Any, nn.Module, int]:
    """Compress and train; returns plan, engine, frozen model and steps."""
    arguments = state.arguments
    set_seed(arguments.seed)
    student = copy.deepcopy(teacher).cpu().requires_grad_(True)
    plan = xtc_ds.make_plan(student, state.inputs.block, teacher)
    state.say(xtc_ds.plan_table(plan))
    with state.phase("student"):
        sampler = state.sampler()
        steps = total_steps(arguments.max_steps, arguments.num_train_epochs or _STUDENT_EPOCHS, sampler.steps_per_epoch)
        options = _options(state, "student", steps, arguments.learning_rate or _STUDENT_RATE)
        config = _config(state, options)
        engine = _initialize(
            xtc_ds.initialize,
            model=student,
            teacher=teacher,
            config={**config, "compression_training": state.inputs.block},
            **build_optimizer(student, options, config),
        )
        _begin(state)
        trainer = TrainingLoop(engine, state.train, sampler, state.collator(), options, state.console)
        start = _resume(state, engine)
        curve = on_rank_zero(lambda: LossCurve(state.inputs.folder.losses, start))

        def after_step(step: int) -> None:
            if rank() == 0:
                curve.add(step, trainer.losses[-1])
            _checkpoint(state, engine, step)

        trainer.after_step = after_step
        trainer.run(start)
    with state.phase("freeze"):
        frozen = xtc_ds.freeze(engine).to(engine.device)
    return plan, engine, frozen, steps


def _initialize(function: Callable[..., Any], **arguments: Any) -> Any:
    """Build the engine. Raises ConfigError if DeepSpeed cannot train with this config on this machine."""
    try:
        engine, *_ = function(**arguments)
    except (XtcError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # many types: an unknown optimizer parameter, a dtype that the device lacks, ...
        raise ConfigError(f"DeepSpeed cannot start with this config: {error or type(error).__name__}") from error
    return engine


def _begin(state: RunState) -> None:
    """Create the run's folder, once, after all checks have passed."""
    if not state.begun:
        on_rank_zero(lambda: state.inputs.folder.begin(state.inputs.settings, state.arguments.resume))
        state.begun = True


def _checkpoint(state: RunState, engine: Any, step: int) -> None:
    every, folder = state.arguments.save_steps, state.inputs.folder
    if every and step % every == 0:
        engine.save_checkpoint(str(folder.checkpoints))
        on_rank_zero(folder.keep_newest_checkpoint)


def _resume(state: RunState, engine: Any) -> int:
    folder = state.inputs.folder
    if not state.arguments.resume:
        return 0
    if not (folder.checkpoints / "latest").is_file():
        state.say(f"no checkpoint of the student yet (--save_steps {state.arguments.save_steps}): from its first step")
        return 0
    engine.load_checkpoint(str(folder.checkpoints))
    state.say(f"resumed at step {engine.global_steps}")
    return int(engine.global_steps)


def _config(state: RunState, options: TrainOptions) -> dict[str, Any]:
    inputs = state.inputs
    return fill_config(
        inputs.ds_config, inputs.batches, options.rate, options.steps, options.warmup, options.weight_decay
    )


def _options(state: RunState, title: str, steps: int, rate: float) -> TrainOptions:
    arguments = state.arguments
    return TrainOptions(title, steps, rate, int(arguments.warmup_ratio * steps), arguments.weight_decay, arguments.seed)
