"""From JSON values to the types of the dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["pick", "typed"]

_INTEGERS = frozenset(
    (
        "schedule_offset",
        "schedule_offset_end",
        "schedule_offset_stride",
        "quantize_groups",
        "quantization_period",
        "bits",
        "keep_number_layer",
        "num_heads",
    )
)
_FLOATS = frozenset(
    (
        "start_bits",
        "target_bits",
        "dense_ratio",
        "quantize_change_ratio",
        "keep_ratio",
        "temperature",
        "hard_label_weight",
        "logits_weight",
        "hidden_weight",
        "attention_weight",
    )
)


def typed(key: str, value: Any) -> Any:
    """JSON has one number type: 8.0 is the integer 8; lists become tuples."""
    if key in _INTEGERS and value is not None:
        return int(value)
    if key in _FLOATS and value is not None:
        return float(value)
    if key in ("teacher_layer", "layer_map") and value is not None:
        return tuple(int(item) for item in value)
    return tuple(value) if isinstance(value, list) else value


def pick(source: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Those of ``keys`` that ``source`` has, with their values as :func:`typed`."""
    return {key: typed(key, source[key]) for key in keys if key in source}
