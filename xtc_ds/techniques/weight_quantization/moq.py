"""Migrate the old top-level blocks ``quantize_training`` (MoQ) and ``eigenvalue``."""

from __future__ import annotations

from typing import Any

from xtc_ds.config.locate import show_value
from xtc_ds.config.migrate.blocks import enabled, mapping
from xtc_ds.config.migrate.note import Note

__all__ = ["OLD_TOP_LEVEL", "migrate_moq"]

# Why these keys are refused in a config that has not been migrated.
OLD_TOP_LEVEL = {
    "quantize_training": (
        "is no longer read by DeepSpeed and would be ignored; write compression_training.weight_quantization instead, "
        "with start_bits, target_bits and quantization_period in the params of a group (xtc-ds migrate does so)"
    ),
    "eigenvalue": (
        "is no longer read by DeepSpeed; take it out and set how fast the bits fall with "
        "quantization_period in compression_training.weight_quantization"
    ),
}

_TARGET = "compression_training.weight_quantization"
# (path in quantize_training, default in the releases that read it, key in xtc_ds)
_BITS = (
    ("quantize_bits.start_bits", 16, "start_bits"),
    ("quantize_bits.target_bits", 8, "target_bits"),
    ("quantize_schedule.quantize_period", 1000, "quantization_period"),
)
_SHARED = (("quantize_schedule.schedule_offset", 1000, "schedule_offset"), ("quantize_groups", 1, "quantize_groups"))
_READ = {"enabled", "quantize_type", "quantize_algo", "quantize_groups", "quantize_bits", "quantize_schedule"}


def migrate_moq(config: dict[str, Any], block: dict[str, Any]) -> list[Note]:
    """Remove both blocks from ``config``; an enabled ``quantize_training`` becomes weight quantization in ``block``."""
    notes: list[Note] = []
    old = config.pop("quantize_training", None)
    before = "read by none of the last releases: the model trained unquantized, without a word"
    if old is not None and mapping({"q": old}, "q").get("enabled") is not True:
        notes.append(Note("removed", "quantize_training", "off", "taken out; DeepSpeed stops with an error at it"))
    elif old is not None and enabled(block, "weight_quantization"):
        now = f"taken out; {_TARGET} says already what is quantized"
        notes.append(Note("removed", "quantize_training", before, now))
    elif old is not None:
        now = f'{_TARGET}, as the MoQ tutorial describes it, on every layer ("*"); use exclude for what must stay out'
        notes.append(Note("changed", "quantize_training", before, now))
        notes += _convert(old, block)
    eigenvalue = config.pop("eigenvalue", None)
    if eigenvalue is not None or (old is not None and "eigenvalue" in mapping({"q": old}, "q")):
        place = "eigenvalue" if eigenvalue is not None else "quantize_training.eigenvalue"
        before = "switched off in the last releases: enabled stopped with an error, or was never read"
        now = "taken out; to let layers fall at their own pace, give them groups with a quantization_period each"
        notes.append(Note("removed", place, before, now))
    return notes


def _convert(old: dict[str, Any], block: dict[str, Any]) -> list[Note]:
    notes: list[Note] = []
    params = {key: _value(old, path, default, key, notes) for path, default, key in _BITS}
    shared: dict[str, Any] = {"enabled": True, "quantize_weight_in_forward": False}
    shared |= {key: _value(old, path, default, key, notes) for path, default, key in _SHARED}
    algorithm = mapping(old, "quantize_algo")
    shared["quantization_type"] = algorithm.get("q_type", old.get("quantize_type", "symmetric"))
    if "rounding" in algorithm:
        shared["rounding"] = algorithm["rounding"]
    if "fp16_mixed_quantize" in old:
        shared["fp16_mixed_quantize"] = old["fp16_mixed_quantize"]
    for key in ("quantizer_kernel", "quantize_verbose"):
        if key in old:
            shared[key] = old[key]
    group = {"params": params, "modules": ["*"]}
    block["weight_quantization"] = {"shared_parameters": shared, "different_groups": {"moq": group}}
    known = {*_READ, "eigenvalue", "fp16_mixed_quantize", "quantizer_kernel", "quantize_verbose"}
    for key in old:
        if key not in known:
            now = "taken out; MoQ had no such key"
            notes.append(Note("removed", f"quantize_training[{show_value(key)}]", show_value(old[key]), now))
    return notes


def _value(old: dict[str, Any], path: str, default: Any, key: str, notes: list[Note]) -> Any:
    head, _, tail = path.rpartition(".")
    holder = mapping(old, head) if head else old
    value = holder.get(tail, default)
    place = f"quantize_training.{path}"
    if tail not in holder:
        notes.append(Note("written out", place, f"left out; the code that read it took {default}", f"{key}: {default}"))
    elif tail != key:
        notes.append(Note("changed", place, show_value(value), f"{key}: {show_value(value)}"))
    return value
