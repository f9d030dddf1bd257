"""Compression blocks of one technique, and the ones that cases are made of."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CONV_PRUNINGS",
    "CONV_WEIGHTS",
    "LINEAR_PRUNINGS",
    "WEIGHTS",
    "Block",
    "activations",
    "pruned",
    "technique",
    "weights",
]

Block = dict[str, Any]


def technique(
    name: str, params: dict[str, Any], modules: list[str], related: list[list[str]] | None = None, **shared: Any
) -> Block:
    """A block with one technique of one group, in force from step 0 on."""
    group: dict[str, Any] = {"params": params, "modules": modules}
    if related:
        group["related_modules"] = related
    return {
        name: {
            "shared_parameters": {"enabled": True, "schedule_offset": 0, **shared},
            "different_groups": {"all": group},
        }
    }


def weights(bits: int, groups: int = 1, kind: str = "symmetric", modules: str = "^0$", **shared: Any) -> Block:
    params = {"start_bits": bits, "target_bits": bits, "quantization_period": 0}
    shared = {"quantize_groups": groups, "quantization_type": kind, "quantize_weight_in_forward": True, **shared}
    return technique("weight_quantization", params, [modules], **shared)


def activations(bits: int = 8, kind: str = "symmetric", calibration: str = "dynamic", modules: str = "^0$") -> Block:
    shared: dict[str, Any] = {"quantization_type": kind, "range_calibration": calibration}
    return technique("activation_quantization", {"bits": bits}, [modules], **shared)


def pruned(what: str, ratio: float, method: str, modules: list[str] | None = None, related: Any = None) -> Block:
    shared: dict[str, Any] = {"method": method}
    if what == "head":
        shared["num_heads"] = 4
    return technique(f"{what}_pruning", {"dense_ratio": ratio}, modules or ["^0$"], related, **shared)


LINEAR_PRUNINGS = {
    "sparse_l1": pruned("sparse", 0.3, "l1"),
    "sparse_topk": pruned("sparse", 0.6, "topk"),
    "row_l1": pruned("row", 0.4, "l1"),
    "row_topk": pruned("row", 0.5, "topk"),
    "head_topk": pruned("head", 0.5, "topk"),
}
CONV_PRUNINGS = {
    "sparse_l1": pruned("sparse", 0.3, "l1"),
    "sparse_topk": pruned("sparse", 0.6, "topk"),
    "channel_l1": pruned("channel", 0.4, "l1"),
    "channel_topk": pruned("channel", 0.55, "topk"),
}
WEIGHTS = {
    "w1": weights(1),
    "w1_g8": weights(1, 8),
    "w2_g4": weights(2, 4),
    "w3": weights(3),
    "w4_g16": weights(4, 16),
    "w8_g8": weights(8, 8),
    "w8_asym_g8": weights(8, 8, "asymmetric"),
    "w4_asym": weights(4, 1, "asymmetric"),
}
CONV_WEIGHTS = {
    "w4": weights(4),
    "w8_g8": weights(8, 8),
    "w5_asym_g4": weights(5, 4, "asymmetric"),
    "w8_asym": weights(8, 1, "asymmetric"),
}
