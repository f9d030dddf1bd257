"""Every benchmark command in README and docs: its options exist, and it runs at its smallest size."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from benchmarks.common.processes import ROOT
from tests.launcher.tiny_run import review_words, save_config, save_glue, save_model
from tests.tiny import block, tiny_model

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BENCHMARKS = sorted(file.parent.name for file in (ROOT / "benchmarks").glob("*/__main__.py"))
# What makes a documented command small. Words in capitals are files that ``folder`` holds.
SMALLEST = {
    "bert_base_sizes": "--hidden 64",
    "engine_differences": "PACKED SENTENCES --count 4 --batch 2",
    "engines": "--layers 1 --hidden 64 --rounds 1",
    "glue_results": "--data_dir GLUE --out RESULTS --tasks mrpc --seeds 1 --configs CONFIG --num_accelerators 1"
    " --model_name_or_path MODEL --max_seq_length 20 --epochs 1 --teacher_epochs 1",
    "inference encoder": "--layers 1 --hidden 64 --batch 1 --tokens 8 --rounds 1 --seconds 0.01"
    " --engines fused torch-fp32 --plot PLOT",
    "rank_overhead": "--ranks 2 --layers 1 --hidden 32 --batch 2 --tokens 4 --pairs 2",
    "startup": "--rounds 1",
}
ELSEWHERE = {
    "engine_overhead": "test_engine_overhead.py",
    "gpu_kernels": "../kernels/test_kernels_triton_runs.py",
    "inference decode": "test_inference.py",
    "inference profile": "test_inference.py",
    "time_to_quality": "test_time_to_quality.py",
    "train_step": "test_train_step.py",
}


def documented() -> dict[str, list[str]]:
    """The words after the name, of each documented command, by benchmark and kind."""
    found = {}
    for page in PAGES:
        for match in re.finditer(r"python -m benchmarks\.(\w+)((?:[^`\n\\]|\\\n)*)", page.read_text(encoding="utf-8")):
            words = shlex.split(match[2].replace("\\\n", " "))
            kind = [words[0]] if match[1] == "inference" else []
            found[" ".join([match[1], *kind])] = [*found.get(match[1], []), *words]
    return found


def run_benchmark(name: str, *words: str | Path, **variables: str) -> str:
    """As from a fresh clone: nothing but the working directory says where the packages are."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *words], cwd=ROOT, env=environment | variables,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@cache
def helps() -> dict[str, str]:
    """Help by benchmark, from one process: each would import torch anew."""
    code = """
import contextlib, importlib, io, json, sys
found = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        importlib.import_module(f"benchmarks.{name}.__main__").main(["--help"])
    found[name] = out.getvalue()
print(json.dumps(found))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *BENCHMARKS], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_fresh_clone_shows_the_help_of_every_benchmark(name: str) -> None:
    assert helps()[name].startswith(f"usage: python -m benchmarks.{name} ")


@pytest.mark.parametrize("name", documented())
def test_documented_options_exist(name: str) -> None:
    # What it does not know itself glue_results hands to the launcher.
    passed = {"--learning_rate", "--max_steps", "--teacher_max_steps"} if name == "glue_results" else set()
    options = {word for word in documented()[name] if word.startswith("--")} - passed
    text = helps()[name.split()[0]]
    assert [option for option in sorted(options) if not re.search(rf"{option}\b", text)] == []


def test_every_documented_benchmark_is_run() -> None:
    assert set(documented()) <= {*SMALLEST, *ELSEWHERE}
    assert all((Path(__file__).parent / file).is_file() for file in ELSEWHERE.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that commands name: tiny ones."""
    import xtc_ds

    folder = tmp_path_factory.mktemp("benchmarks")
    save_glue(folder / "GLUE" / "MRPC", "mrpc")
    save_model(folder / "MODEL", words=review_words())
    save_config(folder / "CONFIG")
    (folder / "SENTENCES").write_text("a good film\nnot so good\nbad\na film\n")
    model = tiny_model(layers=1)
    xtc_ds.compress(model, xtc_ds.parse_block(block()))
    from transformers import AutoTokenizer

    xtc_ds.export_packed(model, folder / "PACKED", AutoTokenizer.from_pretrained(folder / "MODEL"))
    return folder


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_documented_command_runs(name: str, folder: Path) -> None:
    assert name in documented()
    command: Sequence[str] = [*name.split(), *SMALLEST[name].split()]
    printed = run_benchmark(*(str(folder / word) if word.isupper() else word for word in command))
    assert printed.strip()
