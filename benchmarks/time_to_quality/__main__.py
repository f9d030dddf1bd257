"""Seconds of training until a compressed student reaches a dev accuracy on MRPC.

    python -m benchmarks.time_to_quality --glue FOLDER --teacher FOLDER --deepspeed_0196 ENV

The student starts from the teacher, has its depth, weights of ``--weights`` bits and 8-bit inputs, and learns from
logits, hidden states and attention at a rate that falls to 0; all see the same examples in one order. Here: batches
of like length, the integer forward, an int8 teacher, in bfloat16 autocast and in float32. DeepSpeed 0.19.6: its
compression in float32, a float32 teacher and all batches padded to 128, as its example does it. The competitors run one
after the other; each stops at the target, after ``--budget`` seconds of training or after ``--steps`` steps. Evaluation
is not counted. A teacher comes from ``launcher/train.py --task_name mrpc`` (OUTPUT_DIR/teacher).
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

from benchmarks.common.arguments import argument_parser, plot_file
from benchmarks.common.processes import child_environment
from benchmarks.time_to_quality.report import Curve, plot, print_table

_BATCH, _PADDED = 32, 128


# Bits of the weights: our method, and the target_bits of the old library.
_WEIGHTS = {"1": ("w1a8", 1), "1.58": ("ternary-a8", 2), "8": ("int8", 8)}
_RIVAL = "deepspeed 0.19.6"


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, print."""
    arguments = _parse(argv)
    results: dict[str, Curve] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mrpc.json"
        data.write_text(json.dumps(_data(arguments)))
        for name, (case, pad_to, python) in _cases(arguments).items():
            keys = ("teacher", "steps", "every", "target", "budget", "rate", "threads", "seed")
            task = {key: getattr(arguments, key) for key in keys} | {"case": case, "pad_to": pad_to, "data": str(data)}
            results[name] = _run(name, python, task | {"bits": _WEIGHTS[arguments.weights][1]})
            if arguments.json:  # after each: the next takes minutes
                content = {"arguments": vars(arguments), "load": os.getloadavg(), "curves": results}
                Path(arguments.json).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    print_table(results, arguments.target, arguments.weights)
    if arguments.plot:
        plot(results, arguments.target, arguments.plot)
    return 0


def _cases(arguments: argparse.Namespace) -> dict[str, tuple[str, int | None, str]]:
    """Name to case, padding and interpreter."""
    method = _WEIGHTS[arguments.weights][0]
    cases: dict[str, tuple[str, int | None, str]] = {
        "here, bf16": (f"{method}.bf16.kd.int8teacher", None, sys.executable),
        "here, fp32": (f"{method}.kd.int8teacher", None, sys.executable),
    }
    if arguments.deepspeed_0196:
        cases[_RIVAL] = ("deepspeed.kd", _PADDED, f"{arguments.deepspeed_0196}/bin/python")
    unknown = sorted(set(arguments.only or ()) - set(cases))
    if unknown:
        raise SystemExit(f"--only: no competitor {', '.join(unknown)}; there are: {', '.join(cases)}")
    return {name: case for name, case in cases.items() if not arguments.only or name in arguments.only}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argument_parser("benchmarks.time_to_quality", __doc__)
    add = parser.add_argument
    add("--glue", metavar="FOLDER", required=True, help="GLUE's files")
    add("--teacher", metavar="FOLDER", required=True, help="a classifier fine-tuned on MRPC, with its tokenizer")
    add("--deepspeed_0196", metavar="ENV", help="virtual environment with deepspeed 0.19.6")
    add("--weights", choices=list(_WEIGHTS), default="1.58", help="bits of a weight; default: 1.58, ternary")
    add("--target", type=float, default=0.77, help="dev accuracy to reach; default: 0.77")
    add("--budget", type=float, default=600, help="most seconds of training for each; default: 600")
    add("--steps", type=int, default=184, help="most optimizer steps, over which the rate falls; default: 184")
    add("--every", type=int, default=23, help="steps between evaluations; default: 23, a fifth of an epoch")
    add("--rate", type=float, default=5e-4, help="learning rate at the start; default: 5e-4")
    add("--train_samples", type=int, help="default: all")
    add("--dev_samples", type=int, help="default: all")
    add("--only", metavar="NAME", nargs="+", help="competitors, as the table names them; default: all")
    add("--threads", type=int, default=os.cpu_count())
    add("--seed", type=int, default=42)
    add("--json", metavar="FILE", help="write the curves there")
    add("--plot", metavar="FILE", type=plot_file, help="draw score against seconds, with matplotlib")
    return parser.parse_args(argv)


def _data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encoded MRPC and the batches of all steps, the same for all."""
    from transformers import AutoTokenizer

    from xtc_ds.launcher import encode
    from xtc_ds.launcher.batching import LengthGroupedBatchSampler
    from xtc_ds.launcher.tasks import load_task

    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher)
    task = load_task("mrpc", arguments.glue, arguments.train_samples, arguments.dev_samples, arguments.seed)
    train, dev = encode(tokenizer, task.train, _PADDED), encode(tokenizer, next(iter(task.dev.values())), _PADDED)
    sampler = LengthGroupedBatchSampler(train.lengths, _BATCH, seed=arguments.seed)
    batches: list[list[int]] = []
    for epoch in range(-(-arguments.steps // sampler.steps_per_epoch)):
        sampler.set_epoch(epoch)
        batches += sampler
    return {"train": list(map(_row, train)), "dev": list(map(_row, dev)), "batches": batches}  # type: ignore[call-overload]


def _row(example: dict[str, Any]) -> dict[str, Any]:
    ids = list(example["input_ids"])
    types = list(example.get("token_type_ids", [0] * len(ids)))
    return {"input_ids": ids, "token_type_ids": types, "labels": int(example["labels"])}


def _run(name: str, python: str, task: dict[str, Any]) -> Curve:
    environment = child_environment(DS_ACCELERATOR="cpu", OMP_WAIT_POLICY="PASSIVE")
    command = [python, "-m", "benchmarks.time_to_quality.worker", json.dumps(task)]
    curve: Curve = []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                curve.append(json.loads(line))
                print(f"{name}: {line.strip()}", file=sys.stderr, flush=True)
        if worker.returncode or not curve:
            errors.seek(0)
            raise SystemExit(f"{name} ({task['case']}) failed:\n{errors.read()[-3000:]}")
    return curve


if __name__ == "__main__":
    raise SystemExit(main())
