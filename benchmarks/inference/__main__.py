"""Size and speed of packed models beside other engines, with random weights.

    python -m benchmarks.inference encoder
    python -m benchmarks.inference decode
    python -m benchmarks.inference profile

"encoder": BERT-base's shape with 12 and with 5 layers, batch 1 and 16 x 128 tokens, every engine that is installed,
each in a process of its own, in turn. "decode": one token through single matrices and through all linear layers of a
GPT-2-like and of a Llama-like model, one after the other. "profile": where the time of the fused runtime goes, and what
this processor could do at most. Prints Markdown; ``--json FILE`` keeps all figures; ``--plot FILE`` draws size against
time (needs matplotlib). MB = 1e6 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before torch comes: its threads and ours spin for a moment between two layers, and then sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import torch
from transformers import BertForSequenceClassification

import xtc_ds
from benchmarks.common.arguments import argument_parser, plot_file
from benchmarks.common.bert import bert_config
from benchmarks.inference.decode import decode_rows, decode_table
from benchmarks.inference.plot import plot
from benchmarks.inference.profile import profile_rows, profile_table
from xtc_ds.bench import ENGINES, Competition, Result
from xtc_ds.bench.report import COLUMNS, rows, to_dict

# Binary weights, 8-bit inputs; the tables of words, positions and types as well, the head at 8 bits.
GROUPS = {"start_bits": 1, "target_bits": 1}
BLOCK: dict[str, Any] = {
    "weight_quantization": {
        "shared_parameters": {"enabled": True, "quantize_weight_in_forward": True, "schedule_offset": 0},
        "different_groups": {"all": {"params": GROUPS, "modules": ["*"], "exclude": ["^classifier$"]}},
    },
    "activation_quantization": {
        "shared_parameters": {"enabled": True, "schedule_offset": 0, "range_calibration": "dynamic"},
        "different_groups": {
            "all": {"params": {"bits": 8}, "modules": ["*"], "exclude": ["embeddings", "^classifier$"]}
        },
    },
    "export": {"float_dtype": "float16"},
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argument_parser("benchmarks.inference", __doc__)
    parser.add_argument("what", choices=("encoder", "decode", "profile"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of an engine's turn")
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 5])
    parser.add_argument("--hidden", type=int, default=768, help="width of the model; default: 768")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES), help="default: all")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=plot_file)
    arguments = parser.parse_args(argv)
    print(machine(arguments.threads) + "\n")
    if arguments.what == "decode":
        found: Any = decode_rows(arguments.threads, arguments.rounds)
        print(decode_table(found))
    elif arguments.what == "profile":
        found = profile(arguments)
    else:
        found = encoder(arguments)
    print(f"\nload at the end: {os.getloadavg()[0]:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def machine(threads: int) -> str:
    """The processor, cores, threads, and the load before anything runs."""
    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8")).group(1)  # type: ignore[union-attr]
    load = os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}, load before: {load:.1f}"


def encoder(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print a table for each depth and batch size; returns all figures."""
    found: dict[str, Any] = {}
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        for layers in arguments.layers:
            folder = Path(scratch) / str(layers)
            export_bert(folder, layers, arguments.hidden)
            results: list[Result] = []
            with Competition(folder, arguments.engines, arguments.threads) as competition:
                for batch in arguments.batch:
                    chosen = competition.run(batch, arguments.tokens, arguments.rounds, arguments.seconds)
                    print_table(f"{layers} layers, batch {batch} x {arguments.tokens} tokens", chosen)
                    results += chosen
            for name, packages in competition.missing.items():
                print(f"not installed: {ENGINES[name].label} ({', '.join(packages)})")
            found[f"{layers} layers"] = to_dict(results, competition.missing)
    if arguments.plot:
        plot(found, arguments.batch[0], arguments.plot)
    return found


def export_bert(folder: Path, layers: int, hidden: int = 768) -> None:
    """A packed classifier, by default of BERT-base's width."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(bert_config(layers, hidden)).eval()
    xtc_ds.compress(model, xtc_ds.parse_block(BLOCK))
    xtc_ds.export_packed(model, folder)


def print_table(title: str, results: list[Result]) -> None:
    """As Markdown."""
    print(f"| {title} | " + " | ".join(COLUMNS[1:]) + " |")
    print("|---" * len(COLUMNS) + "|")
    for row in rows(results):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def profile(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the time of the fused runtime goes, by depth and batch size."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for layers in arguments.layers:
            folder = Path(scratch) / str(layers)
            export_bert(folder, layers, arguments.hidden)
            for batch in arguments.batch:
                title = f"{layers} layers, batch {batch} x {arguments.tokens} tokens"
                found[title] = profile_rows(folder, batch, arguments.tokens, arguments.threads, arguments.rounds)
                print(profile_table(title, found[title]) + "\n", flush=True)
    return found


if __name__ == "__main__":
    main()
