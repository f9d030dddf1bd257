"""The inference benchmark's own parts at their smallest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import xtc_ds
from benchmarks.inference import decode, profile
from benchmarks.inference.plot import plot
from tests.tiny import block, tiny_model
from xtc_ds.kernels.encoder import encoder_kernel_works


def test_decode_has_a_row_for_every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(decode, "MATRICES", [(64, 32)])
    monkeypatch.setattr(decode, "MODELS", {"tiny": ([(64, 32), (32, 64)], 2)})
    monkeypatch.setattr(decode, "_COLD_BYTES", 2 * 64 * 32 * 3)
    rows = decode.decode_rows(threads, 1)
    single = {row["engine"]: row for row in rows if row["single"]}
    whole = {row["engine"]: row for row in rows if not row["single"]}
    assert single["torch bf16"]["bytes"] == 2 * 64 * 32
    assert single["xtc_ds binary, 8-bit inputs"]["bytes"] == 64 * 32 / 8
    assert set(whole) == {*single, "xtc_ds binary, float inputs"}
    assert whole["torch fp32"]["bytes"] == 4 * 4 * 64 * 32
    lines = decode.decode_table(rows).splitlines()
    assert len([line for line in lines if line.startswith("| 32 to 64 | us | x torch bf16 |")]) == 1
    assert all(line.count("|") == 8 for line in lines if line)


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    row = {"engine": "fused", "label": "xtc_ds, fused", "batch": 1, "tokens": 8, "ms": 3.0, "file_bytes": 2_000_000}
    other = {**row, "engine": "torch-fp32", "label": "torch fp32", "ms": 9.0, "file_bytes": 64_000_000}
    found = {"2 layers": {"results": [row, other]}, "1 layers": {"results": [row, {**other, "batch": 16}]}}
    plot(found, 1, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not encoder_kernel_works(torch.zeros(1)), reason="needs a processor with AVX-512 VNNI")
def test_the_profile_counts_what_the_model_computes(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    model = tiny_model("bert", layers=2, hidden_size=64).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(block(exclude=["^classifier$"])))
    xtc_ds.export_packed(model, tmp_path / "packed")
    parts = {part.name: part for part in profile._parts(xtc_ds.load(tmp_path / "packed", "fused"), 2, 16)}
    # Four matrices of 64 x 64 and two of 64 x 64 between the sums, two layers, 32 tokens.
    assert parts["the whole model"].codes == 2 * 32 * 2 * 6 * 64 * 64
    assert parts["attention, float32"].floats == 2 * 2 * 2 * 2 * 16 * 16 * 64
    rows = profile.profile_rows(tmp_path / "packed", 2, 16, threads, 1)
    assert [row["part"] for row in rows] == list(parts)
    assert all(row["ms"] > 0 for row in rows)
    assert "| GELU |" in profile.profile_table("tiny", rows)
