"""What a packed checkpoint contains, read from its headers and config alone. MB = 1e6 bytes."""

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

    format: weight format, or the dtype of a float tensor. kept: for a sparse weight, its pattern such as "2:4" or the
    percentage that is kept. weights: how many of the model's weights it holds (0 for scales and masks).
    bits_per_weight: as stored, including the mask but not the scales; None for scales and masks. least_bytes: size of
    the codes at log2(number of levels) bits each, without rounding up; for floats their actual size. file: name of the
    file that holds it.
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
    """A float weight with two or more dimensions, and the bytes saved by packing it with one 4-byte scale per row.

    saved_int8: in format int8. saved_main: in the checkpoint's main format.
    """

    name: str
    bytes: int
    saved_int8: int
    saved_main: int


@dataclass(frozen=True)
class Inspection:
    """The result of ``inspect_folder``.

    file_bytes: size of all weight files on disk. dense_bytes: size of the same model with all weights in float32.
    least_bytes: size of the codes at log2(number of levels) bits each, plus the floats. main_format: the format that
    holds the most weights; None if nothing is packed. tensors, leftovers: the largest first.
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
        """As plain data for JSON."""
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
    """Inspect a packed checkpoint; ``folder`` may also be one of its weight files.

    Raises ExportError if the folder holds no packed checkpoint, or a damaged one.
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
    """Map one tensor of each packed weight to the number of weights it stands for, so that each is counted once.

    It is the first tensor with values: for a factored weight the first factor, for a bank that of its first layer.
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
    # Everything needed to tell the weights apart: values and positions of the unpruned ones, but no scales.
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
