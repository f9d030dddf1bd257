"""Migrate ``sparse_pruning``, which did not run to the end in the old library."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import enabled, shared_of
from xtc_ds.config.migrate.note import Note, note

__all__ = ["migrate_sparse"]

_ONLY_SNIP = ("schedule_offset_end", "schedule_offset_stride", "block_pattern", "dense_ratio")


def migrate_sparse(block: dict[str, Any]) -> list[Note]:
    """Notes on the method; keys that it ignored are removed from ``block``, in place."""
    if not enabled(block, "sparse_pruning"):
        return []
    shared = shared_of(block, "sparse_pruning")
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
