"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

# Before torch is imported: tests share few cores with each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings

# Property tests draw the same examples on every machine; ``--hypothesis-profile random`` draws others each time.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("random")
settings.load_profile("fixed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity")
    what = "environment with deepspeed==0.19.6, whose compression library runs side by side with this one"
    group.addoption("--deepspeed-0196", metavar="ENV", help=what)
    what = "seed of the random cases that run side by side; by default the date"
    group.addoption("--parity-seed", type=int, default=int(datetime.now(UTC).strftime("%Y%m%d")), help=what)


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.getoption("--deepspeed-0196") is None:
        return None
    return f"parity: random cases of seed {config.getoption('--parity-seed')}"


@pytest.fixture(scope="session")
def deepspeed_0196(request: pytest.FixtureRequest) -> Path:
    """The interpreter of the environment given by ``--deepspeed-0196``; without the option the test is skipped."""
    given = request.config.getoption("--deepspeed-0196")
    if given is None:
        pytest.skip("needs an environment with deepspeed==0.19.6: --deepspeed-0196 PATH_TO_ENV")
    python = Path(given).expanduser().absolute() / "bin" / "python"
    if not python.exists():
        pytest.fail(f"--deepspeed-0196: {python} does not exist; give the folder of a virtual environment")
    script = "import importlib.metadata as m; print(m.version('deepspeed'))"
    found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    if found.stdout.strip() != "0.19.6":
        pytest.fail(f"--deepspeed-0196: {python} has deepspeed {found.stdout.strip() or found.stderr!r}, not 0.19.6")
    return python


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def single_process_group() -> None:
    """DeepSpeed's process group with one rank in this process."""
    import deepspeed

    # The collectives' extension takes long to compile, and one rank has none.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
