"""Migrate weight quantization from its two old modes: forward mode and MoQ."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.migrate.blocks import enabled, groups_of, mapping, shared_of
from xtc_ds.config.migrate.note import Note, note

__all__ = ["migrate_weights"]

_SHARED: Path = ("weight_quantization", "shared_parameters")


def migrate_weights(block: dict[str, Any]) -> list[Note]:
    """Keep what the mode did and remove keys that it ignored; ``block`` is changed in place."""
    if not enabled(block, "weight_quantization"):
        return []
    shared = shared_of(block, "weight_quantization")
    forward = shared.get("quantize_weight_in_forward", False)
    notes = _forward(block, shared) if forward is True else _moq(shared)
    for key in ("quantizer_kernel", "quantize_verbose"):
        if shared.pop(key, False) is True:
            before = "true; no effect in this mode" if forward else "true; read in MoQ mode only"
            notes.append(note("removed", (*_SHARED, key), before, "taken out; there is nothing like it here"))
    return notes


def _forward(block: dict[str, Any], shared: dict[str, Any]) -> list[Note]:
    notes = []
    if shared.get("rounding") == "stochastic":
        shared["rounding"] = "nearest"
        before = '"stochastic"; ignored in forward mode, it always rounded to the nearest'
        now = '"nearest", the same training; "stochastic" works here if you want it'
        notes.append(note("changed", (*_SHARED, "rounding"), before, now))
    mixing = mapping(shared, "fp16_mixed_quantize")
    if mixing.get("enabled") is True:
        mixing["enabled"] = False
        place = (*_SHARED, "fp16_mixed_quantize", "enabled")
        now = "false, the same training; the mixing works here if you want it"
        notes.append(note("changed", place, "true; ignored in forward mode", now))
    for name, _, params in groups_of(block, "weight_quantization"):
        path: Path = ("weight_quantization", "different_groups", name, "params")
        start, target = params.get("start_bits"), params.get("target_bits")
        if {"start_bits", "target_bits"} <= params.keys() and start != target:
            params["start_bits"] = target
            before = f"{show_value(start)}; never read in forward mode, target_bits applied at once"
            now = f"{show_value(target)}, the same training; with start_bits above target_bits the bits would fall"
            notes.append(note("changed", (*path, "start_bits"), before, now))
        if "quantization_period" in params:
            period = show_value(params.pop("quantization_period"))
            now = "taken out; it has no effect while start_bits equals target_bits"
            notes.append(note("removed", (*path, "quantization_period"), f"{period}; never read in forward mode", now))
    return notes


def _moq(shared: dict[str, Any]) -> list[Note]:
    written = "quantize_weight_in_forward" in shared
    shared["quantize_weight_in_forward"] = False
    before = "MoQ: fp16 only, an error under ZeRO 1, no effect under ZeRO 3; bits and period lost on resume"
    now = "false; every precision and ZeRO stage, kept over a resume; with schedule_offset 0 bits fall one step later"
    place = (*_SHARED, "quantize_weight_in_forward")
    notes = [note("same key" if written else "written out", place, before, now)]
    groups = shared.get("quantize_groups", 1)
    if groups != 1:
        before = f"{show_value(groups)}; embeddings were cut into groups as well"
        now = 'embeddings keep one scale per row; "granularity": "tensor" in a group of theirs cuts them into groups'
        notes.append(note("same key", (*_SHARED, "quantize_groups"), before, now))
    if shared.get("quantizer_kernel") is True and shared.get("rounding", "nearest") == "nearest":
        given = "as written" if "rounding" in shared else "the default"
        before = "with quantizer_kernel the rounding was stochastic, whatever was written"
        now = f'"nearest", {given}; "stochastic" gives what the kernel did'
        notes.append(note("same key" if "rounding" in shared else "written out", (*_SHARED, "rounding"), before, now))
        shared["rounding"] = "nearest"
    return notes
