"""Convert a ``Shrinkage`` to the JSON of ``quantization_config.pruned`` and back. Input is validated when read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xtc_ds.plan.shrinkage import Shrinkage, ShrunkModule
from xtc_ds.techniques.registry import techniques

__all__ = ["read_shrinkage", "write_shrinkage"]


def write_shrinkage(shrinkage: Shrinkage) -> dict[str, Any]:
    """``shrinkage`` as plain data for JSON; modules with equal sizes share an entry."""
    layers: dict[ShrunkModule, list[str]] = {}
    for name, module in shrinkage.modules.items():
        layers.setdefault(module, []).append(name)
    heads: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for name, values in shrinkage.attributes.items():
        heads.setdefault(tuple(values.items()), []).append(name)
    return {
        "layers": [
            {"modules": names, "kind": module.kind, "before": list(module.before), "after": list(module.after)}
            for module, names in layers.items()
        ],
        "attributes": [{"modules": names, "values": dict(values)} for values, names in heads.items()],
    }


def read_shrinkage(content: Mapping[str, Any]) -> Shrinkage:
    """The inverse of ``write_shrinkage``. Raises KeyError, TypeError or ValueError if ``content`` is invalid."""
    modules, attributes = {}, {}
    known = {name for technique in techniques() for name in technique.frozen_attributes}
    for entry in content["layers"]:
        before, after = (tuple(int(size) for size in entry[key]) for key in ("before", "after"))
        if len(before) != len(after) or not all(0 < a <= b for a, b in zip(after, before, strict=True)):
            raise ValueError(f"sizes {after} out of {before}")
        modules.update(dict.fromkeys(entry["modules"], ShrunkModule(entry["kind"], before, after)))
    for entry in content["attributes"]:
        values = {key: int(value) for key, value in entry["values"].items()}
        if not values.keys() <= known:
            raise ValueError(f"attributes {', '.join(values)}")
        attributes.update(dict.fromkeys(entry["modules"], values))
    return Shrinkage(modules, attributes)
