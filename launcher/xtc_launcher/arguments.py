"""The command line, in the names of Hugging Face's ``run_glue.py`` where it has one."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["parse_arguments"]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags; argparse ends the process with exit code 2 and a message for wrong usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--ds_config", "--deepspeed_config", required=True, metavar="FILE", help="DeepSpeed config with the block")
    add("--task_name", default="reviews", help="a GLUE task, or the embedded 'reviews'")
    add("--data_dir", type=Path, help="folder of GLUE's TSV files; without it the hub is asked")
    add("--model_name_or_path", help="what the teacher starts from; default: the model of the demo extra")
    add("--teacher", metavar="PATH", help="a fine-tuned teacher: a folder or hub id; skips the teacher's training")
    add("--max_seq_length", type=_whole(3), default=128, help="longer texts are cut (tokens)")
    add("--num_train_epochs", type=_number(0), default=None, help="epochs of the student; default 2")
    add("--max_steps", type=_whole(1), default=None, help="optimizer steps of the student; overrides the epochs")
    add("--teacher_num_train_epochs", type=_number(0), default=None, help="epochs of the teacher; default 1")
    add("--teacher_max_steps", type=_whole(1), default=None, help="optimizer steps of the teacher")
    add("--max_train_samples", type=_whole(1), default=None, help="train on so many examples only")
    add("--max_eval_samples", type=_whole(1), default=None, help="score so many examples only")
    add("--learning_rate", type=_number(0), default=None, help="peak rate of the student; default 3e-4")
    add("--teacher_learning_rate", type=_number(0), default=None, help="peak rate of the teacher; default 1e-4")
    add("--weight_decay", type=_number(-1e-30), default=0.01, help="AdamW's, not on biases and norms")
    add("--warmup_ratio", type=_number(-1e-30), default=0.1, help="share of the steps in which the rate rises")
    add("--per_device_train_batch_size", type=_whole(1), default=None, help="default: the config's, else 32")
    add("--per_device_eval_batch_size", type=_whole(1), default=64)
    add("--seed", type=_whole(0), default=42)
    add("--output_dir", type=Path, default=None, help="default: output/TASK-CONFIG, numbered if that exists")
    add("--overwrite_output_dir", action="store_true", help="use an output_dir that holds a run already")
    add("--resume", action="store_true", help="go on with the run in --output_dir")
    add(
        "--save_steps",
        type=_whole(0),
        default=500,
        help="checkpoint every so many steps (the newest is kept); 0: never",
    )
    add("--debug", action="store_true", help="show tracebacks")
    add("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}; found {value}")
        return value

    parse.__name__ = "whole number"
    return parse


def _number(above: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or value <= above:
            raise argparse.ArgumentTypeError(f"must be above {max(above, 0):g}; found {text}")
        return value

    parse.__name__ = "number"
    return parse
