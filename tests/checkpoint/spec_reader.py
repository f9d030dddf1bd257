"""A reader of packed checkpoints written from docs/format.md alone: json, numpy, struct and zlib; nothing of xtc_ds."""

from __future__ import annotations

import json
import math
import struct
import zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
TYPES = {"U8": "<u1", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "BOOL": "?"}


def read_file(file: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and tensors; checksums are compared."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body = data[8 + length :]
    tensors = {}
    for place, name in enumerate(sorted(header)):
        entry = header[name]
        begin, end = entry["data_offsets"]
        raw = body[begin:end]
        if "xtc_crc32" in metadata:
            text = f"{name}\n{entry['dtype']}\n{','.join(map(str, entry['shape']))}\n"
            found = zlib.crc32(text.encode() + raw)
            assert f"{found:08x}" == metadata["xtc_crc32"][8 * place : 8 * place + 8], name
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return metadata, tensors


def stream(data: Array, bits: int, count: int) -> Array:
    """Values of ``bits`` bits."""
    flags = [(int(data[j // 8]) >> (j % 8)) & 1 for j in range(8 * len(data))]
    assert not any(flags[count * bits :]), "padding"
    return np.array([sum(flags[i * bits + k] << k for k in range(bits)) for i in range(count)], dtype=np.int64)


def codes_of(data: Array, name: str, count: int) -> Array:
    """The codes of a format."""
    if name == "binary":
        assert len(data) == math.ceil(count / 8)
        return 2 * stream(data, 1, count) - 1
    if name == "ternary":
        assert len(data) == math.ceil(count / 5)
        digits = [(int(byte) // 3**i) % 3 for byte in data for i in range(5)]
        assert not any(digits[count:]), "padding"
        return np.array(digits[:count], dtype=np.int64) - 1
    bits = int(name.removeprefix("int").removeprefix("kmeans").removesuffix("_asymmetric"))
    assert len(data) == math.ceil(count * bits / 8)
    return stream(data, bits, count) - 2 ** (bits - 1)


def places_of(data: Array, sparse: dict[str, Any], count: int) -> Array:
    """Which weights are kept, flat, in the order of the file."""
    if sparse["pattern"] is None:
        return stream(data, 1, count).astype(bool)
    n, m = (int(part) for part in sparse["pattern"].split(":"))
    bits = max(1, (math.comb(m, n) - 1).bit_length())
    table = {sum(math.comb(p, i + 1) for i, p in enumerate(ps)): ps for ps in combinations(range(m), n)}
    mask = np.zeros((count // m, m), dtype=bool)
    for group, number in enumerate(stream(data, bits, count // m)):
        mask[group, list(table[int(number)])] = True
    return mask.reshape(-1)


Banks = dict[str, str]


def weight_of(name: str, entry: dict[str, Any], tensors: dict[str, Array], banks: Banks) -> Array:
    """The float32 weight of a packed layer, outputs first. name: of its tensor ``weight`` (``weight_0`` of a factor).

    banks: where the tensors of a bank are, a name as this one.
    """
    if entry.get("stored") == "shared":
        whole = weight_of(banks[entry["bank"]], entry["around"], tensors, banks)
        return whole if entry["index"] is None else whole[entry["index"]]
    if entry.get("stored") == "factored":
        factors = [weight_of(f"{name}_{i}", each, tensors, banks) for i, each in enumerate(entry["factors"])]
        return np.einsum(entry["equation"], *factors).reshape(entry["shape"])
    shape, sparse = tuple(entry["shape"]), entry.get("sparse")
    count = math.prod(shape)
    by_input = sparse is not None and sparse["pattern"] is not None and len(shape) == 4
    order = (shape[0], shape[2], shape[3], shape[1]) if by_input else shape
    mask = None
    if sparse is not None:
        mask = places_of(tensors[f"{name}_mask"], sparse, count)
        assert int(mask.sum()) == sparse["kept"]
    elif entry.get("masked"):
        mask = stream(tensors[f"{name}_mask"], 1, count).astype(bool)
    stored = tensors[name]
    if entry["format"] is not None:
        kept_format = entry["format"] if sparse is None else sparse["format"]
        stored = codes_of(stored, kept_format, count if sparse is None else sparse["kept"])
    if sparse is not None:
        assert mask is not None
        whole = np.zeros(count, dtype=stored.dtype)
        whole[mask] = stored
        stored = whole
    stored = stored.reshape(order).transpose(0, 3, 1, 2) if by_input else stored.reshape(shape)
    if entry["format"] is None:
        return stored.astype(np.float32)
    groups = {"tensor": 1, "row": shape[0], "group": entry["groups"]}[entry["grouping"]]
    value = stored.astype(np.float32).reshape(groups, -1)
    if entry["format"].startswith("kmeans"):
        bits = int(entry["format"].removeprefix("kmeans"))
        codebook = tensors[f"{name}_codebook"].astype(np.float32)
        assert codebook.shape == (groups, 2**bits)
        value = np.take_along_axis(codebook, stored.reshape(groups, -1) + 2 ** (bits - 1), axis=1)
        return hidden(value.reshape(shape), mask, order, by_input)
    scale = tensors[f"{name}_scale"].astype(np.float32).reshape(-1, 1)
    assert len(scale) == groups
    if entry["format"].endswith("_asymmetric"):
        bits = int(entry["format"].removeprefix("int").removesuffix("_asymmetric"))
        zero = tensors[f"{name}_zero"].astype(np.float32).reshape(-1, 1)
        value = (value + np.float32(2 ** (bits - 1))) * scale + zero
    else:
        value = value * scale
    return hidden(value.reshape(shape), mask, order, by_input)


def hidden(value: Array, mask: Array | None, order: tuple[int, ...], by_input: bool) -> Array:
    """``value`` with zeros where the mask has none."""
    if mask is None:
        return value
    kept = mask.reshape(order).transpose(0, 3, 1, 2) if by_input else mask.reshape(value.shape)
    return np.where(kept, value, np.float32(0))


def find_banks(entry: dict[str, Any], name: str, banks: Banks) -> None:
    """Note where the first layer with each bank has its tensors."""
    if entry.get("stored") == "shared":
        banks.setdefault(entry["bank"], name)
        find_banks(entry["around"], name, banks)
    for i, factor in enumerate(entry.get("factors", ())):
        find_banks(factor, f"{name}_{i}", banks)


def read_folder(folder: Path) -> dict[str, Array]:
    """Every float tensor of the model under its name, decoded to float32."""
    text = json.loads((folder / "config.json").read_text())
    config = text["quantization_config"]
    assert config["quant_method"] == "xtc"
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    tensors: dict[str, Array] = {}
    for name in names:
        metadata, found = read_file(folder / name)
        assert metadata["xtc_format_version"] == str(config["format_version"])
        if "xtc_config_crc32" in metadata:
            kept = {k: v for k, v in text.items() if k not in ("id2label", "label2id", "transformers_version")}
            line = json.dumps(kept, sort_keys=True, separators=(",", ":"))
            assert f"{zlib.crc32(line.encode()):08x}" == metadata["xtc_config_crc32"]
        tensors |= found
    entries = {module: entry for entry in config["layers"] for module in entry["modules"]}
    banks: Banks = {}
    for module, entry in entries.items():
        find_banks(entry, f"{module}.weight", banks)
    result = {}
    for module, entry in entries.items():
        if module not in config["tied"]:
            result[f"{module}.weight"] = weight_of(f"{module}.weight", entry, tensors, banks)
    for name, value in tensors.items():
        module, _, key = name.rpartition(".")
        if not (module in entries and (key == "weight" or key.startswith("weight_"))):
            result[name] = value.astype(np.float32)
    for name, owner in config["tied"].items():
        result[f"{name}.weight"] = result[f"{owner}.weight"]
    return result
