"""Starting the process group without compiling what the run does not need."""

from __future__ import annotations

import os
import shutil

import deepspeed

__all__ = ["start_process_group"]

_SHARED_MEMORY_OP = "deepspeed_shm_comm"


def start_process_group() -> None:
    """``deepspeed.init_distributed``; on a CPU it works without a compiler.

    DeepSpeed compiles an extension that speeds up collectives between processes of one machine, which takes
    the better part of a minute on first use and fails where there is no compiler. A single process has
    nothing to gain from it, and gloo does the same work without it.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone or not any(shutil.which(name) for name in ("c++", "g++", os.environ.get("CXX", "c++"))):
        deepspeed.ops.__compatible_ops__[_SHARED_MEMORY_OP] = False
    deepspeed.init_distributed(verbose=False)
