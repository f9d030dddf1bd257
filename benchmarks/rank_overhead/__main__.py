"""What compression adds to a step of plain DeepSpeed, by number of ranks and ZeRO stage.

    python -m benchmarks.rank_overhead

For each number of ranks the ``deepspeed`` runner is started once. In it all engines take single steps in turn; the
ratio is the median over pairs of neighbouring steps on rank 0, with a 95 % bootstrap interval. The model and its batch
(per rank) are made as those of ``benchmarks.engine_overhead``; one thread a rank.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import argument_parser
from benchmarks.common.paired import paired_ratio
from benchmarks.common.processes import child_environment

__all__ = ["main"]

STAGES = (0, 1, 2, 3)
CASE = "weights 1 bit, activations 8 bit"
Figures = dict[str, dict[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; as a worker (``--out``), write rank 0's figures."""
    arguments = _parse(argv)
    if arguments.out:
        _work(arguments)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = {ranks: _launch(ranks, arguments, Path(folder) / f"{ranks}.json") for ranks in arguments.ranks}
    _print_table(found, arguments)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argument_parser("benchmarks.rank_overhead", __doc__)
    add = parser.add_argument
    add("--ranks", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    add("--layers", type=int, default=2)
    add("--hidden", type=int, default=256, help="default: 256")
    add("--batch", type=int, default=8, help="of a rank")
    add("--tokens", type=int, default=64)
    add("--pairs", type=int, default=40, help="measured pairs of steps; default: 40")
    add("--out", help=argparse.SUPPRESS)
    add("--local_rank", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _launch(ranks: int, arguments: argparse.Namespace, out: Path) -> Figures:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runner = Path(sys.executable).with_name("deepspeed")
    command = [str(runner), "--num_accelerators", str(ranks), "--master_port", str(port)]
    command += ["--module", "benchmarks.rank_overhead", "--out", str(out)]
    names = ("layers", "hidden", "batch", "tokens", "pairs")
    flags = [f"--{name}={getattr(arguments, name)}" for name in names]
    environment = child_environment(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    print(f"{ranks} ranks ...", file=sys.stderr)
    done = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    figures: Figures = json.loads(out.read_text(encoding="utf-8"))
    return figures


def _work(arguments: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    import torch

    from benchmarks.engine_overhead import cases

    torch.set_num_threads(1)
    cases.start_processes()
    shape = cases.Shape(arguments.layers, arguments.hidden, arguments.batch, arguments.tokens)
    batch = cases.make_batch(shape)
    engines = {
        (case, stage): cases.build_engine(case, shape, stage) for stage in STAGES for case in (cases.PLAIN, CASE)
    }
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in engines}
    for number in range(arguments.pairs + 5):
        for stage in STAGES:
            for case in (cases.PLAIN, CASE)[:: 1 - 2 * (number % 2)]:
                began = time.perf_counter()
                cases.train_step(engines[case, stage], batch)
                seconds[case, stage].append(time.perf_counter() - began)
    if torch.distributed.get_rank() == 0:
        figures = {str(stage): _ratio(seconds[cases.PLAIN, stage][5:], seconds[CASE, stage][5:]) for stage in STAGES}
        Path(arguments.out).write_text(json.dumps(figures), encoding="utf-8")


def _ratio(plain: list[float], ours: list[float]) -> dict[str, float]:
    ratio, low, high = paired_ratio(ours, plain)
    return {"plain": statistics.median(plain), "ratio": ratio, "low": low, "high": high}


def _print_table(found: dict[int, Figures], arguments: argparse.Namespace) -> None:
    size = f"{arguments.layers} layers, hidden {arguments.hidden}, batch {arguments.batch} x {arguments.tokens} a rank"
    print(f"| {size} | ranks | plain, ms | {CASE} / plain | 95 % |\n|---|---:|---:|---:|---|")
    for stage in STAGES:
        for ranks, figures in found.items():
            row: dict[str, Any] = figures[str(stage)]
            interval = f"{row['low']:.3f} to {row['high']:.3f}"
            print(f"| ZeRO {stage} | {ranks} | {1e3 * row['plain']:.1f} | {row['ratio']:.3f} | {interval} |")


if __name__ == "__main__":
    sys.exit(main())
