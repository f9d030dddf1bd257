"""Safetensors files: written in a fixed order, so that equal models give equal bytes, and checked when read.

The file layout is that of safetensors: the length of a JSON header (8 bytes), the header, then the tensors' bytes.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from xtc_ds.errors import ExportError

__all__ = [
    "DTYPES",
    "StoredHeader",
    "StoredTensor",
    "memory_of",
    "read_chunks",
    "read_header",
    "replace_text",
    "write_file",
]

#: dtype name in the file to torch dtype
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# The order of the safetensors library: wide types first, so that all tensors are aligned.
_ORDER = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "I8", "U8", "BOOL")
#: metadata key of the tensors' checksums
CHECKSUMS = "xtc_crc32"
_MOST_HEADER_BYTES = 100_000_000
_CHUNK = 1 << 20


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: the bytes from ``begin`` up to ``end``, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.end - self.begin

    def first_checksum(self) -> int:
        """CRC-32 of the tensor's name, dtype and shape; the checksum of its bytes continues from this value."""
        sizes = ",".join(map(str, self.shape))
        return zlib.crc32(f"{self.name}\n{self.dtype}\n{sizes}\n".encode())


@dataclass(frozen=True)
class StoredHeader:
    """The parsed header of ``file``. checksums: tensor name to CRC-32; None if the file has no checksums."""

    file: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, StoredTensor]
    checksums: Mapping[str, int] | None


def write_file(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous CPU tensors and their checksums, without copying the tensors."""
    names = sorted(tensors, key=lambda name: (_ORDER.index(_NAMES[tensors[name].dtype]), name))
    entries, checksums, place = {}, {}, 0
    for name in names:
        data = memory_of(tensors[name])
        stored = StoredTensor(name, _NAMES[tensors[name].dtype], tuple(tensors[name].shape), place, place + len(data))
        place = stored.end
        entries[name] = {"dtype": stored.dtype, "shape": list(stored.shape), "data_offsets": [stored.begin, stored.end]}
        checksums[name] = zlib.crc32(data, stored.first_checksum())
    text = "".join(f"{checksums[name]:08x}" for name in sorted(names))
    header = {"__metadata__": dict(sorted({**metadata, CHECKSUMS: text}.items())), **entries}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded = encoded.ljust(-(-len(encoded) // 8) * 8)
    # Do not overwrite an old file in place: a loaded model may still have it mapped into memory.
    file.unlink(missing_ok=True)
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for name in names:
            stream.write(memory_of(tensors[name]))


def read_header(file: Path) -> StoredHeader:
    """Read the header of ``file``. Raises ExportError if it is damaged or does not match the size of the file."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
                raise ExportError(f"{file}: cannot be read: a header of {length} bytes in a file of {size}; truncated?")
            content = json.loads(stream.read(length), object_pairs_hook=_without_repeats)
    except ExportError:
        raise
    except FileNotFoundError:
        raise ExportError(f"{file}: is missing; get it too, from where the others are") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{file}: cannot be read: its header is damaged: {error}") from error
    metadata = content.pop("__metadata__", {}) if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ExportError(f"{file}: its header is damaged: the metadata are no texts by name")
    tensors = {name: _read_entry(file, name, entry, 8 + length) for name, entry in content.items()}
    place = 8 + length
    for stored in sorted(tensors.values(), key=lambda stored: (stored.begin, stored.end)):
        if stored.begin != place:
            raise ExportError(f"{file}: {stored.name}: its bytes start at {stored.begin}, expected {place}")
        place = stored.end
    if place != size:
        last = max(tensors.values(), key=lambda stored: stored.end).name if tensors else "the header"
        raise ExportError(f"{file}: {size} bytes, but {last} ends at {place}; truncated?")
    return StoredHeader(file, metadata, tensors, _read_checksums(file, metadata.get(CHECKSUMS), sorted(tensors)))


def read_chunks(stream: BinaryIO, stored: StoredTensor) -> Iterator[memoryview]:
    """Yield the bytes of a tensor in pieces, each valid until the next. Raises ExportError if the file ends early."""
    buffer = memoryview(bytearray(min(_CHUNK, stored.bytes)))
    stream.seek(stored.begin)
    left = stored.bytes
    while left:
        got = stream.readinto(buffer[: min(left, _CHUNK)])  # type: ignore[attr-defined]
        if not got:
            raise ExportError(f"{stream.name}: {stored.name}: the file ends before its bytes do")
        yield buffer[:got]
        left -= got


def replace_text(file: Path, old: str, new: str) -> None:
    """Replace ``old`` in the header, where it must occur exactly once, by a text of equal length, in place."""
    assert len(old) == len(new)
    with file.open("r+b") as stream:
        header = stream.read(int.from_bytes(stream.read(8), "little"))
        assert header.count(old.encode()) == 1
        stream.seek(8)
        stream.write(header.replace(old.encode(), new.encode()))


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor as a view, not a copy: writing to it changes the tensor."""
    flat = tensor.detach().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data).cast("B") if flat.numel() else memoryview(b"")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError(f"an entry appears twice among {', '.join(name for name, _ in pairs[:5])} ...")
    return result


def _read_entry(file: Path, name: str, entry: Any, start: int) -> StoredTensor:
    try:
        if entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"keys {sorted(entry)}")
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise ValueError(f"shape {shape}, bytes {begin} to {end}")
        size = math.prod(shape) * DTYPES[entry["dtype"]].itemsize
        if end - begin != size:
            raise ValueError(f"{end - begin} bytes, but shape {shape} of {entry['dtype']} takes {size}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{file}: {name}: its header entry is damaged: {error}") from error
    return StoredTensor(name, entry["dtype"], tuple(shape), start + begin, start + end)


def _read_checksums(file: Path, text: str | None, names: list[str]) -> dict[str, int] | None:
    if text is None:
        return None
    if len(text) != 8 * len(names) or not set(text) <= set("0123456789abcdef"):
        raise ExportError(f"{file}: its checksums are damaged: {len(text)} characters for {len(names)} tensors")
    return {name: int(text[8 * place : 8 * place + 8], 16) for place, name in enumerate(names)}
