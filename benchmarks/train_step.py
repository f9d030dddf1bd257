"""Step time and peak memory of plain fine-tuning, of compression and distillation here, and of other libraries.

    python benchmarks/train_step.py --shape minilm --glue FOLDER
    python benchmarks/train_step.py --shape bert-base --deepspeed_0196 ENV --json out.json --plot out.png

A step is forward, backward and ``AdamW(fused=True)``; bf16 means autocast over float32 weights. Every case lives in a
process of its own and all take single steps in turn, on the same batches, so that all see the same load; the ratio to
plain fp32 (and to plain bf16) is the median over pairs of steps of one round. Memory is the process's peak beyond what
it held before the model was built. MB = 1e6 bytes. The minilm shape also gives the time of an epoch on MRPC against
batches that are all padded to 128 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from train_step_report import Row, epoch_line, print_profile, print_table, save_plot
from train_step_workers import Worker, sample_lengths, start

_PLAIN = ("plain", "plain.bf16")
_OURS = ("w1a8", "ternary", "int8")
_ALL = (
    *_PLAIN,
    *(f"{method}{half}{fake}" for method in _OURS for half in ("", ".bf16") for fake in ("", ".fake")),
    "w1a8.kd", "w1a8.fake.kd", "w1a8.kd.bf16teacher", "w1a8.bf16.kd", "w1a8.bf16.kd.bf16teacher", "w1a8.bf16.logits",
    "torchao", "torchao.bf16",
)  # fmt: skip
_DEEPSPEED = ("deepspeed", "deepspeed.bf16", "deepspeed.kd", "deepspeed.bf16.kd")
_PADDED = "minilm-padded"
MRPC_EXAMPLES = 3668


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    arguments = _parse(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console(stderr=True)
    every = [*_ALL, *(_DEEPSPEED if arguments.deepspeed_0196 else ())]
    cases = arguments.cases.split(",") if arguments.cases else every
    wanted = [*_PLAIN, *(case for case in cases if case not in _PLAIN)]
    if arguments.shape == "minilm" and not arguments.no_epoch:
        wanted.append(f"{_PADDED}:{'deepspeed' if arguments.deepspeed_0196 else 'plain'}")
    rest = wanted[len(_PLAIN) :]
    by_case: dict[str, Row] = {}
    for first in range(0, max(1, len(rest)), arguments.together):
        found = _measure([*_PLAIN, *rest[first : first + arguments.together]], arguments, console)
        by_case = {row.case: row for row in found} | by_case  # plain: as in the first group
    rows = [by_case[case] for case in wanted]
    print_table(rows, arguments)
    epoch = epoch_line(rows, arguments, MRPC_EXAMPLES)
    if arguments.json:
        figures = {"load": os.getloadavg(), "epoch": epoch, "rows": [vars(row) for row in rows]}
        content = {"arguments": vars(arguments), **figures}
        Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if arguments.plot:
        save_plot(rows, Path(arguments.plot))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", default="minilm", choices=("minilm", "bert-base", "gpt2", "tiny"), help="default: minilm")
    add("--cases", metavar="A,B", help="beside plain and plain.bf16; default: all. See train_step_cases.py")
    add("--rounds", type=int, default=5, help="every case takes a step on each batch in each round; default: 5")
    add("--batches", type=int, default=5, help="batches of MRPC's lengths, from short to long; default: 5")
    add("--together", type=int, default=3, help="cases beside the plain ones that live at once (memory); default: 3")
    add("--warmup", type=int, default=2, help="steps before the measured ones; default: 2")
    add("--threads", type=int, default=os.cpu_count(), help="CPU threads; default: all")
    add("--glue", metavar="FOLDER", help="GLUE's files, to take lengths from; default: a built-in table of them")
    add("--deepspeed_0196", metavar="ENV", help="virtual environment with deepspeed 0.19.6")
    add("--profile", metavar="A,B", help="print where the time of these cases goes")
    add("--profile_rows", type=int, default=12)
    add("--no_memory", action="store_true", help="times only")
    add("--no_epoch", action="store_true", help="leave out the epoch with all batches padded to 128")
    add("--json", metavar="FILE", help="write all figures there too")
    add("--plot", metavar="FILE", help="draw the bars there (needs matplotlib: the benchmarks extra)")
    return parser.parse_args(argv)


def _measure(cases: list[str], arguments: argparse.Namespace, console: Console) -> list[Row]:
    """Cases that live side by side; what is measured of them."""
    lengths = sample_lengths(arguments.shape, arguments.batches, arguments.glue)
    workers: dict[str, Worker] = {}
    rows = [Row(case) for case in cases]
    with Progress(console=console, transient=True) as progress:
        for row in progress.track(rows, description="cases"):
            padded, _, name = row.case.rpartition(":")
            environment = arguments.deepspeed_0196 if name.startswith("deepspeed") else None
            widths = [[128] * 32] * arguments.batches if padded else lengths
            worker, row.unavailable = start(name, padded or arguments.shape, widths, arguments.threads, environment)
            if worker is not None:
                workers[row.case] = worker
                for step in range(arguments.warmup):
                    worker.ask(str(step % len(widths)))
    rounds = _rounds(workers, arguments, console)
    for row in rows:
        if row.case in workers:
            row.memory = 0 if arguments.no_memory else workers[row.case].ask("memory")["bytes"]
            row.summarize(rounds, _PLAIN)
    for case in set(arguments.profile.split(",")) & set(workers) if arguments.profile else ():
        print_profile(case, workers[case].ask(f"profile {arguments.profile_rows}")["table"])
    for worker in workers.values():
        worker.close()
    return rows


def _rounds(workers: dict[str, Worker], arguments: argparse.Namespace, console: Console) -> list[dict[str, float]]:
    """Seconds by case, of one step each on the same batch."""
    measured = []
    batches = arguments.batches if arguments.shape == "minilm" else 1
    with Progress(console=console, transient=True) as progress:
        for number in progress.track(range(arguments.rounds * batches), description="steps in turn"):
            order = list(workers)[:: 1 - 2 * (number % 2)]  # turned round: neither always runs first
            measured.append({case: workers[case].ask(str(number % batches))["seconds"] for case in order})
    return measured


if __name__ == "__main__":
    raise SystemExit(main())
