"""Set the environment variables of ``torch.distributed`` for processes started by ``srun``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["from_slurm", "take_slurm_ranks"]

_PORTS = range(20000, 30000)


def take_slurm_ranks() -> None:
    """Set the variables if ``srun`` started several processes and they are not set yet."""
    for name, value in from_slurm(os.environ).items():
        os.environ.setdefault(name, value)


def from_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """``RANK``, ``WORLD_SIZE`` and so on from the variables of a Slurm job step; empty outside of such a step.

    The master is the step's first host, and its port is derived from the job id; MASTER_ADDR and MASTER_PORT in the
    environment take precedence. A batch script itself is not a job step, nor one of its tasks.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" in environment or tasks == "1" or "SLURM_PROCID" not in environment:
        return {}
    nodes, node = environment.get("SLURM_STEP_NUM_NODES", "1"), environment.get("SLURM_NODEID", "0")
    neighbours = _tasks_on_each_node(environment.get("SLURM_STEP_TASKS_PER_NODE", tasks))
    port = _PORTS[int(environment.get("SLURM_JOB_ID", "0")) % len(_PORTS)]
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "WORLD_SIZE": tasks,
        "LOCAL_SIZE": str(neighbours[int(node)]),
        "CROSS_RANK": node,
        "CROSS_SIZE": nodes,
        "MASTER_ADDR": environment.get("MASTER_ADDR") or _first_host(environment.get("SLURM_STEP_NODELIST", "")),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(port),
    }


def _first_host(hosts: str) -> str:
    """The first host of a list: gpu07 of ``gpu[07-09,12],login``."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", hosts)
    return "".join(part or "" for part in match.groups()) if match else "127.0.0.1"


def _tasks_on_each_node(text: str) -> list[int]:
    """Numbers of tasks, node by node: ``4(x2),3`` is 4, 4 and 3."""
    counts: list[int] = []
    for part in text.split(","):
        number, _, times = part.rstrip(")").partition("(x")
        counts += [int(number)] * int(times or 1)
    return counts
