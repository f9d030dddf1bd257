"""``xtc-ds bench FOLDER``: time a packed model and other inference engines on this machine."""

from __future__ import annotations

import argparse
import json
import os

__all__ = ["register", "run"]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "bench",
        help="time a packed model beside other engines",
        description="Time a packed model of token ids beside other engines: each in a process of its own, in turn. "
        "The peers run the same model with float weights and quantize it in their own way.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a folder written by xtc_ds")
    what = (
        "who to run beside it, with commas: fused, unpacked, fp32, bf16, int8, onnx, openvino (default: all but bf16)"
    )
    parser.add_argument("--against", default="fused,unpacked,fp32,int8,onnx,openvino", metavar="LIST", help=what)
    parser.add_argument("--batch", type=_positive, nargs="+", default=[1], metavar="N", help="samples in a call")
    parser.add_argument("--tokens", type=_positive, default=128, metavar="N", help="tokens of each sample")
    parser.add_argument("--threads", type=_positive, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--rounds", type=_positive, default=7, metavar="N", help="turns that each engine has")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="length of a turn (one call at least)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Print the table and return 0."""
    from pathlib import Path

    from xtc_ds.bench import Competition
    from xtc_ds.bench.report import bench_table, to_dict
    from xtc_ds.cli.console import wide_console

    folder = Path(arguments.folder)
    _check(folder, arguments.tokens)
    names = ["packed", *_engines(arguments.against)]
    with Competition(folder, names, arguments.threads) as competition:
        results = [
            result
            for batch in arguments.batch
            for result in competition.run(batch, arguments.tokens, arguments.rounds, arguments.seconds)
        ]
    if arguments.json:
        print(json.dumps(to_dict(results, competition.missing), indent=2))
    else:
        wide_console().print(bench_table(results, competition.missing))
    return 0


def _engines(against: str) -> list[str]:
    from xtc_ds.bench import GROUPS
    from xtc_ds.errors import ExportError

    wanted = [name.strip() for name in against.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise ExportError(f"--against: unknown: {', '.join(unknown)}; there are: {', '.join(GROUPS)}")
    return [engine for name in dict.fromkeys(wanted) for engine in GROUPS[name]]


def _check(folder: object, tokens: int) -> None:
    from pathlib import Path

    from xtc_ds.checkpoint import read_quantization_config
    from xtc_ds.errors import ExportError

    read_quantization_config(str(folder))
    config = json.loads((Path(str(folder)) / "config.json").read_text(encoding="utf-8"))
    if "vocab_size" not in config:
        raise ExportError(f"{folder}: its config.json has no vocab_size; only models of token ids can be timed")
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if most is not None and tokens > most:
        raise ExportError(f"--tokens: found {tokens}, the model takes at most {most}")
