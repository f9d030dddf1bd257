"""Configs with prunings for tests."""

from __future__ import annotations

from typing import Any


def pruning(technique: str, groups: dict[str, Any], **shared: Any) -> dict[str, Any]:
    """One technique's block: ``groups`` is name to (modules, params[, related_modules])."""
    different = {}
    for name, (modules, params, *related) in groups.items():
        different[name] = {"params": params, "modules": modules}
        if related:
            different[name]["related_modules"] = related[0]
    return {technique: {"shared_parameters": {"enabled": True, **shared}, "different_groups": different}}


def all_prunings() -> dict[str, Any]:
    """On a BERT with 2 heads: learned, gradual, row and head masks, that start at different steps."""
    sparse = pruning(
        "sparse_pruning",
        {
            "learned": (["self.query"], {"method": "topk", "dense_ratio": 0.5}),
            "gradual": (
                ["self.value"],
                {
                    "method": "snip_momentum",
                    "dense_ratio": 0.25,
                    "block_pattern": "4x1",
                    "schedule_offset_end": 5,
                    "schedule_offset_stride": 2,
                },
            ),
        },
        schedule_offset=1,
    )
    row = pruning(
        "row_pruning",
        {"rows": (["intermediate.dense"], {"dense_ratio": 0.5}, [[r"layer\.\d+\.output\.dense"]])},
        method="l1",
        schedule_offset=2,
    )
    head = pruning(
        "head_pruning",
        {
            "heads": (
                ["attention.output.dense"],
                {"dense_ratio": 0.5},
                [["self.query", "self.key", "self.value"]],
            )
        },
        method="topk",
        num_heads=2,
        schedule_offset=0,
    )
    return {**sparse, **row, **head}
