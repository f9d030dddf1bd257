"""What a packed checkpoint holds, read from its headers and config alone. MB = 1e6 bytes."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xtc_ds.checkpoint.load import read_quantization_config
from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig
from xtc_ds.checkpoint.safetensors_file import StoredTensor
from xtc_ds.checkpoint.shards import check_index, weight_files
from xtc_ds.checkpoint.verify import read_headers
from xtc_ds.errors import ExportError
from xtc_ds.formats import format_names, get_format
from xtc_ds.plan.sizes import FLOAT_BYTES
from xtc_ds.runtime.packed import PackedSpec
from xtc_ds.storage import Dense, Sparse, StoredWeight

__all__ = ["Inspection", "TensorEntry", "inspect_folder"]

_FLOATS = ("f64", "f32", "f16", "bf16")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the files.

    format: weight format, or the dtype of a float. kept: of a sparse weight, "2:4" or a share. weights: how many values
    of the model it holds (0 for scales and masks). bits_per_weight: as stored, with its mask, without its scales; None
    for these. least_bytes: what codes of log2 of the number of levels would take, nothing rounded up; of floats what
    they take. file: which one holds it.
    """

    name: str
    format: str
    kept: str | None
    shape: tuple[int, ...]
    weights: int
    bytes: int
    bits_per_weight: float | None
    least_bytes: float
    file: str


@dataclass(frozen=True)
class Leftover:
    """A float weight with two or more dimensions: what packing it would save, with one 4-byte scale a row."""

    name: str
    bytes: int
    saved_int8: int
    saved_main: int


@dataclass(frozen=True)
class Inspection:
    """file_bytes: of all weight files as measured on disk. dense_bytes: the same model with float32 everywhere.

    least_bytes: the codes alone, at log2 of the number of levels, with the floats. main_format: the format that holds
    most weights; None where nothing is packed. leftovers: float weights, largest first.
    """

    folder: Path
    file_bytes: int
    dense_bytes: int
    least_bytes: float
    main_format: str | None
    tensors: tuple[TensorEntry, ...]
    leftovers: tuple[Leftover, ...]
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "folder": str(self.folder),
            "files": list(self.files),
            "file_bytes": self.file_bytes,
            "dense_bytes": self.dense_bytes,
            "least_bytes": math.ceil(self.least_bytes),
            "ratio": round(self.dense_bytes / self.file_bytes, 3),
            "main_format": self.main_format,
            "tensors": [asdict(entry) | {"shape": list(entry.shape)} for entry in self.tensors],
            "still_float": [asdict(leftover) for leftover in self.leftovers],
        }


def inspect_folder(folder: str | os.PathLike[str]) -> Inspection:
    """Read a packed checkpoint's tables; ``folder`` may also be its file, or one of its files.

    Raises ExportError if the folder holds none or it is damaged.
    """
    folder = Path(folder)
    if folder.is_file():
        folder = folder.parent
    config = read_quantization_config(folder)
    files = weight_files(folder)
    headers = read_headers(files, config)
    check_index(headers)
    specs, counted, float_bytes = config.specs(), _counted_weights(config), FLOAT_BYTES[config.float_dtype]
    entries = [
        _entry(stored, specs, counted, float_bytes, header.file.name)
        for header in headers
        for stored in header.tensors.values()
    ]
    if not entries:
        raise ExportError(f"{folder}: holds no tensors")
    main = _main_format(entries)
    return Inspection(
        folder=folder,
        file_bytes=sum(file.stat().st_size for file in files),
        dense_bytes=sum(4 * entry.weights for entry in entries),
        least_bytes=sum(entry.least_bytes for entry in entries),
        main_format=main,
        tensors=tuple(sorted(entries, key=lambda entry: (-entry.bytes, entry.name))),
        leftovers=tuple(sorted(_leftovers(entries, main), key=lambda leftover: -leftover.bytes)),
        files=tuple(file.name for file in files),
    )


def _counted_weights(config: XtcQuantizationConfig) -> dict[str, int]:
    """The tensor with which the weights of packed layers are counted, to their number.

    It is the first that holds values: of several factors the first one, of a bank that of its first layer.
    """
    result: dict[str, int] = {}
    shared = config.shared_tensors()
    for name, spec in config.specs().items():
        if name not in config.tied:
            first = next(f"{name}.{part.name}" for part in spec.weight.parts() if part.values)
            tensor = shared.get(first, first)
            result[tensor] = result.get(tensor, 0) + math.prod(spec.shape)
    return result


def _entry(
    stored: StoredTensor, specs: dict[str, PackedSpec], counted: dict[str, int], float_bytes: int, file: str
) -> TensorEntry:
    module, _, key = stored.name.rpartition(".")
    name, dtype, size = stored.name, stored.dtype.lower(), stored.bytes
    weight = specs[module].weight if module in specs else None
    part = None if weight is None else weight.part(key)
    if weight is None or part is None or isinstance(weight, Dense):
        weights = math.prod(stored.shape)
        bits_each = 8.0 * size / weights if weights else None
        return TensorEntry(name, dtype, None, stored.shape, weights, size, bits_each, size, file)
    if not part.values:
        return TensorEntry(name, dtype, None, stored.shape, 0, size, None, 0, file)
    told = specs[module].format or (dtype if part.codes is None else part.codes[0].name)
    least = size if part.codes is None else part.codes[0].bits * part.codes[1] / 8
    if name not in counted:
        return TensorEntry(name, told, None, stored.shape, 0, size, None, least, file)
    # All that tells the weights from each other: their values and where pruned ones are, without scales.
    telling = sum(each.bytes(float_bytes) for each in weight.parts() if each.values or not each.is_float)
    weights = counted[name]
    return TensorEntry(name, told, _kept(weight), weight.shape, weights, size, 8 * telling / weights, least, file)


def _kept(weight: StoredWeight) -> str | None:
    if not isinstance(weight, Sparse):
        return None
    if weight.places.pattern is not None:
        return f"{weight.places.pattern[0]}:{weight.places.pattern[1]}"
    return f"{100 * weight.places.kept / math.prod(weight.shape):.0f} %"


def _main_format(entries: list[TensorEntry]) -> str | None:
    weights: dict[str, int] = {}
    for entry in entries:
        if entry.format in format_names():
            weights[entry.format] = weights.get(entry.format, 0) + entry.weights
    return max(weights, key=lambda name: weights[name]) if weights else None


def _leftovers(entries: list[TensorEntry], main: str | None) -> list[Leftover]:
    result = []
    for entry in entries:
        if entry.format not in _FLOATS or len(entry.shape) < 2 or not entry.name.endswith("weight"):
            continue
        left = entry.bytes - 4 * entry.shape[0]
        saved = [left - get_format(name).packed_bytes(entry.weights) for name in ("int8", main or "int8")]
        result.append(Leftover(entry.name, entry.bytes, *saved))
    return result
