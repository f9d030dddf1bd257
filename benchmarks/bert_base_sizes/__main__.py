"""Sizes on disk of a BERT-base-shaped classifier under the shipped configs, with random weights.

    python -m benchmarks.bert_base_sizes [--plot sizes.png]

The dense file is the 12-layer float32 checkpoint of bert-base-uncased's shape (two labels). MB = 1e6 bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertForSequenceClassification

import xtc_ds
from benchmarks.bert_base_sizes.plot import plot
from benchmarks.common.arguments import argument_parser, plot_file
from benchmarks.common.bert import bert_config
from benchmarks.common.processes import ROOT

CONFIGS = ROOT / "json_configs"
ROWS: tuple[tuple[str, int], ...] = (
    ("quant_int8", 12),
    ("quant_int4", 12),
    ("xtc_ternary", 6),
    ("xtc_1bit", 6),
    ("xtc_ternary", 5),
    ("xtc_1bit", 5),
    ("xtc_1bit_paper", 5),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a Markdown table, measured on disk."""
    parser = argument_parser("benchmarks.bert_base_sizes", __doc__)
    parser.add_argument("--hidden", type=int, default=768, help="width of the model; default: 768")
    parser.add_argument("--plot", type=plot_file, metavar="FILE", help="draw the sizes as bars into this PNG file")
    arguments = parser.parse_args(argv)
    hidden = arguments.hidden
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        teacher = BertForSequenceClassification(bert_config(hidden=hidden))
        teacher.save_pretrained(Path(scratch) / "dense")
        dense = (Path(scratch) / "dense" / "model.safetensors").stat().st_size
        print("| config | layers | file, MB | smaller than 12 layers in fp32 |")
        print("|---|---|---|---|")
        print(f"| dense fp32 | 12 | {dense / 1e6:.2f} | 1.0x |")
        sizes = {"float32, 12 layers": dense}
        for index, (name, layers) in enumerate(ROWS):
            size = packed_size(teacher, name, layers, Path(scratch) / str(index))
            sizes[f"{name}, {layers} layers"] = size
            print(f"| `{name}.json` | {layers} | {size / 1e6:.2f} | {dense / size:.1f}x |")
    if arguments.plot is not None:
        plot(sizes, arguments.plot)


def packed_size(teacher: nn.Module, name: str, layers: int, folder: Path) -> int:
    """Bytes of the packed file of a student with that many layers."""
    _, block = xtc_ds.load_config(CONFIGS / f"{name}.json")
    raw: dict[str, Any] = dict(block.raw)
    if block.layer_reduction is not None and name != "xtc_1bit_paper":
        raw["layer_reduction"] = {"enabled": True, "keep_number_layer": layers}
    student = xtc_ds.snapshot(teacher)
    xtc_ds.compress(student, xtc_ds.parse_block(raw))
    return xtc_ds.export_packed(student, folder).file_bytes


if __name__ == "__main__":
    main()
