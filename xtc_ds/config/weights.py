"""Checks inside one group of ``weight_quantization``: bits that fit format, type, granularity and mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.plain import Finding

__all__ = ["check_weight_group", "warn_weight_group", "warn_weight_keys"]


def check_weight_group(name: str, params: dict[str, Any], shared: dict[str, Any]) -> Iterator[Finding]:
    """Bits against each other, and against the format, the type and the granularity in force for the group."""
    target, start = params["target_bits"], params["start_bits"]
    here: Path = ("weight_quantization", "different_groups", name, "params")

    def place(key: str) -> Path:
        return (*here, key) if key in params else ("weight_quantization", "shared_parameters", key)

    def value(key: str, default: Any) -> Any:
        return params.get(key, shared.get(key, default))

    if start < target:
        yield (
            (*here, "start_bits"),
            (f"below target_bits; found {show_value(start)}; allowed: {show_value(target)} (target_bits) or more"),
        )
    symmetric = value("quantization_type", "symmetric") == "symmetric"
    if target in (1, 1.58) and not symmetric:
        yield (
            place("quantization_type"),
            (
                f"group {show_value(name)} has {show_value(target)} target_bits, which needs symmetric; "
                'found "asymmetric"; allowed: "symmetric"'
            ),
        )
    yield from _format(params, target, symmetric, here)
    groups = value("quantize_groups", 1)
    if value("granularity", "auto") == "row" and groups != 1:
        yield (
            place("quantize_groups"),
            (
                f'granularity "row" (group {show_value(name)}) has one scale per row already; '
                f'found {show_value(groups)}; allowed: 1, or granularity "tensor"'
            ),
        )


def _format(params: dict[str, Any], target: float, symmetric: bool, here: Path) -> Iterator[Finding]:
    allowed = {1: ["binary"], 1.58: ["ternary"], 2: ["ternary", "integer"]}.get(target, ["integer"])
    found = params.get("format", "auto")
    if found == "auto":
        return
    if found not in allowed:
        options = ", ".join(show_value(option) for option in ["auto", *allowed])
        yield (
            (*here, "format"),
            (f"does not fit target_bits {show_value(target)}; found {show_value(found)}; allowed: {options}"),
        )
    elif found == "ternary" and target == 2 and not symmetric:
        yield (
            (*here, "format"),
            ('does not fit quantization_type "asymmetric"; found "ternary"; allowed: "auto", "integer"'),
        )


def warn_weight_keys(shared: dict[str, Any]) -> Iterator[Finding]:
    """Shared keys of old configs that do nothing."""
    for key in ("quantizer_kernel", "quantize_verbose"):
        if shared.get(key, False):
            yield ("weight_quantization", "shared_parameters", key), "has no effect; found true; leave it out"


def warn_weight_group(name: str, params: dict[str, Any], shared: dict[str, Any]) -> Iterator[Finding]:
    """Keys that do nothing for the group, and keys that the old library left out in its forward mode."""
    here: Path = ("weight_quantization", "different_groups", name, "params")
    above: Path = ("weight_quantization", "shared_parameters")
    start, target = params["start_bits"], params["target_bits"]
    stochastic = params.get("rounding", shared.get("rounding")) == "stochastic"
    rounding = (*(here if "rounding" in params else above), "rounding")
    symmetric = params.get("quantization_type", shared.get("quantization_type", "symmetric")) == "symmetric"
    ternary = start == 1.58 or (start == 2 and symmetric and params.get("format", "auto") != "integer")
    without_grid = start == 1 or ternary
    own_mixing = params.get("fp16_mixed_quantize", {})
    mixing = {**shared.get("fp16_mixed_quantize", {}), **own_mixing}
    mixed = mixing.get("enabled", False)
    old = "the old library left this out while quantize_weight_in_forward is true"
    if shared.get("quantize_weight_in_forward", False):
        if start != target:
            what = (
                f"found {show_value(start)}, which falls to {show_value(target)} here; the old library used target_bits"
            )
            remedy = f"at once while quantize_weight_in_forward is true; for that, write {show_value(target)}"
            yield (*here, "start_bits"), f"{what} {remedy}"
        if stochastic:
            yield rounding, f'{old}; found "stochastic"; for the same training as there, write "nearest"'
        if mixed:
            place = (*(here if "enabled" in own_mixing else above), "fp16_mixed_quantize", "enabled")
            yield place, f"{old}; found true; for the same training as there, write false"
    elif stochastic and without_grid:
        yield rounding, f'has no effect on group {show_value(name)}, which is binary or ternary; found "stochastic"'
    if mixed and mixing.get("quantize_change_ratio", 0.001) == 0:
        place = (*(here if "quantize_change_ratio" in own_mixing else above), "fp16_mixed_quantize")
        yield (*place, "quantize_change_ratio"), "the share of real weights never falls; found 0; allowed: more than 0"
