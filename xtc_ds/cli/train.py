"""``xtc-ds train``: run the launcher in this process, or in several processes with flags of DeepSpeed's runner."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from xtc_ds.launcher.arguments import add_flags, add_task_flags

__all__ = ["register", "run"]

_PROG = "xtc-ds train"
_DESCRIPTION = (
    "Compress a model on a task, end to end, as launcher/train.py does. Flags of DeepSpeed's runner start several "
    "processes; without any of them it is one process, or the one that another runner (deepspeed, torchrun, srun) "
    "has started."
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with all its flags, for ``--help`` and the reference; ``run`` does the actual parsing."""
    what = "fine-tune a teacher, compress and train the student, write the packed model"
    # "resolve": ``main`` adds --debug to every command, and the launcher has its own flag of that name.
    parser = subparsers.add_parser("train", help=what, description=_DESCRIPTION, conflict_handler="resolve")
    add_flags(parser)
    _add_runner_flags(parser)


def run(words: Sequence[str]) -> NoReturn:
    """Run ``xtc-ds train`` with the arguments ``words``; does not return."""
    parser = argparse.ArgumentParser(prog=_PROG, add_help=False, allow_abbrev=False)
    _add_runner_flags(parser)
    if "-h" in words or "--help" in words:
        parser.description = _DESCRIPTION
        add_flags(parser)
        add_task_flags(parser, [word for word in words if word not in ("-h", "--help")])
        parser.print_help()
        sys.exit(0)
    known, flags = parser.parse_known_args(words)
    runner = [f"--{name}" if value is True else f"--{name}={value}" for name, value in vars(known).items() if value]
    if runner:
        command = [sys.executable, "-m", "deepspeed.launcher.runner", *runner, "--module", "xtc_ds.launcher", *flags]
        sys.stdout.flush()
        os.execv(sys.executable, command)
    from xtc_ds.launcher.train import run_and_exit

    run_and_exit(flags, _PROG)


def _add_runner_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("processes (flags of DeepSpeed's runner)").add_argument
    add("--num_gpus", "--num_accelerators", metavar="N", help="processes on each node; on CPUs as well")
    add("--num_nodes", metavar="N", help="the first N hosts of the hostfile")
    add("--hostfile", metavar="FILE", help="lines such as 'node-0 slots=4'")
    add("--include", metavar="NODES", help="only these hosts and devices, such as node-1:0,2")
    add("--exclude", metavar="NODES", help="all but these hosts and devices")
    add("--master_addr", metavar="HOST", help="address of the first node")
    add("--master_port", metavar="PORT", help="port of the first node; default: 29500")
    add("--node_rank", metavar="N", help="number of this node, with --no_ssh")
    add("--launcher", metavar="NAME", help="pdsh (the default), openmpi, mpich, impi, mvapich or slurm")
    add("--launcher_args", metavar="ARGS", help="one quoted argument for that program")
    add("--no_ssh", action="store_true", help="the same command is started on every node by hand")
    add("--no_ssh_check", action="store_true", help="do not try ssh first")
    add("--force_multi", action="store_true", help="use the multi-node way for one node too")
    add("--bind_cores_to_rank", action="store_true", help="divide the cores of a node among its processes")
