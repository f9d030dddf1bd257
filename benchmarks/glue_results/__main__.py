"""Run tasks x configs x seeds through the launcher and put all results into one table.

    python -m benchmarks.glue_results --data_dir glue --tasks mrpc sst2 --seeds 1 2 \
        --configs json_configs/quant_int8.json json_configs/xtc_1bit.json --out results --epochs 6 --teacher_epochs 3

One teacher is fine-tuned for each task and seed, by the first config's run; the other configs reuse it.
Every other flag goes to ``launcher/train.py`` as it is (``--learning_rate 5e-5 --max_seq_length 64 ...``).
Finished runs are skipped and interrupted ones resumed, so the same command can be given again, or with
other tasks and the same ``--out``. Writes ``table.md`` and ``table.json`` of all finished runs under ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import argument_parser
from benchmarks.common.processes import ROOT

__all__ = ["main"]

_TRAIN = ROOT / "launcher" / "train.py"
_COLUMNS = ("task", "config", "seed", "metrics", "teacher", "student", "steps", "seconds", "MB", "ratio")


@dataclass(frozen=True)
class Job:
    """One run of the launcher; its folder lies at ``out/TASK/SEED/CONFIG``."""

    task: str
    config: Path
    seed: int
    out: Path

    @property
    def seed_folder(self) -> Path:
        """Where all runs that share a teacher lie."""
        return self.out / self.task / f"seed{self.seed}"

    @property
    def folder(self) -> Path:
        return self.seed_folder / self.config.stem

    @property
    def log(self) -> Path:
        """What the run printed, after a line with its command."""
        return self.folder.with_suffix(".log")

    @property
    def name(self) -> str:
        return f"{self.task} {self.config.stem} seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        return (self.folder / "results.json").is_file()

    @property
    def is_begun(self) -> bool:
        return (self.folder / "run.json").is_file()

    def teacher(self) -> str | None:
        """A teacher that a run of another config has fine-tuned for this task and seed."""
        if self.is_begun:  # resumed with what it began with
            begun = json.loads((self.folder / "run.json").read_text(encoding="utf-8")).get("teacher")
            return str(begun) if begun else None
        found = sorted(self.seed_folder.glob("*/teacher/config.json"))
        return next((str(file.parent) for file in found), None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, write the table; 0 if every run finished."""
    arguments, passed = _parse(argv)
    failed: list[Job] = []
    jobs = list(_jobs(arguments))
    for number, job in enumerate(jobs, 1):
        title = f"[{number}/{len(jobs)}] {job.name}"
        if job.is_finished:
            print(f"{title}: finished before", flush=True)
            continue
        command = _command(job, arguments, passed)
        print(f"{title}: {shlex.join(command)}", flush=True)
        began = time.monotonic()
        code = _execute(job, command)
        print(f"{title}: {'exit code ' + str(code) if code else 'done'}, {time.monotonic() - began:.0f} s", flush=True)
        if code or not job.is_finished:
            failed.append(job)
            print("".join(f"    {line}\n" for line in job.log.read_text(errors="replace").splitlines()[-8:]))
        else:
            # They served the resumption of this run and are many times its size.
            shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
        _write_tables(arguments.out)
    print(_write_tables(arguments.out))
    for job in failed:
        print(f"failed: {job.name}, see {job.log}", file=sys.stderr)
    return 1 if failed else 0


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argument_parser("benchmarks.glue_results", __doc__)
    add = parser.add_argument
    add("--tasks", nargs="+", required=True, metavar="TASK", help="GLUE tasks, or reviews")
    add("--configs", nargs="+", required=True, type=Path, metavar="FILE", help="DeepSpeed configs with the block")
    add("--seeds", nargs="+", type=int, default=[1, 2], help="default: 1 2")
    add("--data_dir", type=Path, help="folder of GLUE's TSV files; without it the hub is asked")
    add("--out", type=Path, required=True, help="folder of the runs and of the table")
    add("--epochs", help="the launcher's --num_train_epochs, of the student")
    add("--teacher_epochs", help="the launcher's --teacher_num_train_epochs")
    add("--num_accelerators", type=int, help="processes of a run; default: as the deepspeed runner decides")
    arguments, passed = parser.parse_known_args(argv)
    missing = [str(file) for file in arguments.configs if not file.is_file()]
    if missing:
        parser.error(f"no such config: {', '.join(missing)}")
    stems = [file.stem for file in arguments.configs]
    if len(set(stems)) < len(stems):
        parser.error("two of the configs have the same file name; a run's folder is named after it")
    return arguments, passed


