"""The wheel, in an environment that has nothing else of this project: its files, its commands, its configs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.launcher.tiny_run import review_words, save_config, save_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA = ("config/schema.json", "kernels/native/*.c", "kernels/native/*.h", "py.typed", "json_configs/*.json")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment: this project from its wheel, everything else from the environment of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    leave = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "output", "tests", "benchmarks", "docs")
    shutil.copytree(ROOT, sources, symlinks=True, ignore=leave)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sources)
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *folder.glob("*.whl"))
    return environment


def run(*command: str | Path, place: Path | None = None, ok: int = 0) -> subprocess.CompletedProcess[str]:
    """A command outside the checkout, which finds the other packages but not this project's sources."""
    ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    variables = {key: value for key, value in os.environ.items() if key not in ranks}
    variables |= {"PYTHONPATH": sysconfig.get_path("purelib"), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command], cwd=place, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def package_of(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages")) / "xtc_ds"


def test_the_files_that_are_no_python_are_inside(installed: Path) -> None:
    package = package_of(installed)
    for pattern in DATA:
        found = {file.relative_to(package) for file in package.glob(pattern)}
        assert found == {file.relative_to(ROOT / "xtc_ds") for file in (ROOT / "xtc_ds").glob(pattern)} != set()
    assert not any(file.is_symlink() for file in package.rglob("*"))


def test_the_commands_run(installed: Path, tmp_path: Path) -> None:
    command, configs = installed / "bin" / "xtc-ds", sorted(package_of(installed).glob("json_configs/*.json"))
    where = run(installed / "bin" / "python", "-c", "import xtc_ds; print(xtc_ds.__file__)", place=tmp_path).stdout
    assert Path(where.strip()) == package_of(installed) / "__init__.py"
    run(command, "validate", *configs, place=tmp_path)
    assert '"$schema"' in run(command, "schema", place=tmp_path).stdout
    for flag in ("--num_gpus", "--ds_config", "--task_name", "--save_steps"):
        assert flag in run(command, "train", "--help", place=tmp_path).stdout
    told = run(command, "train", "--ds_config", "json_configs/xtc_1bit.json", "--task_name", "x", place=tmp_path, ok=1)
    assert told.stderr.startswith("xtc-ds train: error: unknown task 'x'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.multirank
@pytest.mark.parametrize("door", ["xtc-ds train", "deepspeed --module"])
def test_two_ranks_from_either_door(door: str, installed: Path, tmp_path: Path) -> None:
    processes = ["--num_accelerators", "2", "--master_port", str(free_port())]
    begin = {
        "xtc-ds train": [installed / "bin" / "xtc-ds", "train", *processes],
        "deepspeed --module": [
            installed / "bin" / "python", "-m", "deepspeed.launcher.runner", *processes, "--module", "xtc_ds.launcher"
        ],
    }[door]  # fmt: skip
    model, config = save_model(tmp_path / "model", words=review_words()), save_config(tmp_path / "c.json")
    flags = ["--ds_config", config, "--model_name_or_path", model, "--output_dir", "out", "--max_steps", "2"]
    flags += ["--teacher_max_steps", "2", "--max_train_samples", "24", "--max_eval_samples", "10"]
    assert run(*begin, *flags, place=tmp_path).stdout.count("packed model: out/packed") == 1
    assert '"world_size": 2' in (tmp_path / "out" / "results.json").read_text()
