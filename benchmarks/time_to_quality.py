"""Seconds of training until a compressed student reaches a dev accuracy on MRPC.

    python benchmarks/time_to_quality.py --glue FOLDER --teacher FOLDER --deepspeed_0196 ENV --target 0.80

The student has the teacher's depth, 1-bit weights and 8-bit inputs, and learns from logits, hidden states and attention
at a rate that falls to 0. Here: batches of like length, bfloat16 autocast, the integer forward, a bfloat16 teacher.
DeepSpeed 0.19.6: its compression in float32 and all batches padded to 128, as its example does it. The competitors
run one after the other; each stops at the target, after ``--budget`` seconds of training or after ``--steps`` steps.
Evaluation is not counted.
A teacher comes from ``launcher/train.py`` (OUTPUT_DIR/teacher).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_HERE = Path(__file__).resolve().parent
_BATCH, _PADDED = 32, 128


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, print."""
    arguments = _parse(argv)
    cases = {"here, bf16": ("w1a8.bf16.kd.bf16teacher", None, sys.executable)}
    if not arguments.bf16_only:
        cases["here, fp32"] = ("w1a8.kd.bf16teacher", None, sys.executable)
    if arguments.deepspeed_0196:
        cases["deepspeed 0.19.6"] = ("deepspeed.kd", _PADDED, f"{arguments.deepspeed_0196}/bin/python")
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mrpc.json"
        data.write_text(json.dumps(_data(arguments)))
        for name, (case, pad_to, python) in cases.items():
            keys = ("teacher", "steps", "every", "target", "budget", "rate", "threads", "seed")
            task = {key: getattr(arguments, key) for key in keys} | {"case": case, "pad_to": pad_to, "data": str(data)}
            results[name] = _run(python, task)
    _print(results, arguments.target)
    if arguments.json:
        content = {"arguments": vars(arguments), "load": os.getloadavg(), "curves": results}
        Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--glue", metavar="FOLDER", required=True, help="GLUE's files")
    add("--teacher", metavar="FOLDER", required=True, help="a classifier fine-tuned on MRPC, with its tokenizer")
    add("--deepspeed_0196", metavar="ENV", help="virtual environment with deepspeed 0.19.6")
    add("--target", type=float, default=0.80, help="dev accuracy to reach; default: 0.80")
    add("--budget", type=float, default=600, help="most seconds of training for each; default: 600")
    add("--steps", type=int, default=1150, help="most optimizer steps, over which the rate falls; default: 1150")
    add("--every", type=int, default=23, help="steps between evaluations; default: 23, a fifth of an epoch")
    add("--rate", type=float, default=3e-4, help="learning rate at the start; default: 3e-4")
    add("--train_samples", type=int, help="default: all")
    add("--dev_samples", type=int, help="default: all")
    add("--bf16_only", action="store_true", help="leave out our float32 run")
    add("--threads", type=int, default=os.cpu_count())
    add("--seed", type=int, default=42)
    add("--json", metavar="FILE", help="write the curves there")
    return parser.parse_args(argv)


def _data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encoded MRPC and the batches of ten epochs, the same for all."""
    from transformers import AutoTokenizer
    from xtc_launcher import LengthGroupedBatchSampler, encode
    from xtc_launcher.tasks import load_task

    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher)
    task = load_task("mrpc", arguments.glue, arguments.train_samples, arguments.dev_samples, arguments.seed)
    train, dev = encode(tokenizer, task.train, _PADDED), encode(tokenizer, next(iter(task.dev.values())), _PADDED)
    sampler = LengthGroupedBatchSampler(train.lengths, _BATCH, seed=arguments.seed)
    batches: list[list[int]] = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        batches += sampler
    return {"train": list(map(_row, train)), "dev": list(map(_row, dev)), "batches": batches}  # type: ignore[call-overload]


def _row(example: dict[str, Any]) -> dict[str, Any]:
    ids = list(example["input_ids"])
    types = list(example.get("token_type_ids", [0] * len(ids)))
    return {"input_ids": ids, "token_type_ids": types, "labels": int(example["labels"])}


def _run(python: str, task: dict[str, Any]) -> list[dict[str, float]]:
    paths = os.pathsep.join([str(_HERE), str(_HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "DS_ACCELERATOR": "cpu", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [python, str(_HERE / "time_to_quality_worker.py"), json.dumps(task)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task['case']} failed:\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _print(results: dict[str, list[dict[str, float]]], target: float) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(title=f"MRPC, dev accuracy {target:.3f}; load {load}", title_justify="left")
    for column in ("", "seconds to the target", "steps", "best", "seconds in all", "s a step"):
        table.add_column(column, justify="right" if column else "left")
    for name, curve in results.items():
        there = next((point for point in curve if point["accuracy"] >= target), None)
        seconds, steps = (f"{there['seconds']:.0f}", f"{there['step']:.0f}") if there else ("not reached", "")
        last, best = curve[-1], max(point["accuracy"] for point in curve)
        each = last["seconds"] / max(1, last["step"])
        table.add_row(name, seconds, steps, f"{best:.3f}", f"{last['seconds']:.0f}", f"{each:.2f}")
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
