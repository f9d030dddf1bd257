"""What all techniques with groups have in common: shared keys that won, defaults that the documentation had wrong."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import enabled, groups_of, shared_of
from xtc_ds.config.migrate.note import Note, note

__all__ = ["migrate_groups"]

_SHARED: dict[str, dict[str, Any]] = {
    "weight_quantization": {
        "schedule_offset": 0,
        "quantize_groups": 1,
        "quantization_type": "symmetric",
        "rounding": "nearest",
        "fp16_mixed_quantize": {"enabled": False},
    },
    "activation_quantization": {
        "schedule_offset": 1000,
        "quantization_type": "symmetric",
        "range_calibration": "dynamic",
    },
    "sparse_pruning": {"schedule_offset": 1000, "method": "l1"},
    "row_pruning": {"schedule_offset": 1000, "method": "l1"},
    "head_pruning": {"schedule_offset": 1000, "method": "topk", "num_heads": None},
    "channel_pruning": {"schedule_offset": 1000, "method": "l1"},
}
# Defaults where the documentation of the old library said something else than its code did.
_DOCUMENTED = {"schedule_offset": 0, "range_calibration": "static"}


def migrate_groups(block: dict[str, Any]) -> list[Note]:
    """Write out what the old code took, for every technique that is on; ``block`` is changed in place."""
    notes: list[Note] = []
    for technique, defaults in _SHARED.items():
        if enabled(block, technique):
            notes += _defaults(block, technique, defaults)
            notes += _overrides(block, technique, defaults)
            notes += _modules(block, technique)
    return notes


def _defaults(block: dict[str, Any], technique: str, defaults: dict[str, Any]) -> list[Note]:
    shared = shared_of(block, technique)
    notes = []
    for key, documented in _DOCUMENTED.items():
        if key in defaults and key not in shared and defaults[key] != documented:
            shared[key] = defaults[key]
            value = show_value(defaults[key])
            before = f"left out; the documentation gave {show_value(documented)}, the code took {value}"
            notes.append(note("written out", (technique, "shared_parameters", key), before, value))
    return notes


def _overrides(block: dict[str, Any], technique: str, defaults: dict[str, Any]) -> list[Note]:
    """Keys in a group's params lost against the shared ones and their defaults; here they would win."""
    shared = shared_of(block, technique)
    notes = []
    for name, _, params in groups_of(block, technique):
        for key in [key for key in params if key in defaults]:
            value, force = params.pop(key), shared.get(key, defaults[key])
            if value != force:
                before = f"{show_value(value)}; ignored, shared_parameters won with {show_value(force)}"
                now = "taken out, for the same training; here a key in params wins, so put it back if you meant it"
                notes.append(note("removed", (technique, "different_groups", name, "params", key), before, now))
    return notes


def _modules(block: dict[str, Any], technique: str) -> list[Note]:
    notes = []
    for name, group, _ in groups_of(block, technique):
        if "modules" not in group:
            group["modules"] = ["*"]
            before = 'left out; the default "*" failed as a regular expression'
            now = '["*"], every layer that the technique can take'
            notes.append(note("written out", (technique, "different_groups", name, "modules"), before, now))
    return notes
