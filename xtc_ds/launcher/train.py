"""The command line of the launcher: checks, messages, exit codes. Also ``python -m xtc_ds.launcher``.

Fine-tunes a teacher (or uses a given one), shows the plan, trains the compressed student by distillation, scores the
frozen model, writes the packed checkpoint and reloads it in a fresh process. A process that was not started by a
runner trains alone.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main", "run_and_exit"]

# OpenMP reads this when torch loads it: on shared cores, threads that spin while waiting slow the others down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Suppress transformers' report and progress bar for each load.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Run and return the exit code: 0; 1 after one clear message; 130 when interrupted.

    argv: the flags, by default those of the process; prog: the program name in messages.
    """
    from xtc_ds.errors import XtcError
    from xtc_ds.launcher.arguments import parse_arguments
    from xtc_ds.launcher.nodes import leads_its_node, meet
    from xtc_ds.launcher.slurm import take_slurm_ranks

    take_slurm_ranks()
    arguments = parse_arguments(argv, prog)
    leader = int(os.environ.get("RANK", "0")) == 0
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                _quiet(prog, leader)
            from xtc_ds.launcher.inputs import check_inputs

            # Check before the slow imports, so that most mistakes are reported at once.
            inputs = check_inputs(arguments)
            _be_one_process()
            from xtc_ds.launcher.pipeline import run

            run(arguments, inputs)
    except (XtcError, OSError, MemoryError) as error:
        problem = str(error) or type(error).__name__
        # All ranks of a node find user errors, so one prints them; other errors may happen on a single rank.
        if leads_its_node() or not isinstance(error, XtcError):
            _tell(prog, problem)
        meet(problem)
        if arguments.debug:
            raise
        return 1
    except KeyboardInterrupt:
        if leader:
            _tell(prog, "interrupted; with --save_steps, --resume goes on from the last checkpoint")
        return 130
    return 0


def run_and_exit(argv: Sequence[str] | None = None, prog: str = "train.py") -> NoReturn:
    """Run ``main`` and end the process with its exit code."""
    _leave(main(argv, prog))


def _tell(prog: str, message: str) -> None:
    for line in message.splitlines():
        print(f"{prog}: error: {line}", file=sys.stderr)


def _quiet(prog: str, leader: bool) -> None:
    """Silence all warnings but our own, which are printed as plain lines on rank 0."""
    warnings.simplefilter("ignore")
    if leader:
        warnings.filterwarnings("default", category=UserWarning, module=r"xtc_ds\b")
    warnings.showwarning = lambda message, *_, **__: print(f"{prog}: warning: {message}", file=sys.stderr)


def _be_one_process() -> None:
    """Set the variables that a runner would set for ``torch.distributed``, if there is no runner."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def _leave(code: int) -> NoReturn:
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        if code:
            # Closing the group would wait for ranks that ended; leaving it to the interpreter may end in an abort.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        torch.distributed.destroy_process_group()
    sys.exit(code)
