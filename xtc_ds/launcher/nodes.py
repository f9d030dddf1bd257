"""Start on several nodes: either all processes start, or all stop with the same error.

No runner stops the other nodes if the processes of one node end, so the processes exchange their errors first.
"""

from __future__ import annotations

import os

from xtc_ds.errors import EngineError

__all__ = ["leads_its_node", "meet"]

_tried = False


def leads_its_node() -> bool:
    """Whether this is the first process of its node, which prints the errors of that node."""
    return int(os.environ.get("LOCAL_RANK" if _several() else "RANK", "0")) == 0


def meet(problem: str | None = None) -> None:
    """Create the process group and, on several nodes, check that every process can start.

    problem: why this process cannot start. On a single node it is not exchanged, because the runner ends all processes
    when the first one ends. Raises EngineError if another process cannot start, or if they cannot connect.
    """
    if problem is not None and (_tried or not _several()):
        return
    _start_processes()
    if not _several():
        return
    from torch import distributed as dist

    mine = None if problem is None else f"node {os.environ.get('CROSS_RANK', '?')}: {problem}"
    problems: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, mine)
    others = dict.fromkeys(other for other in problems if other is not None)
    if problem is None and others:
        raise EngineError("\n".join(others))


def _several() -> bool:
    return int(os.environ.get("CROSS_SIZE", "1")) > 1


def _start_processes() -> None:
    global _tried
    _tried = True
    import deepspeed
    import torch

    # DeepSpeed's shared-memory reductions are compiled at their first use, which takes a minute, or fails without a
    # compiler; gloo's are always available. This only concerns CPUs.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    try:
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(f"the processes did not find each other at {place}: {lines[0]}") from error
    neighbours = int(os.environ.get("LOCAL_SIZE", "1"))
    if neighbours > 1 and "OMP_NUM_THREADS" not in os.environ:
        # Processes of one machine share its cores; without a limit each would start one thread per core.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // neighbours))
