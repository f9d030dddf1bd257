"""Migrate the distillation that scripts for the old library wrote by hand."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.keys import keys_of
from xtc_ds.config.migrate.blocks import enabled, groups_of, mapping
from xtc_ds.config.migrate.note import Note, note
from xtc_ds.distillation.registry import BUILT_IN_LOSSES, distillation_losses

__all__ = ["migrate_kd"]


def migrate_kd(piece: type, block: dict[str, Any]) -> list[Note]:
    """Add a ``kd`` block where the old examples used distillation: with layer reduction, and with 1 or 2 bits.

    piece: the dataclass of the ``kd`` block, from which the defaults are taken.
    """
    bits = [params.get("target_bits") for _, _, params in groups_of(block, "weight_quantization")]
    few = enabled(block, "weight_quantization") and any(found in (1, 2) for found in bits)
    if not (few or mapping(block, "layer_reduction").get("enabled") is True):
        return []
    # Write the defaults out, so that the new config shows what is learned.
    built_in = [key for loss in distillation_losses() if loss.name in BUILT_IN_LOSSES for key in keys_of(loss)]
    shown = {"teacher", "hard_label_weight", *(key.name for key in built_in)}
    block["kd"] = {"enabled": True, **{key.name: key.default for key in keys_of(piece) if key.name in shown}}
    before = "code in the training script; the example's logits loss was divided by the number of classes as well"
    now = "one-stage distillation: logits, hidden states and attention scores, weight 1 each; "
    teacher = 'null: pass teacher= to xtc_ds.initialize, or write a folder, a hub id or "self" here'
    return [
        note("added", ("kd",), before, now + "take the loss out of the script, or use --no-kd"),
        note("added", ("kd", "teacher"), "loaded by the script", teacher),
    ]
