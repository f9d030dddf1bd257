"""From a checked block to the frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xtc_ds.config.model import CompressionConfig, Distillation, Export, LayerReduction, Runtime
from xtc_ds.config.parse_groups import activation_groups, sparse_groups, structured_groups, weight_groups
from xtc_ds.config.typed import pick, typed
from xtc_ds.config.validate import check_plain
from xtc_ds.errors import ConfigError

__all__ = ["parse_block"]


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
        weight_quantization=weight_groups(plain.get("weight_quantization", {})),
        activation_quantization=activation_groups(plain.get("activation_quantization", {})),
        sparse_pruning=sparse_groups(plain.get("sparse_pruning", {})),
        row_pruning=structured_groups(plain.get("row_pruning", {}), "row_pruning"),
        head_pruning=structured_groups(plain.get("head_pruning", {}), "head_pruning"),
        channel_pruning=structured_groups(plain.get("channel_pruning", {}), "channel_pruning"),
        kd=_distillation(plain.get("kd", {})),
        export=Export(**plain.get("export", {})),
        runtime=Runtime(**plain.get("runtime", {})),
        warnings=tuple(warnings),
        raw=plain,
    )


def _layer_reduction(block: Mapping[str, Any]) -> LayerReduction | None:
    if block.get("enabled", False) is not True:
        return None
    keys = ("keep_number_layer", "keep_ratio", "module_name_prefix", "teacher_layer", "other_module_name")
    return LayerReduction(**pick(block, keys))


def _distillation(block: Mapping[str, Any]) -> Distillation | None:
    if block.get("enabled", False) is not True:
        return None
    return Distillation(**{key: typed(key, value) for key, value in block.items() if key != "enabled"})
