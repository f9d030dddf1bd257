"""The command line. Flags that Hugging Face's ``run_glue.py`` has, too, have the same names as there."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from xtc_ds.errors import DataError
from xtc_ds.launcher.tasks import get_task

__all__ = ["add_flags", "add_task_flags", "parse_arguments"]

_DESCRIPTION = (
    "Fine-tune a teacher, compress it as the compression_training block of a DeepSpeed config says, train the "
    "student by distillation, write the packed model and check it in a fresh process."
)


class _Parser(argparse.ArgumentParser):
    """Prints only on rank 0, because every rank parses the same command line."""

    def error(self, message: str) -> NoReturn:
        if int(os.environ.get("RANK", "0")):
            sys.exit(2)
        self.exit(2, f"{self.prog}: error: {message}\n{self.prog}: --help lists all flags\n")


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "train.py") -> argparse.Namespace:
    """Parse the flags; ends the process with exit code 2 and a message for wrong usage."""
    parser = _Parser(prog=prog, description=_DESCRIPTION, allow_abbrev=False)
    add_flags(parser)
    add_task_flags(parser, argv)
    arguments = parser.parse_args(argv)
    if arguments.teacher is not None and arguments.model_name_or_path is not None:
        parser.error("--teacher and --model_name_or_path exclude each other: the student starts from the teacher")
    if arguments.resume and arguments.overwrite_output_dir:
        parser.error("--resume and --overwrite_output_dir exclude each other")
    if arguments.warmup_ratio > 1:
        parser.error(f"argument --warmup_ratio: must be at most 1; found {arguments.warmup_ratio:g}")
    return arguments


def add_task_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Add the flags of the task on the command line; an unknown task is reported later, like errors in its data."""
    first = _Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--task_name", default=parser.get_default("task_name"))
    name = first.parse_known_args(argv)[0].task_name
    try:
        task = get_task(name)
    except DataError:
        return
    task.add_arguments(parser.add_argument_group(f"task {task.name}"))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every run; a task may add more."""
    add = parser.add_argument_group("what").add_argument
    what = "DeepSpeed config with the block: a file, or the name of one that comes with the package, such as xtc_1bit"
    add("--ds_config", "--deepspeed_config", required=True, metavar="FILE", help=what)
    add("--task_name", default="reviews", metavar="TASK", help="GLUE task, or the embedded 'reviews' (the default)")
    add("--data_dir", type=Path, metavar="DIR", help="GLUE's original TSV files; default: the Hugging Face hub")
    add("--max_train_samples", type=_whole(1), metavar="N", help="train on N examples only; default: all")
    add("--max_eval_samples", type=_whole(1), metavar="N", help="score N examples of a dev set only; default: all")
    add("--max_seq_length", type=_whole(3), default=128, metavar="N", help="tokens; longer texts are cut; default: 128")
    add("--seed", type=_whole(0), default=42, metavar="N", help="of sampling, new heads and dropout; default: 42")

    add = parser.add_argument_group("teacher (and what the student starts from)").add_argument
    add("--model_name_or_path", metavar="MODEL", help="pretrained model to fine-tune; default: the demo extra's MiniLM")
    add("--teacher", metavar="MODEL", help="folder or hub id of a teacher fine-tuned for the task; trains none")
    add("--teacher_num_train_epochs", type=_number(0), metavar="X", help="default: 1")
    add("--teacher_max_steps", type=_whole(1), metavar="N", help="optimizer steps; overrides the epochs")
    add("--teacher_learning_rate", type=_number(0), metavar="X", help="peak rate; default: 1e-4")

    add = parser.add_argument_group("student").add_argument
    add("--num_train_epochs", type=_number(0), metavar="X", help="default: 3")
    add("--max_steps", type=_whole(1), metavar="N", help="optimizer steps; overrides the epochs")
    add("--learning_rate", type=_number(0), metavar="X", help="peak rate; default: 3e-4")

    add = parser.add_argument_group("both").add_argument
    add("--weight_decay", type=_number(0, True), default=0.01, metavar="X", help="of matrices only; default: 0.01")
    add("--warmup_ratio", type=_number(0, True), default=0.1, metavar="X", help="share of the steps; default: 0.1")
    batch_help = "default: the config's, else 32"
    add("--per_device_train_batch_size", type=_whole(1), metavar="N", help=batch_help)
    add("--per_device_eval_batch_size", type=_whole(1), default=64, metavar="N", help="default: 64")

    add = parser.add_argument_group("output").add_argument
    add("--output_dir", type=Path, metavar="DIR", help="default: output/TASK-CONFIG, numbered if that exists")
    add("--overwrite_output_dir", action="store_true", help="delete the run that --output_dir holds")
    add("--resume", action="store_true", help="go on with the interrupted run in --output_dir")
    save_help = "student's optimizer steps between checkpoints, of which the newest is kept; 0: none; default: 500"
    add("--save_steps", type=_whole(0), default=500, metavar="N", help=save_help)
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    add("--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}; found {value}")
        return value

    parse.__name__ = "whole number"
    return parse


def _number(least: float, may_equal: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or value < least or (value == least and not may_equal):
            raise argparse.ArgumentTypeError(f"must be {'at least' if may_equal else 'above'} {least:g}; found {text}")
        return value

    parse.__name__ = "number"
    return parse
