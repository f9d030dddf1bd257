"""Layer reduction, and the distillation that scripts wrote by hand."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import enabled, groups_of, mapping
from xtc_ds.config.migrate.note import Note, note

__all__ = ["add_distillation", "migrate_reduction"]


def migrate_reduction(block: dict[str, Any]) -> list[Note]:
    """``keep_number_layer`` was never read; where it contradicts ``teacher_layer`` it goes."""
    reduction = mapping(block, "layer_reduction")
    if reduction.get("enabled") is not True or reduction.get("keep_number_layer") is None:
        return []
    number, layers = reduction["keep_number_layer"], reduction.get("teacher_layer")
    path = ("layer_reduction", "keep_number_layer")
    before = f"{show_value(number)}; never read, the script had to build the small student itself"
    if isinstance(layers, list) and number != len(layers):
        del reduction["keep_number_layer"]
        now = f"taken out, since teacher_layer names {len(layers)} layers; the student gets as many"
        return [note("removed", path, before, now)]
    now = f"{show_value(number)}; layers are dropped from a full model, and a student that is built small is checked"
    return [note("same key", path, before, now)]


def add_distillation(block: dict[str, Any]) -> list[Note]:
    """The ``kd`` block where the old examples distilled: with layer reduction, and with 1 or 2 bits."""
    bits = [params.get("target_bits") for _, _, params in groups_of(block, "weight_quantization")]
    few = enabled(block, "weight_quantization") and any(found in (1, 2) for found in bits)
    if not (few or mapping(block, "layer_reduction").get("enabled") is True):
        return []
    block["kd"] = {
        "enabled": True,
        "teacher": None,
        "temperature": 1.0,
        "hard_label_weight": 0.0,
        "logits_weight": 1.0,
        "hidden_weight": 1.0,
        "attention_weight": 1.0,
        "attention_type": "scores",
    }
    before = "code in the training script; the example's logits loss was divided by the number of classes as well"
    now = "one-stage distillation: logits, hidden states and attention scores, weight 1 each; "
    teacher = 'null: pass teacher= to xtc_ds.initialize, or write a folder, a hub id or "self" here'
    return [
        note("added", ("kd",), before, now + "take the loss out of the script, or use --no-kd"),
        note("added", ("kd", "teacher"), "loaded by the script", teacher),
    ]
