"""``xtc-ds export CHECKPOINT OUT``: convert a DeepSpeed checkpoint or a packed folder to the files to ship."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtc_ds.errors import ExportError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FORMATS", "register", "run"]

FORMATS = ("packed", "dense", "onnx", "openvino", "gguf", "bitnet", "compressed-tensors")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "export",
        help="write a checkpoint as the files that are shipped",
        description=(
            "Write a DeepSpeed checkpoint of a compressed model (any ZeRO stage and number of ranks), a run of "
            "launcher/train.py, or a packed folder as a packed checkpoint or as the files of another engine. One "
            "process does it; the training script is not needed. Pickled code in a checkpoint is not run."
        ),
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder of a checkpoint, a run, or a packed model")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    parser.add_argument("--format", choices=FORMATS, default="packed", help="default: packed")
    parser.add_argument("--tag", metavar="TAG", help="which of the folder's checkpoints; default: the latest")
    parser.add_argument(
        "--model",
        metavar="NAME_OR_FOLDER",
        help="folder or hub id of the model's config; only for checkpoints that do not hold it",
    )
    parser.add_argument("--max-shard-size", metavar="SIZE", help="of a packed file; default: 5GB")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it holds files (packed: an export)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, print where and how large they are, and return 0."""
    source = _Source.find(arguments)
    out = Path(arguments.out)
    if out.is_dir() and any(out.iterdir()) and not arguments.overwrite:
        raise ExportError(f"{out} holds files; name another folder, or add --overwrite")
    if arguments.max_shard_size is not None and arguments.format != "packed":
        raise ExportError(f"--max-shard-size: only packed files are split, not {arguments.format}; leave it out")
    start = time.monotonic()
    _tell(f"reading {source.folder}")
    frozen = source.frozen(arguments)
    _tell(f"writing {out} ({arguments.format})")
    size = _write(frozen, out, arguments, source.tokenizer())
    print(f"{out}: {size / 1e6:.3f} MB in {time.monotonic() - start:.1f} s (MB = 1e6 bytes)")
    return 0


class _Source:
    """The source of the export: a packed folder, or the folder of a DeepSpeed checkpoint."""

    def __init__(self, folder: Path, packed: bool, tokenizers: tuple[Path, ...]) -> None:
        self.folder, self.packed, self.tokenizers = folder, packed, tokenizers

    @classmethod
    def find(cls, arguments: argparse.Namespace) -> _Source:
        folder = Path(arguments.checkpoint)
        if not folder.is_dir():
            raise ExportError(f"{folder}: no such folder")
        # The launcher saves the tokenizer with the teacher and with the packed model.
        beside = (folder, folder / "packed", folder / "teacher", folder.parent / "teacher")
        packed = next((each for each in (folder, folder / "packed") if (each / "config.json").is_file()), None)
        if packed is not None and arguments.tag is None and not list(folder.glob("*_model_states.pt")):
            return cls(packed, True, beside)
        from xtc_ds.checkpoint.deepspeed_files import find_checkpoint

        return cls(find_checkpoint(folder, arguments.tag), False, beside)

    def frozen(self, arguments: argparse.Namespace) -> nn.Module:
        """The model to write, on the CPU."""
        import xtc_ds

        if self.packed:
            if arguments.model is not None:
                raise ExportError(f"--model: {self.folder} is packed and holds its config; leave it out")
            return xtc_ds.load(self.folder)
        model = xtc_ds.load_checkpoint(self.folder, model=arguments.model)
        _tell(f"freezing {type(model).__name__}")
        return xtc_ds.freeze(model)

    def tokenizer(self) -> Any:
        """The tokenizer saved with the model, or None."""
        found = next((each for each in self.tokenizers if (each / "tokenizer_config.json").is_file()), None)
        if found is None:
            return None
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(found)


def _write(frozen: nn.Module, out: Path, arguments: argparse.Namespace, tokenizer: Any) -> int:
    """Write the files and return their size in bytes."""
    if arguments.format == "packed":
        from xtc_ds.checkpoint.export import export_packed
        from xtc_ds.checkpoint.files import MAX_SHARD_SIZE

        shard_size = arguments.max_shard_size or MAX_SHARD_SIZE
        return export_packed(frozen, out, tokenizer, max_shard_size=shard_size).file_bytes
    from xtc_ds.engines import export_to

    report = export_to(frozen, out, arguments.format, overwrite=arguments.overwrite, tokenizer=tokenizer)
    for line in report.differs:
        _tell(line)
    return report.file_bytes


def _tell(line: str) -> None:
    print(f"xtc-ds: {line}", file=sys.stderr)
