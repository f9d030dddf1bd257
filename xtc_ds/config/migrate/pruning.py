"""Prunings: most did not run to the end in the old library, so that there is little to keep and much to say."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import enabled, groups_of, shared_of
from xtc_ds.config.migrate.note import Note, note

__all__ = ["migrate_prunings"]

_ONLY_SNIP = ("schedule_offset_end", "schedule_offset_stride", "block_pattern", "dense_ratio")

_BROKEN_L1 = {"head_pruning": "NotImplementedError", "channel_pruning": "RuntimeError"}


def migrate_prunings(block: dict[str, Any]) -> list[Note]:
    """Notes on every pruning that is on; keys that its method ignored are taken out of ``block``."""
    notes: list[Note] = []
    if enabled(block, "sparse_pruning"):
        notes += _sparse(shared_of(block, "sparse_pruning"))
    for technique in ("row_pruning", "head_pruning", "channel_pruning"):
        if enabled(block, technique):
            notes += _structured(block, technique)
    return notes


def _sparse(shared: dict[str, Any]) -> list[Note]:
    path = ("sparse_pruning", "shared_parameters")
    method = shared.get("method", "l1")
    if method == "snip_momentum":
        before = "needed neural_compressor, and failed to import it in the last releases"
        now = '"snip_momentum", built in; the sparsity rises from schedule_offset to schedule_offset_end'
        return [note("same key", (*path, "method"), before, now)]
    before = "stopped with KeyError 'schedule_offset_end' when the step reached schedule_offset"
    notes = [note("same key", (*path, "method"), before, f"{show_value(method)}; runs")]
    for key in _ONLY_SNIP:
        if key in shared:
            before = f"{show_value(shared.pop(key))}; read for snip_momentum only"
            notes.append(note("removed", (*path, key), before, "taken out, for the same meaning"))
    if shared.get("excluded_modules"):
        now = "left out of every group"
        notes.append(note("same key", (*path, "excluded_modules"), "read for snip_momentum only", now))
    return notes


def _structured(block: dict[str, Any], technique: str) -> list[Note]:
    notes = []
    method = shared_of(block, technique).get("method", "topk" if technique == "head_pruning" else "l1")
    if method == "l1" and technique in _BROKEN_L1:
        place = (technique, "shared_parameters", "method")
        notes.append(note("same key", place, f"stopped with {_BROKEN_L1[technique]} at the start", '"l1"; runs'))
    for name, group, _ in groups_of(block, technique):
        related = group.get("related_modules")
        path = (technique, "different_groups", name, "related_modules")
        if isinstance(related, list) and len(related) > 1 and technique == "row_pruning":
            before = "the masks of the first pair were used for the later ones too, which broke the cleaned model"
            notes.append(note("same key", path, before, "each pair shrinks by its own masks"))
        elif related:
            before = "redundancy_clean made the layers smaller; nothing said so in the saved config"
            now = "freeze makes the layers smaller, and the packed checkpoint holds their sizes"
            notes.append(note("same key", path, before, now))
    return notes
