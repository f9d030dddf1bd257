"""Convert packed layers to the entries of ``quantization_config.layers`` and back. Input is validated when read."""

from __future__ import annotations

from typing import Any

from xtc_ds.formats import ActivationFormat
from xtc_ds.layer_kinds import packed_class, packed_kinds
from xtc_ds.runtime.packed import PackedSpec
from xtc_ds.storage import Sparse, weight_from_json, weight_to_json
from xtc_ds.storage.base import whole_number

__all__ = ["read_spec", "write_spec"]

# Keys of an entry that describe the module; all others describe its weight.
_OF_THE_MODULE = ("modules", "kind", "activation")


def write_spec(spec: PackedSpec) -> dict[str, Any]:
    """``spec`` as an entry, without "modules"."""
    weight = weight_to_json(spec.weight)
    # Keep the key order of the first format version.
    pruned: dict[str, Any] = {key: weight.pop(key) for key in ("masked", "sparse") if key in weight}
    return {
        **pruned,
        "kind": spec.kind,
        **weight,
        "activation": None
        if spec.activation is None
        else {
            "bits": spec.activation.bits,
            "symmetric": spec.activation.symmetric,
            "range_calibration": spec.activation.calibration,
        },
    }


def read_spec(entry: dict[str, Any]) -> PackedSpec:
    """The inverse of ``write_spec``. Raises KeyError, TypeError, ValueError or FormatError if ``entry`` is invalid."""
    kind = entry["kind"]
    if kind not in packed_kinds():
        raise ValueError(f"kind {kind!r}")
    weight = weight_from_json({key: value for key, value in entry.items() if key not in _OF_THE_MODULE})
    if len(weight.shape) != packed_class(kind).dimensions:
        raise ValueError(f"shape {weight.shape} of a {kind}")
    if kind == "embedding" and isinstance(weight, Sparse):
        raise ValueError(f"sparse {entry['sparse']!r} of a {kind}")
    return PackedSpec(kind, weight, None if entry["activation"] is None else _activation(entry["activation"]))


def _activation(content: Any) -> ActivationFormat:
    bits, symmetric, calibration = content["bits"], content["symmetric"], content["range_calibration"]
    if type(symmetric) is not bool or calibration not in ("dynamic", "static") or whole_number(bits, 2) > 8:
        raise ValueError(f"activation {content!r}")
    return ActivationFormat(bits, symmetric, calibration)
