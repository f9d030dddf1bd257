"""Errors in the DeepSpeed config that DeepSpeed finds only while it builds the engine, or reports unclearly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xtc_ds.errors import ConfigError, Problem

__all__ = ["refuse_faults"]

# DeepSpeed passes these blocks unchanged to the optimizer and the scheduler; in nested keys of its other blocks, "auto"
# means the default.
_AS_GIVEN = ("optimizer", "scheduler")


def refuse_faults(ds_config: Mapping[str, Any]) -> None:
    """Raise ConfigError with all problems found. To be called before the model is changed."""
    problems = [*_left_auto(ds_config), *_prescaled(ds_config)]
    if problems:
        raise ConfigError(problems)


def _left_auto(ds_config: Mapping[str, Any]) -> Iterator[Problem]:
    """Values left at "auto", which Hugging Face's Trainer would have filled in."""
    paths = [key for key, value in ds_config.items() if value == "auto"]
    paths += [path for key in _AS_GIVEN for path in _auto_paths(ds_config.get(key), key)]
    remedy = "write a value, or fill the config first with transformers' HfTrainerDeepSpeedConfig"
    for path in paths:
        yield Problem(path, f'left at "auto", which DeepSpeed does not know here; {remedy}')


def _auto_paths(value: Any, path: str) -> Iterator[str]:
    if value == "auto" and "." in path:
        yield path
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _auto_paths(inner, f"{path}.{key}")


def _prescaled(ds_config: Mapping[str, Any]) -> Iterator[Problem]:
    zero = ds_config.get("zero_optimization")
    if not isinstance(zero, Mapping) or ds_config.get("prescale_gradients") is not True:
        return
    if zero.get("stage") in (2, 3) and zero.get("reduce_scatter", True) is True:
        what = f"DeepSpeed cannot scale gradients first under ZeRO-{zero['stage']} with reduce_scatter"
        yield Problem("prescale_gradients", f"{what}; found true; set it to false, or use stage 0 or 1")
