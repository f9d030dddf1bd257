"""What runs of the Triton kernels need a process of their own: the interpreter, and the compiler without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from xtc_ds.kernels.triton import interpreted, triton_available

FOLDER = Path(__file__).parent
KERNELS = {"_quantize_rows", "_decode", "_tiles", "_matrix", "_unpack"}
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def run(arguments: list[str], **variables: str) -> str:
    """Standard output of Python with these arguments and environment variables; fails where Python fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, *arguments], env=environment | variables | {"OMP_NUM_THREADS": "1"}, cwd=FOLDER.parents[1],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@needs_triton
@pytest.mark.skipif(triton_available("cuda"), reason="the kernels run on the GPU")
def test_the_kernels_in_the_interpreter() -> None:
    files = [str(FOLDER / f"test_kernels_triton{part}.py") for part in ("", "_layer", "_models")]
    printed = run(["-m", "pytest", "-p", "no:cacheprovider", *files], TRITON_INTERPRET="1")
    assert " passed" in printed


@pytest.mark.slow
@needs_triton
def test_the_kernels_compile_for_gpus(tmp_path: Path) -> None:
    arguments = [str(FOLDER / "compile_triton.py"), "90:binary:1", "90:int8:64", "80:int4:16"]
    lines = run(arguments, TRITON_CACHE_DIR=str(tmp_path)).splitlines()
    assert {line.split()[0] for line in lines} == KERNELS
    for line in lines:
        name, size, registers_spilled, shared = line.split()
        assert int(size) > 0, name
        assert int(registers_spilled) == 0, name
        assert int(shared) <= 99 * 1024, f"{name} does not fit the smallest GPU that is taken"


@pytest.mark.slow
@needs_triton
@pytest.mark.skipif(triton_available("cuda"), reason="on a GPU it measures, which takes minutes")
def test_the_benchmark_gives_no_times_without_a_gpu(tmp_path: Path) -> None:
    arguments = ["-m", "benchmarks.gpu_kernels", "--shapes", "40x24", "--tokens", "1", "--json", str(tmp_path / "rows")]
    assert "no time here is a GPU's" in run(arguments, TRITON_INTERPRET="1")
    rows = json.loads((tmp_path / "rows").read_text())["rows"]
    assert {"W1A8", "W1.58A8", "W4A8", "W8A8", "W1A16"} <= {row["name"] for row in rows}
    assert all(row["seconds"] is None and row["error"] < 1e-3 for row in rows)


def test_nothing_is_available_on_a_processor_without_the_interpreter() -> None:
    assert triton_available("cpu") == (interpreted() and find_spec("triton") is not None)
    assert not triton_available("meta")
    assert triton_available("cuda") <= torch.cuda.is_available()


@pytest.mark.slow
def test_packed_layers_on_a_processor_never_load_triton_kernels() -> None:
    code = """
import sys, torch, xtc_ds
from tests.tiny import batch, block, tiny_model
model = tiny_model(layers=1).eval()
xtc_ds.compress(model, xtc_ds.parse_block(block()))
xtc_ds.freeze(model)(**batch(labels=False))
print([name for name in sys.modules if name.startswith("xtc_ds.kernels.triton.")])
"""
    assert run(["-c", code]).splitlines()[-1] == "['xtc_ds.kernels.triton.availability']"
