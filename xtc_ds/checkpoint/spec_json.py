"""Packed layers as the entries of ``quantization_config.layers``, and back. Nothing that is read is trusted."""

from __future__ import annotations

import math
from typing import Any

from xtc_ds.formats import ActivationFormat, Grouping, SparseStorage, get_format
from xtc_ds.formats.sparse import MOST_COMBINATIONS
from xtc_ds.layer_kinds import packed_class, packed_kinds
from xtc_ds.runtime.packed import PackedSpec

__all__ = ["read_spec", "write_spec"]

_GROUPINGS = ("tensor", "row", "group")


def write_spec(spec: PackedSpec) -> dict[str, Any]:
    """The entry, without the names of its modules."""
    activation, sparse = spec.activation, spec.sparse
    result: dict[str, Any] = {"masked": True} if spec.masked else {}
    if sparse is not None:
        pattern = None if sparse.pattern is None else f"{sparse.pattern[0]}:{sparse.pattern[1]}"
        result["sparse"] = {"kept": sparse.kept, "pattern": pattern, "format": sparse.format}
    return {
        **result,
        "kind": spec.kind,
        "format": spec.format,
        "grouping": spec.grouping.kind,
        "groups": spec.grouping.groups,
        "shape": list(spec.shape),
        "activation": None
        if activation is None
        else {
            "bits": activation.bits,
            "symmetric": activation.symmetric,
            "range_calibration": activation.calibration,
        },
    }


def read_spec(entry: dict[str, Any]) -> PackedSpec:
    """The inverse. Raises KeyError, TypeError, ValueError or FormatError where it is not understood."""
    kind, grouping = entry["kind"], entry["grouping"]
    if kind not in packed_kinds() or grouping not in _GROUPINGS:
        raise ValueError(f"kind {kind!r}, grouping {grouping!r}")
    shape = tuple(_whole(size, 1) for size in entry["shape"])
    if len(shape) != packed_class(kind).dimensions:
        raise ValueError(f"shape {shape} of a {kind}")
    masked = entry.get("masked", False)
    if type(masked) is not bool or (masked and not _needs_mask(entry["format"])):
        raise ValueError(f"masked {masked!r} of format {entry['format']!r}")
    spec = PackedSpec(
        kind=kind,
        format=_format(entry["format"]),
        grouping=Grouping(grouping, _whole(entry["groups"], 1)),
        shape=shape,
        activation=None if entry["activation"] is None else _activation(entry["activation"]),
        masked=masked,
        sparse=None if entry.get("sparse") is None else _sparse(entry["sparse"], entry, shape),
    )
    spec.grouping.count(spec.shape)
    return spec


def _whole(value: Any, least: int) -> int:
    # True and 1.0 are no sizes.
    if type(value) is not int or value < least:
        raise ValueError(f"{value!r} is not a whole number of {least} or more")
    return value


def _format(name: Any) -> str | None:
    if name is not None and get_format(str(name)).bits > 8:
        raise ValueError(f"format {name!r} is for training alone")
    return None if name is None else str(name)


def _needs_mask(name: Any) -> bool:
    return name is not None and get_format(str(name)).zero_format is None


def _activation(content: Any) -> ActivationFormat:
    bits, symmetric, calibration = content["bits"], content["symmetric"], content["range_calibration"]
    if type(symmetric) is not bool or calibration not in ("dynamic", "static") or _whole(bits, 2) > 8:
        raise ValueError(f"activation {content!r}")
    return ActivationFormat(bits, symmetric, calibration)


def _sparse(content: Any, entry: dict[str, Any], shape: tuple[int, ...]) -> SparseStorage:
    kept, text, kept_format = _whole(content["kept"], 0), content["pattern"], content["format"]
    masked = bool(entry.get("masked", False))
    holds = kept_format is not None and get_format(str(kept_format)).zero_format == entry["format"]
    if (
        not (kept_format == entry["format"] or holds)
        or entry["kind"] == "embedding"
        or masked != _needs_mask(entry["format"])
    ):
        raise ValueError(f"sparse {content!r} of a {entry['kind']} of format {entry['format']!r}")
    if kept > math.prod(shape):
        raise ValueError(f"kept {kept} of {math.prod(shape)} weights")
    if text is None:
        return SparseStorage(kept, None, kept_format)
    few, of = (_whole(int(part), 1) for part in str(text).split(":"))
    if few > of or shape[1] % of or kept * of != math.prod(shape) * few or math.comb(of, few) > MOST_COMBINATIONS:
        raise ValueError(f"pattern {text!r} with {kept} kept of shape {shape}")
    return SparseStorage(kept, (few, of), kept_format)
