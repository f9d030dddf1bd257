"""Ranks from the variables of a Slurm job step."""

from __future__ import annotations

import pytest

from xtc_ds.launcher.slurm import from_slurm

# As Slurm 22.05 sets them in the second task of ``srun -N2 -n2``.
STEP = {
    "SLURM_JOB_ID": "31",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
}


def test_a_task_gets_its_rank_and_the_first_host_as_master() -> None:
    assert from_slurm(STEP) == {
        "RANK": "1",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_SIZE": "1",
        "CROSS_RANK": "1",
        "CROSS_SIZE": "2",
        "MASTER_ADDR": "n1",
        "MASTER_PORT": "20031",
    }


def test_master_of_the_user_goes_first() -> None:
    ranks = from_slurm({**STEP, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "555"})
    assert (ranks["MASTER_ADDR"], ranks["MASTER_PORT"]) == ("10.0.0.1", "555")


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("gpu7", "gpu7"), ("gpu[07-09,12],login", "gpu07"), ("a,b[1-2]", "a"), ("rack[2,4]-ib", "rack2-ib")],
)
def test_first_host(hosts: str, first: str) -> None:
    assert from_slurm({**STEP, "SLURM_STEP_NODELIST": hosts})["MASTER_ADDR"] == first


@pytest.mark.parametrize(("tasks", "neighbours"), [("4(x2),3", ["4", "4", "3"]), ("1,2", ["1", "2"])])
def test_tasks_of_each_node(tasks: str, neighbours: list[str]) -> None:
    step = {**STEP, "SLURM_STEP_TASKS_PER_NODE": tasks}
    found = [from_slurm({**step, "SLURM_NODEID": str(node)})["LOCAL_SIZE"] for node in range(len(neighbours))]
    assert found == neighbours


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "31"},  # the batch script itself
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},
        {**STEP, "RANK": "0"},  # the deepspeed runner inside a job
    ],
)
def test_nothing_is_set_outside_of_a_step_of_several_tasks(environment: dict[str, str]) -> None:
    assert from_slurm(environment) == {}