def _jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    for task in arguments.tasks:
        for seed in arguments.seeds:
            for config in arguments.configs:
                yield Job(task.casefold(), config, seed, arguments.out)


def _command(job: Job, arguments: argparse.Namespace, passed: list[str]) -> list[str]:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [shutil.which("deepspeed", path=search) or "deepspeed", "--master_port", str(_free_port())]
    if arguments.num_accelerators:
        command += ["--num_accelerators", str(arguments.num_accelerators)]
    command += [str(_TRAIN), "--ds_config", str(job.config), "--task_name", job.task, "--seed", str(job.seed)]
    if arguments.data_dir and job.task != "reviews":
        command += ["--data_dir", str(arguments.data_dir)]
    teacher = job.teacher()
    if teacher:
        command += ["--teacher", teacher]
    elif arguments.teacher_epochs:
        command += ["--teacher_num_train_epochs", arguments.teacher_epochs]
    if arguments.epochs:
        command += ["--num_train_epochs", arguments.epochs]
    command += ["--output_dir", str(job.folder), *passed]
    return [*command, "--resume"] if job.is_begun else command


def _execute(job: Job, command: list[str]) -> int:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_tables(out: Path) -> str:
    """Write both tables of all finished runs and return the markdown."""
    rows = [_row(file) for file in sorted(out.glob("*/seed*/*/results.json"))]
    text = _markdown(rows)
    if rows:
        (out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        (out / "table.md").write_text(text, encoding="utf-8")
    return text


def _row(file: Path) -> dict[str, Any]:
    results = json.loads(file.read_text(encoding="utf-8"))
    seconds = results["seconds"]
    return {
        "task": results["task"],
        "config": file.parent.name,
        "seed": results["seed"],
        "metrics": [name for name in results["student"] if name != "headline"],
        "teacher": results["teacher"],
        "student": results["student"],
        "steps": results["steps"],
        "seconds": seconds,
        "file_MB": results["bytes"]["packed"] / 1e6,
        "dense_MB": results["bytes"]["dense"] / 1e6,
        "compression_ratio": results["compression_ratio"],
        "max_logit_difference": results["max_logit_difference"],
        "world_size": results["world_size"],
        "command": _last_command(file.parent.with_suffix(".log")),
    }


def _last_command(log: Path) -> str | None:
    if not log.is_file():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line[2:] for line in reversed(lines) if line.startswith("$ ")), None)


def _markdown(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no finished runs\n"
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["config"]), []).append(row)
    for members in groups.values():
        lines += [_run_line(row) for row in sorted(members, key=lambda row: row["seed"])]
        if len(members) > 1:
            lines.append(_mean_line(members))
    note = "Scores in percent, teacher and student of the same seed; MB of 1e6 bytes; seconds of the student's training"
    return "\n".join([*lines, "", note + ".", ""])


def _run_line(row: dict[str, Any]) -> str:
    scores = [" / ".join(f"{100 * row[who][name]:.1f}" for name in row["metrics"]) for who in ("teacher", "student")]
    metrics, seconds = " / ".join(row["metrics"]), f"{row['seconds'].get('student', 0):.0f}"
    size = [f"{row['file_MB']:.2f}", f"{row['compression_ratio']:.1f}x"]
    return _line([row["task"], row["config"], row["seed"], metrics, *scores, row["steps"], seconds, *size])


def _mean_line(members: list[dict[str, Any]]) -> str:
    def mean(who: str, name: str) -> str:
        values = [100 * row[who][name] for row in members]
        return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"

    metrics = members[0]["metrics"]
    scores = [" / ".join(mean(who, name) for name in metrics) for who in ("teacher", "student")]
    label = f"mean of {len(members)} ± sd"
    bold = [f"**{text}**" for text in (label, " / ".join(metrics), *scores)]
    return _line([members[0]["task"], members[0]["config"], *bold, "", "", "", ""])


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
