"""From the groups of a checked technique to the frozen dataclasses; a group wins over the shared keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xtc_ds.config.locate import render_path
from xtc_ds.config.model import ActivationGroup, SparseGroup, StructuredGroup, WeightGroup
from xtc_ds.config.sparse import SparseParams, has_implicit_group, sparse_params
from xtc_ds.config.typed import pick, typed

__all__ = ["activation_groups", "sparse_groups", "structured_groups", "weight_groups"]

_WEIGHT_SHARED = ("schedule_offset", "quantize_groups", "quantization_type", "granularity", "rounding")
_WEIGHT_PARAMS = ("start_bits", "target_bits", "quantization_period", "format", *_WEIGHT_SHARED)
_ACTIVATION_SHARED = ("schedule_offset", "quantization_type", "range_calibration")
_ACTIVATION_PARAMS = ("bits", *_ACTIVATION_SHARED)
_STRUCTURED_SHARED = ("method", "schedule_offset", "num_heads")
_STRUCTURED_PARAMS = ("dense_ratio", *_STRUCTURED_SHARED)


def weight_groups(technique: Mapping[str, Any]) -> tuple[WeightGroup, ...]:
    """The groups of ``weight_quantization``; none if it is off."""
    if not _enabled(technique):
        return ()
    shared = technique["shared_parameters"]
    given = {**pick(shared, _WEIGHT_SHARED), **pick(shared, ("quantize_weight_in_forward",))}
    return tuple(
        WeightGroup(
            **common,
            **{**given, **pick(group["params"], _WEIGHT_PARAMS)},
            quantize_change_ratio=_change_ratio(shared, group["params"]),
        )
        for common, group in _groups("weight_quantization", technique)
    )


def activation_groups(technique: Mapping[str, Any]) -> tuple[ActivationGroup, ...]:
    """The groups of ``activation_quantization``; none if it is off."""
    if not _enabled(technique):
        return ()
    shared = pick(technique["shared_parameters"], _ACTIVATION_SHARED)
    return tuple(
        ActivationGroup(**common, **{**shared, **pick(group["params"], _ACTIVATION_PARAMS)})
        for common, group in _groups("activation_quantization", technique)
    )


def sparse_groups(technique: Mapping[str, Any]) -> tuple[SparseGroup, ...]:
    """The groups of ``sparse_pruning``; none if it is off.

    ``snip_momentum`` without a group, as old configs have it, is one group "shared" over all modules that
    ``excluded_modules`` leaves in.
    """
    if not _enabled(technique):
        return ()
    shared = technique["shared_parameters"]
    if has_implicit_group(technique):
        path = render_path(("sparse_pruning", "shared_parameters"))
        return (_sparse_group({"name": "shared", "path": path}, sparse_params({}, shared)),)
    return tuple(
        _sparse_group(common, sparse_params(group["params"], shared))
        for common, group in _groups("sparse_pruning", technique)
    )


def structured_groups(technique: Mapping[str, Any], name: str) -> tuple[StructuredGroup, ...]:
    """The groups of ``row_pruning``, ``head_pruning`` or ``channel_pruning``; none if it is off."""
    if not _enabled(technique):
        return ()
    default = {"method": "topk"} if name == "head_pruning" else {}
    shared = {**default, **pick(technique["shared_parameters"], _STRUCTURED_SHARED)}
    return tuple(
        StructuredGroup(
            **common,
            **{**shared, **pick(group["params"], _STRUCTURED_PARAMS)},
            related_modules=_related(group.get("related_modules")),
        )
        for common, group in _groups(name, technique)
    )


def _groups(technique: str, block: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """The fields that all groups have (name, path, modules, exclude, optional), and the group's JSON."""
    for name, group in block["different_groups"].items():
        fields = pick(group, ("modules", "exclude", "optional"))
        if isinstance(fields.get("modules"), str):
            fields["modules"] = (fields["modules"],)
        path = render_path((technique, "different_groups", name))
        yield {"name": name, "path": path, **fields}, group


def _enabled(technique: Mapping[str, Any]) -> bool:
    return technique.get("shared_parameters", {}).get("enabled", False) is True


def _change_ratio(shared: Mapping[str, Any], params: Mapping[str, Any]) -> float | None:
    mixing = {**shared.get("fp16_mixed_quantize", {}), **params.get("fp16_mixed_quantize", {})}
    return float(mixing.get("quantize_change_ratio", 0.001)) if mixing.get("enabled", False) else None


def _sparse_group(common: Mapping[str, Any], found: SparseParams) -> SparseGroup:
    assert found.dense_ratio is not None  # the checks asked for it
    return SparseGroup(
        **{**common, "exclude": (*common.get("exclude", ()), *found.excluded_modules)},
        dense_ratio=float(found.dense_ratio),
        method=found.method,
        schedule_offset=int(found.offset),
        schedule_offset_end=typed("schedule_offset_end", found.end),
        schedule_offset_stride=int(found.stride),
        block_pattern=found.block_pattern,
    )


def _related(related: list[Any] | None) -> tuple[tuple[str, ...], ...] | None:
    if related is None:
        return None
    return tuple((patterns,) if isinstance(patterns, str) else tuple(patterns) for patterns in related)
