"""What a schema cannot say: keys that depend on each other, patterns that must compile, keys without effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.patterns import check_patterns
from xtc_ds.config.plain import Finding
from xtc_ds.config.sparse import check_sparse_group, has_implicit_group, warn_sparse_group
from xtc_ds.config.structured import check_structured_group, warn_structured_group
from xtc_ds.config.weights import check_weight_group, warn_weight_group, warn_weight_keys

__all__ = ["check_meaning"]

_STRUCTURED = ("row_pruning", "head_pruning", "channel_pruning")
_WITH_GROUPS = ("weight_quantization", "activation_quantization", "sparse_pruning", *_STRUCTURED)


def check_meaning(block: dict[str, Any], faulty: list[Path]) -> tuple[list[Finding], list[Finding]]:
    """(errors, warnings) of a plain block. Parts with a fault of shape in ``faulty`` are passed over."""

    def sound(*path: str | int) -> bool:
        return not any(place[: len(path)] == path or path[: len(place)] == place for place in faulty)

    errors: list[Finding] = []
    warnings: list[Finding] = []
    if "layer_reduction" in block and sound("layer_reduction"):
        errors += _layer_reduction(block["layer_reduction"])
    for technique in _WITH_GROUPS:
        if technique in block and sound(technique, "shared_parameters"):
            errors += _technique(block[technique], technique, sound)
            warnings += _without_effect(block[technique], technique, sound)
    if "kd" in block and sound("kd") and block["kd"]["enabled"]:
        errors += _all_weights_zero(block["kd"])
        errors += _cache_misses_layers(block["kd"])
        warnings += _unused_kd(block["kd"])
    if "runtime" in block and sound("runtime"):
        warnings += _unused_runtime(block["runtime"])
    if not faulty:
        warnings += _off(block)
    return errors, warnings


def _technique(technique: dict[str, Any], name: str, sound: Callable[..., bool]) -> Iterator[Finding]:
    shared = technique.get("shared_parameters", {})
    groups = technique.get("different_groups", {})
    if not isinstance(groups, dict):
        return
    yield from check_patterns(shared, (name, "shared_parameters"), sound)
    if shared.get("enabled", False) and not groups:
        if name == "sparse_pruning" and has_implicit_group(technique):
            yield from check_sparse_group(None, {}, shared)
        else:
            yield _no_group(name, groups)
    for group_name, group in groups.items():
        path: Path = (name, "different_groups", group_name)
        if not isinstance(group, dict):
            continue
        yield from check_patterns(group, path, sound)
        params = group.get("params")
        if isinstance(params, dict):
            yield from check_patterns(params, (*path, "params"), sound)
        if isinstance(params, dict) and sound(*path, "params"):
            if name == "weight_quantization":
                yield from check_weight_group(group_name, params, shared)
            elif name == "sparse_pruning":
                yield from check_sparse_group(group_name, params, shared)
        if name in _STRUCTURED and sound(*path):
            yield from check_structured_group(name, group_name, group, shared)


def _no_group(technique: str, groups: dict[str, Any]) -> Finding:
    return (
        (technique, "different_groups"),
        f"the technique is enabled without any group; found {show_value(groups)}; "
        'allowed: at least one group such as {"all": {"params": {...}, "modules": ["*"]}}',
    )


def _without_effect(technique: dict[str, Any], name: str, sound: Callable[..., bool]) -> Iterator[Finding]:
    """Warnings about the keys of a technique that is on."""
    shared = technique.get("shared_parameters", {})
    groups = technique.get("different_groups", {})
    if not shared.get("enabled", False):
        return
    if name == "weight_quantization":
        yield from warn_weight_keys(shared)
    if name == "sparse_pruning" and has_implicit_group(technique):
        yield from warn_sparse_group(None, {}, shared)
    for group_name, group in groups.items() if isinstance(groups, dict) else ():
        if not sound(name, "different_groups", group_name):
            continue
        if name == "weight_quantization":
            yield from warn_weight_group(group_name, group["params"], shared)
        elif name == "sparse_pruning":
            yield from warn_sparse_group(group_name, group["params"], shared)
        elif name in _STRUCTURED:
            yield from warn_structured_group(name, group_name, group["params"])


def _layer_reduction(block: dict[str, Any]) -> Iterator[Finding]:
    number, ratio, layers = (block.get(key) for key in ("keep_number_layer", "keep_ratio", "teacher_layer"))
    path: Path = ("layer_reduction",)
    if layers is not None:
        rising = all(low < high for low, high in zip(layers, layers[1:], strict=False))
        if not rising:
            yield (
                (*path, "teacher_layer"),
                (f"not in rising order; found {show_value(layers)}; allowed: each layer once, in rising order"),
            )
    given = [key for key in ("keep_number_layer", "keep_ratio", "teacher_layer") if block.get(key) is not None]
    if not given and block.get("enabled", False):
        yield (
            path,
            (
                "does not say which layers to keep; found none of the three keys; "
                "allowed: one of keep_number_layer, keep_ratio, teacher_layer"
            ),
        )
    if ratio is not None and len(given) > 1:
        other = given[0] if given[0] != "keep_ratio" else given[1]
        yield (
            (*path, "keep_ratio"),
            (f"stands beside {other}, which says the same; found {show_value(ratio)}; allowed: only one of the two"),
        )
    if number is not None and layers is not None and number != len(layers):
        yield (
            (*path, "keep_number_layer"),
            (f"does not agree with teacher_layer; found {number}; allowed: {len(layers)}, the length of teacher_layer"),
        )


_KD_WEIGHTS = ("hard_label_weight", "logits_weight", "hidden_weight", "attention_weight")


def _all_weights_zero(kd: dict[str, Any]) -> Iterator[Finding]:
    defaults = {"hard_label_weight": 0.0}
    if not any(kd.get(key, defaults.get(key, 1.0)) for key in _KD_WEIGHTS):
        names = ", ".join(_KD_WEIGHTS)
        yield ("kd",), f"all weights are 0, nothing would be learned; allowed: at least one of {names} > 0"


def _cache_misses_layers(kd: dict[str, Any]) -> Iterator[Finding]:
    layers = [key for key in ("hidden_weight", "attention_weight") if kd.get(key, 1.0) > 0]
    if kd.get("cache", "none") == "logits" and layers:
        yield (
            ("kd", "cache"),
            f'keeps logits alone, but {" and ".join(layers)} > 0 needs the teacher in every step; found "logits"; '
            'allowed: "none", or "logits" with hidden_weight 0 and attention_weight 0',
        )


def _unused_kd(kd: dict[str, Any]) -> Iterator[Finding]:
    off = {key for key in _KD_WEIGHTS if kd.get(key, 1.0) == 0}
    if set(_KD_WEIGHTS[1:]) <= off:
        for key in ("teacher_dtype", "cache"):
            if kd.get(key) not in (None, "none"):
                found = show_value(kd[key])
                yield ("kd", key), f"has no effect while nothing is learned from the teacher; found {found}"
    if kd.get("cache_folder") is not None and kd.get("cache", "none") == "none":
        found = show_value(kd["cache_folder"])
        yield ("kd", "cache_folder"), f'has no effect while cache is "none"; found {found}'
    if "temperature" in kd and kd["temperature"] != 1 and "logits_weight" in off:
        yield ("kd", "temperature"), f"has no effect while logits_weight is 0; found {show_value(kd['temperature'])}"
    if "attention_type" in kd and "attention_weight" in off:
        yield (
            ("kd", "attention_type"),
            (f"has no effect while attention_weight is 0; found {show_value(kd['attention_type'])}"),
        )
    if kd.get("layer_map") is not None and {"hidden_weight", "attention_weight"} <= off:
        found = show_value(kd["layer_map"])
        yield ("kd", "layer_map"), f"has no effect while hidden_weight and attention_weight are 0; found {found}"


def _unused_runtime(runtime: dict[str, Any]) -> Iterator[Finding]:
    if runtime.get("backward_dtype") is not None and not runtime.get("integer_forward", True):
        found = show_value(runtime["backward_dtype"])
        yield ("runtime", "backward_dtype"), f"has no effect while integer_forward is false; found {found}"


def _off(block: dict[str, Any]) -> Iterator[Finding]:
    """Techniques that are off only because ``enabled`` was left out, and blocks in which everything is off."""
    on = block.get("layer_reduction", {}).get("enabled", False) or block.get("kd", {}).get("enabled", False)
    for name in ("layer_reduction", *_WITH_GROUPS):
        path: Path = (name,) if name == "layer_reduction" else (name, "shared_parameters")
        holder = block.get(name, {}) if name == "layer_reduction" else block.get(name, {}).get("shared_parameters", {})
        on = on or holder.get("enabled", False)
        if block.get(name) and "enabled" not in holder:
            yield path, 'the technique stays off, because "enabled" is missing; write "enabled": true to switch it on'
    if not on:
        yield (), "nothing is enabled: the model stays as it is"
