"""Run an old script or module after ``install()``."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from xtc_ds.compat.install import install

__all__ = ["main"]

_USAGE = """usage: python -m xtc_ds.compat SCRIPT.py [ARGUMENT ...]
       python -m xtc_ds.compat -m MODULE [ARGUMENT ...]
       deepspeed --module xtc_ds.compat SCRIPT.py [ARGUMENT ...]

Runs a script written for deepspeed.compression without a change to it."""


def main(argv: Sequence[str]) -> int:
    """Run the script or module in ``argv`` as ``__main__``. Returns 2 for wrong usage, else 0; its own exits propagate.

    A leading ``--local_rank=N``, which the deepspeed launcher adds, is passed to the script.
    """
    arguments = list(argv)
    launched = [arguments.pop(0)] if arguments and arguments[0].startswith(("--local_rank=", "--local-rank=")) else []
    as_module = bool(arguments) and arguments[0] == "-m"
    if as_module:
        arguments.pop(0)
    if not arguments or arguments[0].startswith("-"):
        print(_USAGE, file=sys.stderr)  # noqa: T201
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    target, rest = arguments[0], arguments[1:]
    sys.argv = [target, *launched, *rest]
    install()
    if as_module:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
        return 0
    if not os.path.isfile(target):
        print(f"xtc_ds.compat: no such script: {target}", file=sys.stderr)  # noqa: T201
        return 2
    # Like python itself, search modules first in the folder of the script.
    sys.path[0] = os.path.dirname(os.path.abspath(target))
    runpy.run_path(target, run_name="__main__")
    return 0
