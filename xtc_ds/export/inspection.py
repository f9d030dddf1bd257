"""What a packed checkpoint holds, read from its header and config alone. MB = 1e6 bytes."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError, safe_open

from xtc_ds.errors import ExportError
from xtc_ds.export.load import read_quantization_config
from xtc_ds.export.packed import WEIGHT_KEYS, PackedSpec

__all__ = ["Inspection", "TensorEntry", "inspect_folder", "inspection_table"]


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file.

    format: weight format, or the dtype of a float. weights: how many values of the model it holds (0 for
    scales). bits_per_weight: as stored, scales not counted; None for scales.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    weights: int
    bytes: int
    bits_per_weight: float | None


@dataclass(frozen=True)
class Inspection:
    """file_bytes: the safetensors file as measured on disk. dense_bytes: the same model with float32 everywhere."""

    folder: Path
    file_bytes: int
    dense_bytes: int
    tensors: tuple[TensorEntry, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "folder": str(self.folder),
            "file_bytes": self.file_bytes,
            "dense_bytes": self.dense_bytes,
            "ratio": round(self.dense_bytes / self.file_bytes, 3),
            "tensors": [asdict(entry) | {"shape": list(entry.shape)} for entry in self.tensors],
        }


def inspect_folder(folder: str | os.PathLike[str]) -> Inspection:
    """Read a packed checkpoint's tables. Raises ExportError if the folder holds none or it is damaged."""
    specs = read_quantization_config(folder).specs()
    file = Path(folder) / "model.safetensors"
    entries = []
    try:
        with safe_open(file, framework="pt") as reader:
            for name in reader.keys():  # noqa: SIM118 - the reader is no mapping
                piece = reader.get_slice(name)
                entries.append(_entry(name, tuple(piece.get_shape()), piece.get_dtype(), specs))
        size = file.stat().st_size
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{file}: cannot be read: {error}") from error
    dense = sum(4 * entry.weights for entry in entries)
    return Inspection(Path(folder), size, dense, tuple(sorted(entries, key=lambda entry: -entry.bytes)))


def inspection_table(report: Inspection) -> RenderableType:
    """The tensors, largest first, and the totals."""
    table = Table(title=str(report.folder), title_justify="left")
    for heading in ("tensor", "format", "shape"):
        table.add_column(heading)
    for heading in ("bits/weight", "bytes", "share"):
        table.add_column(heading, justify="right")
    for entry in report.tensors:
        bits = "" if entry.bits_per_weight is None else f"{entry.bits_per_weight:.2f}"
        share = f"{100 * entry.bytes / report.file_bytes:.1f} %"
        shape = " x ".join(map(str, entry.shape)) or "scalar"
        table.add_row(entry.name, entry.format, shape, bits, f"{entry.bytes:,}", share)
    tensor_bytes = sum(entry.bytes for entry in report.tensors)
    table.add_row("(header)", "", "", "", f"{report.file_bytes - tensor_bytes:,}", "")
    total = (
        f"file {report.file_bytes / 1e6:.3f} MB; as float32 {report.dense_bytes / 1e6:.3f} MB: "
        f"{report.dense_bytes / report.file_bytes:.1f}x (MB = 1e6 bytes; dropped layers not counted)"
    )
    return Group(table, Text(total))


def _entry(name: str, stored: tuple[int, ...], dtype: str, specs: dict[str, PackedSpec]) -> TensorEntry:
    module, _, key = name.rpartition(".")
    spec = specs.get(module)
    size = math.prod(stored) * _DTYPE_BYTES.get(dtype, 1)
    if spec is not None and spec.format is not None and key == "weight":
        weights = math.prod(spec.shape)
        return TensorEntry(name, spec.format, spec.shape, weights, size, 8 * size / weights)
    if spec is not None and key in WEIGHT_KEYS[1:]:
        return TensorEntry(name, dtype.lower(), stored, 0, size, None)
    weights = math.prod(stored)
    return TensorEntry(name, dtype.lower(), stored, weights, size, 8.0 * size / weights if weights else None)


_DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
