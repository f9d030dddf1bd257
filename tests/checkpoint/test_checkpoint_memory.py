"""Loading holds the packed file, never the float model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import xtc_ds
from tests.tiny import block, ds_config, tiny_model

WIDE = {"hidden_size": 512, "intermediate_size": 4096, "num_attention_heads": 8, "vocab_size": 4000}

SCRIPT = """
import gc, json, sys
from pathlib import Path
import torch, transformers, xtc_ds, xtc_ds.checkpoint
from transformers import AutoModelForSequenceClassification as Auto

def status(key):
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

def load(read, folder):
    model = read(folder)
    # A mapped file is in memory once it is read.
    return sum(int(p.view(torch.uint8).max()) for p in model.parameters() if p.numel())

small, large = sys.argv[1:]
peaks = {}
for name, read in (("load", xtc_ds.load), ("from_pretrained", Auto.from_pretrained)):
    load(read, small)  # what is imported on first use is not the model's
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status("VmRSS:")
    load(read, large)
    peaks[name] = status("VmHWM:") - before
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's account of memory")
def test_the_peak_of_loading_is_less_than_one_and_a_half_files(tmp_path: Path) -> None:
    sizes = {}
    for name, layers, extra in (("small", 1, {}), ("large", 6, WIDE)):
        model = tiny_model(layers=layers, **extra)
        xtc_ds.compress(model, ds_config(block(bits=4, exclude=["classifier"], shared={"granularity": "row"})))
        sizes[name] = xtc_ds.export_packed(model, tmp_path / name).file_bytes
    assert sizes["large"] > 15e6
    folders = [str(tmp_path / name) for name in sizes]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *folders], capture_output=True, text=True, check=True)
    for peak in json.loads(done.stdout.splitlines()[-1]).values():
        assert 0.9 * sizes["large"] < peak < 1.5 * sizes["large"], peak / sizes["large"]


def test_a_model_on_the_meta_device_is_filled(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    plain = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).to("meta")
    xtc_ds.compress(model, ds_config(block(bits=4, modules=["0"], exclude=["nothing"], activation=None)))
    frozen = xtc_ds.freeze(model)
    xtc_ds.export_packed(frozen, tmp_path / "out")
    x = torch.randn(3, 16)
    assert torch.equal(xtc_ds.load_into(plain, tmp_path / "out")(x), frozen(x))
