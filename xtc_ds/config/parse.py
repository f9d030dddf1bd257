"""From a checked block to the frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xtc_ds.config.locate import render_path
from xtc_ds.config.model import (
    ActivationGroup,
    CompressionConfig,
    Distillation,
    Export,
    LayerReduction,
    WeightGroup,
)
from xtc_ds.config.validate import check_plain
from xtc_ds.errors import ConfigError

__all__ = ["parse_block"]

_WEIGHT_SHARED = ("schedule_offset", "quantize_groups", "quantization_type", "granularity")
_WEIGHT_PARAMS = ("start_bits", "target_bits", "quantization_period", "format", *_WEIGHT_SHARED)
_ACTIVATION_SHARED = ("schedule_offset", "quantization_type", "range_calibration")
_ACTIVATION_PARAMS = ("bits", *_ACTIVATION_SHARED)
_INTEGERS = frozenset(("schedule_offset", "quantize_groups", "quantization_period", "bits", "keep_number_layer"))
_FLOATS = frozenset(
    (
        "start_bits",
        "target_bits",
        "keep_ratio",
        "temperature",
        "hard_label_weight",
        "logits_weight",
        "hidden_weight",
        "attention_weight",
    )
)


def parse_block(block: Mapping[str, Any]) -> CompressionConfig:
    """Turn the value of ``compression_training`` into a :class:`CompressionConfig`.

    Raises :class:`~xtc_ds.errors.ConfigError` that lists every problem of the block at once.
    ``block`` itself is not changed and not kept.
    """
    plain, errors, warnings = check_plain(block)
    if errors:
        raise ConfigError(errors)
    return CompressionConfig(
        layer_reduction=_layer_reduction(plain.get("layer_reduction", {})),
        weight_quantization=_weight_groups(plain.get("weight_quantization", {})),
        activation_quantization=_activation_groups(plain.get("activation_quantization", {})),
        kd=_distillation(plain.get("kd", {})),
        export=Export(**plain.get("export", {})),
        warnings=tuple(warnings),
        raw=plain,
    )


def _typed(key: str, value: Any) -> Any:
    """JSON has one number type: 8.0 is the integer 8; lists become tuples."""
    if key in _INTEGERS and value is not None:
        return int(value)
    if key in _FLOATS and value is not None:
        return float(value)
    if key in ("teacher_layer", "layer_map") and value is not None:
        return tuple(int(item) for item in value)
    return tuple(value) if isinstance(value, list) else value


def _pick(source: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: _typed(key, source[key]) for key in keys if key in source}


def _modules(group: Mapping[str, Any]) -> dict[str, Any]:
    found = _pick(group, ("modules", "exclude", "optional"))
    if isinstance(found.get("modules"), str):
        found["modules"] = (found["modules"],)
    return found


def _enabled(technique: Mapping[str, Any]) -> bool:
    return technique.get("shared_parameters", {}).get("enabled", False) is True


def _group_path(technique: str, name: str) -> str:
    return render_path((technique, "different_groups", name))


def _weight_groups(technique: Mapping[str, Any]) -> tuple[WeightGroup, ...]:
    if not _enabled(technique):
        return ()
    shared = _pick(technique["shared_parameters"], _WEIGHT_SHARED)
    return tuple(
        WeightGroup(
            name=name,
            path=_group_path("weight_quantization", name),
            **_modules(group),
            **{**shared, **_pick(group["params"], _WEIGHT_PARAMS)},
        )
        for name, group in technique["different_groups"].items()
    )


def _activation_groups(technique: Mapping[str, Any]) -> tuple[ActivationGroup, ...]:
    if not _enabled(technique):
        return ()
    shared = _pick(technique["shared_parameters"], _ACTIVATION_SHARED)
    return tuple(
        ActivationGroup(
            name=name,
            path=_group_path("activation_quantization", name),
            **_modules(group),
            **{**shared, **_pick(group["params"], _ACTIVATION_PARAMS)},
        )
        for name, group in technique["different_groups"].items()
    )


def _layer_reduction(block: Mapping[str, Any]) -> LayerReduction | None:
    if block.get("enabled", False) is not True:
        return None
    keys = ("keep_number_layer", "keep_ratio", "module_name_prefix", "teacher_layer", "other_module_name")
    return LayerReduction(**_pick(block, keys))


def _distillation(block: Mapping[str, Any]) -> Distillation | None:
    if block.get("enabled", False) is not True:
        return None
    return Distillation(**{key: _typed(key, value) for key, value in block.items() if key != "enabled"})
