"""Verify the files of a packed checkpoint: checksums, codes, masks and scales, read in pieces."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig
from xtc_ds.checkpoint.safetensors_file import DTYPES, StoredHeader, StoredTensor, memory_of, read_chunks, read_header
from xtc_ds.errors import ExportError, FormatError
from xtc_ds.runtime.packed import PackedSpec
from xtc_ds.storage import StoredPart, StoredWeight

__all__ = ["CONFIG_CHECKSUM", "VERSION", "config_checksum", "read_headers", "read_tensor", "verify_files"]

#: metadata keys of the checksum of config.json and of the format version
CONFIG_CHECKSUM, VERSION = "xtc_config_crc32", "xtc_format_version"
# Keys of config.json that users may edit and that the checksum leaves out.
_FREE = ("id2label", "label2id", "transformers_version")


def config_checksum(folder: Path) -> str:
    """CRC-32 of the content of ``config.json`` as eight hex digits, without label names and independent of formatting.

    Raises ExportError if the file cannot be read.
    """
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kept = {key: value for key, value in content.items() if key not in _FREE}
        text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ExportError(f"{file}: cannot be read: {error}") from error
    return f"{zlib.crc32(text.encode()):08x}"


def read_headers(files: Iterable[Path], config: XtcQuantizationConfig) -> list[StoredHeader]:
    """Read the headers of all files. Raises ExportError if one is damaged, of another version, or repeats a tensor."""
    headers: list[StoredHeader] = []
    seen: set[str] = set()
    for file in files:
        if file.suffix != ".safetensors":
            raise ExportError(f"{file}: packed checkpoints are safetensors files")
        header = read_header(file)
        version = header.metadata.get(VERSION)
        if version != str(config.format_version):
            raise ExportError(f"{file}: format version {version}; config.json says {config.format_version}")
        if repeated := seen & header.tensors.keys():
            raise ExportError(f"{file}: {min(repeated)} is in another file, too")
        seen |= header.tensors.keys()
        headers.append(header)
    return headers


def verify_files(headers: Iterable[StoredHeader], config: XtcQuantizationConfig) -> None:
    """Raise ExportError, with the tensor's name, if its checksum does not match or its bytes are not valid codes."""
    specs = config.specs()
    for header in headers:
        _verify_config(header)
        with header.file.open("rb") as stream:
            for name, stored in header.tensors.items():
                found = _part(name, specs)
                _check_type(header.file, stored, None if found is None else found[1], config.float_dtype)
                crc, largest, last = stored.first_checksum(), 0, 0
                check_range = found is not None and found[1].codes is not None
                for piece in read_chunks(stream, stored):
                    crc = zlib.crc32(piece, crc)
                    if check_range:
                        largest, last = max(largest, int(np.frombuffer(piece, np.uint8).max())), piece[-1]
                if header.checksums is not None and crc != header.checksums[name]:
                    raise ExportError(
                        f"{header.file}: {name}: its bytes are not those that were written (checksum "
                        f"{crc:08x}, expected {header.checksums[name]:08x}); get the file again"
                    )
                try:
                    if found is not None:
                        _check_content(header, stored, *found, largest, last)
                except FormatError as error:
                    raise ExportError(f"{header.file}: {name}: {error}") from error


def read_tensor(header: StoredHeader, name: str) -> Tensor:
    """Read one whole tensor to the CPU."""
    stored = header.tensors[name]
    result = torch.empty(stored.shape, dtype=DTYPES[stored.dtype])
    if stored.bytes:
        target, place = memory_of(result), 0
        with header.file.open("rb") as stream:
            for piece in read_chunks(stream, stored):
                target[place : place + len(piece)] = piece
                place += len(piece)
    return result


def _verify_config(header: StoredHeader) -> None:
    expected, folder = header.metadata.get(CONFIG_CHECKSUM), header.file.parent
    if expected is None or not (folder / "config.json").exists():
        return
    if (found := config_checksum(folder)) != expected:
        raise ExportError(
            f"{folder / 'config.json'}: is not the one that was written with {header.file.name} (checksum {found}, "
            f"expected {expected}); get it again, or, if it was changed on purpose: python -c "
            f"\"from xtc_ds.checkpoint import accept_config; accept_config('{folder}')\""
        )


def _part(name: str, specs: Mapping[str, PackedSpec]) -> tuple[StoredWeight, StoredPart] | None:
    """The packed weight that a tensor belongs to, and which part of it the tensor is; None for other tensors."""
    module, _, key = name.rpartition(".")
    weight = specs[module].weight if module in specs else None
    part = None if weight is None else weight.part(key)
    return None if weight is None or part is None else (weight, part)


def _check_type(file: Path, stored: StoredTensor, part: StoredPart | None, float_dtype: str) -> None:
    dtype = DTYPES[stored.dtype]
    allowed = getattr(torch, float_dtype) if dtype.is_floating_point else dtype
    if part is not None and part.dtype is not None and not part.is_float:
        allowed = part.dtype
    if dtype != allowed:
        name = str(allowed).removeprefix("torch.")
        raise ExportError(f"{file}: {stored.name}: holds {stored.dtype}; config.json says {name}")


def _check_content(
    header: StoredHeader, stored: StoredTensor, weight: StoredWeight, part: StoredPart, largest: int, last: int
) -> None:
    """Raise FormatError if a part of a weight differs in shape from the config, or its values are invalid."""
    if stored.shape != part.shape:
        raise FormatError(f"has shape {stored.shape}; config.json says {part.shape}")
    if part.codes is None:
        if not (part.values and part.is_float):  # values of float weights are not checked, packed or not
            weight.check(part.name, read_tensor(header, stored.name))
        return
    weight_format, count = part.codes
    if count:
        weight_format.check_stored(largest, last, count)
