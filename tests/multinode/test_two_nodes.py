"""The launcher on two hosts, each with its own network, against the same run on one host with two ranks."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.launcher.tiny_run import review_words, save_config, save_model
from tests.multinode.network import INTERFACE, PORT, Host, finish, two_hosts, why_not

pytestmark = [pytest.mark.multirank, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180.0
STEPS, SAVED = 5, 3
FLAGS = ("--max_steps", str(STEPS), "--save_steps", str(SAVED), "--teacher_max_steps", "1", "--max_seq_length", "20")
FLAGS += ("--max_train_samples", "24", "--max_eval_samples", "10", "--model_name_or_path", "model")
LOCAL = Host("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with two_hosts() as both:
        yield both


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a hostfile and a config for each ZeRO stage; all runs begin here."""
    folder = tmp_path_factory.mktemp("nodes")
    save_model(folder / "model", words=review_words())
    for stage in (0, 3):
        block = tiny.block(reduction={"keep_number_layer": 2}, kd={})
        save_config(folder / f"zero{stage}.json", block, zero_optimization={"stage": stage})
    (folder / "hostfile").write_text("node-0 slots=1\nnode-1 slots=1\n")
    return folder


@pytest.fixture(scope="module")
def one_host(place: Path, hosts: tuple[Host, Host]) -> Path:
    """ZeRO 3, two ranks on one host. (It asks for ``hosts`` so that nothing runs where they cannot be made.)"""
    return run_on_one_host(place, "one_host", "--ds_config", "zero3.json")


@pytest.fixture(scope="module")
def shared(place: Path, hosts: tuple[Host, Host]) -> Path:
    """ZeRO 3, two nodes that share the output folder."""
    return run_on_two_nodes(place, hosts, "shared", "zero3.json")


@pytest.fixture(scope="module")
def unshared(place: Path, hosts: tuple[Host, Host]) -> Path:
    """ZeRO 0, two nodes; the second sees another, empty folder under the same name."""
    (place / "unshared").mkdir()
    return run_on_two_nodes(place, hosts, "unshared", "zero0.json", private=place / "unshared")


def test_zero_3_gives_the_losses_and_the_file_of_one_host(one_host: Path, shared: Path) -> None:
    assert len(losses(one_host)) == STEPS
    assert losses(shared) == pytest.approx(losses(one_host), abs=1e-5)
    assert packed(shared) == packed(one_host)
    assert printed(shared).count("Compression plan") == 1
    assert len(list(shared.rglob("*.safetensors"))) == 2  # the teacher and the packed student


def test_zero_0_without_a_shared_folder_gives_the_same_losses(one_host: Path, unshared: Path) -> None:
    assert losses(unshared) == pytest.approx(losses(one_host), abs=1e-5)
    assert "train.py: error" not in printed(unshared)
    assert (unshared / "packed" / "model.safetensors").is_file()


def test_a_checkpoint_of_two_nodes_goes_on_on_one(place: Path, shared: Path) -> None:
    copy = place / "resumed"
    shutil.copytree(shared, copy)
    # As if the run had been stopped after its checkpoint.
    (copy / "results.json").unlink()
    shutil.rmtree(copy / "packed")
    run_on_one_host(place, "resumed", "--ds_config", "zero3.json", "--resume")
    assert f"resumed at step {SAVED}" in printed(copy)
    assert losses(copy) == losses(shared)
    assert packed(copy) == packed(shared)


def test_all_nodes_end_when_one_cannot_begin(place: Path, hosts: tuple[Host, Host]) -> None:
    """Started by the variables that ``srun`` sets; the second node does not see the model."""
    script = [sys.executable, str(ROOT / "launcher" / "train.py"), "--ds_config", "zero0.json", *FLAGS]
    logs = [place / f"slurm{node}.log" for node in (0, 1)]
    processes = []
    for node, host in enumerate(hosts):
        step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
        step |= {"SLURM_PROCID": str(node), "SLURM_NODEID": str(node), "SLURM_LOCALID": "0", "SLURM_JOB_ID": "7"}
        environment = variables() | step | {"MASTER_ADDR": hosts[0].address, "GLOO_SOCKET_IFNAME": INTERFACE}
        command = [*script, "--output_dir", "never"]
        processes.append(host.start(command, environment, logs[node], private=place / "model" if node else None))
    assert finish(processes, SECONDS) == [1, 1], [log.read_text()[-2000:] for log in logs]
    first, second = (log.read_text() for log in logs)
    assert "train.py: error: node 1: model:" in first
    assert "train.py: error: model:" in second
    assert not (place / "never").exists()


def run_on_one_host(place: Path, out: str, *flags: str) -> Path:
    script = [sys.executable, str(ROOT / "launcher" / "train.py"), *flags, *FLAGS, "--output_dir", out]
    common = {"WORLD_SIZE": "2", "LOCAL_SIZE": "2", "MASTER_ADDR": LOCAL.address, "MASTER_PORT": str(free_port())}
    logs = [place / f"{out}{rank}.log" for rank in (0, 1)]
    processes = [
        LOCAL.start(script, variables() | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, logs[rank])
        for rank in (0, 1)
    ]
    assert finish(processes, SECONDS) == [0, 0], [log.read_text()[-3000:] for log in logs]
    return place / out


def run_on_two_nodes(place: Path, hosts: tuple[Host, Host], out: str, config: str, private: Path | None = None) -> Path:
    """The same command on every host, but for its number."""
    logs = [place / f"{out}{node}.log" for node in (0, 1)]
    environment = variables() | {"GLOO_SOCKET_IFNAME": INTERFACE}
    processes = []
    for node, host in enumerate(hosts):
        command = [str(Path(sys.executable).with_name("deepspeed")), "--hostfile", "hostfile", "--no_ssh"]
        command += ["--node_rank", str(node), "--master_addr", hosts[0].address, "--master_port", str(PORT)]
        command += [str(ROOT / "launcher" / "train.py"), "--ds_config", config, *FLAGS, "--output_dir", out]
        processes.append(host.start(command, environment, logs[node], private=private if node else None))
    assert finish(processes, SECONDS) == [0, 0], [log.read_text()[-3000:] for log in logs]
    return place / out


def variables() -> dict[str, str]:
    """This process's environment without any runner's variables."""
    ranks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {key: value for key, value in os.environ.items() if key not in ranks and not key.startswith("SLURM_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, len(rows) + 1)]
    return [float(row["loss"]) for row in rows]


def packed(folder: Path) -> bytes:
    return (folder / "packed" / "model.safetensors").read_bytes()


def printed(folder: Path) -> str:
    return "".join(folder.with_name(f"{folder.name}{number}.log").read_text() for number in (0, 1))


def free_port() -> int:
    from tests.conftest import free_port

    return free_port()
