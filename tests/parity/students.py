"""The layer reductions that both libraries carry out, from four layers to two."""

from __future__ import annotations

from typing import Any

__all__ = ["STUDENTS"]


def _reduction(teacher_layer: list[int], other: list[str]) -> dict[str, Any]:
    return {
        "enabled": True,
        "keep_number_layer": 2,
        "module_name_prefix": "encoder.layer",
        "teacher_layer": teacher_layer,
        "other_module_name": other,
    }


STUDENTS: dict[str, dict[str, Any]] = {
    "odd": _reduction([1, 3], ["embeddings", "classifier"]),
    "first": _reduction([0, 1], ["embeddings"]),
    "first_and_last": _reduction([0, 3], []),
}
