"""Step time and peak memory of plain fine-tuning, of compression and distillation here, and of other libraries.

    python -m benchmarks.train_step --shape minilm --glue FOLDER --deepspeed_0196 ENV
    python -m benchmarks.train_step --shape bert-base --deepspeed_0196 ENV --json out.json --plot out.png

A step is forward, backward and ``AdamW(fused=True)``; bf16 means autocast over float32 weights. Every case lives in a
process of its own and all take single steps in turn, on the same batches, so that all see the same load; the ratio to
plain fp32 (and to plain bf16) is the median over pairs of steps of one round. Memory is the peak of a step on the
longest batch beyond what the process held before the model was built, with freed memory given back at once. MB = 1e6
bytes. The minilm shape also gives the time of an epoch on MRPC against batches that are all padded to 128 tokens, as
the example of DeepSpeed's compression library pads them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.common.arguments import argument_parser, plot_file
from benchmarks.train_step.report import Row, print_epoch, print_profile, print_table, save_plot
from benchmarks.train_step.workers import Worker, sample_lengths, start

_PLAIN = ("plain", "plain.bf16")
_OURS = (
    "w1a8", "w1a8.bf16backward", "w1a8.bf16", "w1a8.fake",
    "ternary-a8", "ternary-a8.bf16backward", "ternary-a8.bf16", "int8", "int8.bf16backward", "int8.bf16",
    "w1a8.kd", "w1a8.kd.bf16teacher", "w1a8.bf16backward.kd.bf16teacher", "w1a8.bf16.kd.bf16teacher",
    "w1a8.bf16.kd.int8teacher",
)  # fmt: skip
_TORCHAO = ("torchao", "torchao.bf16")
_DEEPSPEED = ("deepspeed", "deepspeed.kd", "deepspeed.bf16")
_PADDED = "minilm-padded"
MRPC_EXAMPLES = 3668


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    arguments = _parse(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console(stderr=True)
    wanted = _wanted(arguments)
    lengths = sample_lengths(arguments.shape, arguments.batches, arguments.glue)
    rounds = (arguments.rounds or (2 if len(lengths) > 1 else 6)) * len(lengths)
    plain = _start(wanted[: len(_PLAIN)], lengths, arguments, console)
    rows, rest = [], wanted[len(_PLAIN) :]
    for first in range(0, max(1, len(rest)), arguments.together):
        others = _start(rest[first : first + arguments.together], lengths, arguments, console)
        workers = {row.case: worker for row, worker in (*plain, *others) if worker is not None}
        measured = _take_turns(workers, rounds, len(lengths), console)
        for row, worker in (*(plain if not rows else ()), *others):
            rows.append(row)
            if worker is not None:
                row.summarize(measured, _PLAIN)
                if row.case in (arguments.profile or "").split(","):
                    print_profile(row.case, worker.ask("profile")["table"])
        for _, worker in others:
            if worker is not None:
                worker.close()
    for _, worker in plain:
        if worker is not None:
            worker.close()
    print_table(rows, arguments)
    epoch = print_epoch(rows, MRPC_EXAMPLES)
    if arguments.json:
        figures = {"load": os.getloadavg(), "epoch": epoch, "rows": [vars(row) for row in rows]}
        content = {"arguments": vars(arguments), **figures}
        Path(arguments.json).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    if arguments.plot:
        save_plot(rows, arguments.shape, arguments.plot)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argument_parser("benchmarks.train_step", __doc__)
    add = parser.add_argument
    add("--shape", default="minilm", choices=("minilm", "bert-base", "gpt2", "tiny"), help="default: minilm")
    add("--cases", metavar="A,B", help="beside plain and plain.bf16 (see train_step/cases.py); default: all")
    add("--rounds", type=int, help="in each, every case takes a step on each batch; default: 6, with many batches 2")
    add("--batches", type=int, default=4, help="batches of MRPC's lengths, from short to long; default: 4")
    add("--together", type=int, default=6, help="cases beside the plain ones that live at once (memory); default: 6")
    add("--warmup", type=int, default=1, help="steps before the measured ones; default: 1")
    add("--threads", type=int, default=os.cpu_count(), help="CPU threads; default: all")
    add("--glue", metavar="FOLDER", help="GLUE's files, to take lengths from; default: a built-in table of them")
    add("--deepspeed_0196", metavar="ENV", help="virtual environment with deepspeed 0.19.6")
    add("--torchao", metavar="ENV", help="virtual environment with torchao; default: this one")
    add("--profile", metavar="A,B", help="print where the time of these cases goes")
    add("--no_epoch", action="store_true", help="leave out the epoch with all batches padded to 128")
    add("--json", metavar="FILE", help="write all figures there too")
    add("--plot", metavar="FILE", type=plot_file, help="draw the ratios as bars there, with matplotlib")
    return parser.parse_args(argv)


def _wanted(arguments: argparse.Namespace) -> list[str]:
    old = bool(arguments.deepspeed_0196)
    every = [*_OURS, *_TORCHAO, *(_DEEPSPEED if old else ())]
    cases = arguments.cases.split(",") if arguments.cases else every
    padded = ("plain", *(("deepspeed", "deepspeed.kd") if old else ()))
    epoch = arguments.shape == "minilm" and not arguments.no_epoch
    others = [case for case in cases if case not in _PLAIN]
    return [*_PLAIN, *others, *(f"{_PADDED}:{case}" for case in padded if epoch)]


def _start(
    cases: Sequence[str], lengths: list[list[int]], arguments: argparse.Namespace, console: Console
) -> list[tuple[Row, Worker | None]]:
    """A row and a warm worker for each case; no worker where the library is not there."""
    started = []
    for case in cases:
        shape, _, name = case.rpartition(":")
        environment = {"deepspeed": arguments.deepspeed_0196, "torchao": arguments.torchao}.get(name.split(".")[0])
        if name.startswith("deepspeed") and environment is None:
            started.append((Row(case, unavailable="needs --deepspeed_0196"), None))
            continue
        worker = start(name, shape or arguments.shape, lengths, arguments.threads, environment)
        started.append((Row(case), worker))
    ready: list[tuple[Row, Worker | None]] = []
    with Progress(console=console, transient=True) as progress:
        for row, worker in progress.track(started, description="cases"):
            if worker is not None:
                said = worker.hear()
                row.memory, row.unavailable = said.get("bytes", 0), said.get("unavailable", "")
                if row.unavailable:
                    worker.close()
            ready.append((row, None if row.unavailable else worker))
        for _, worker in ready:
            for step in range(arguments.warmup if worker is not None else 0):
                assert worker is not None
                worker.ask(str(len(lengths) - 1 - step % len(lengths)))  # the longest first
    return ready


def _take_turns(workers: dict[str, Worker], steps: int, batches: int, console: Console) -> list[dict[str, float]]:
    """Seconds by case, of one step each on the same batch."""
    measured = []
    with Progress(console=console, transient=True) as progress:
        for number in progress.track(range(steps), description="steps in turn"):
            order = list(workers)[:: 1 - 2 * (number % 2)]  # turned round: neither always runs first
            measured.append({case: workers[case].ask(str(number % batches))["seconds"] for case in order})
    return measured


if __name__ == "__main__":
    raise SystemExit(main())
