"""Checks inside one quantization group: patterns, and bits that fit format, type and granularity."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from xtc_ds.config.locate import Path, show_value
from xtc_ds.config.plain import Finding

__all__ = ["check_patterns", "check_weight_group"]


def check_patterns(group: dict[str, Any], path: Path, sound: Callable[..., bool]) -> Iterator[Finding]:
    """Every entry of ``modules`` and ``exclude`` must be a regular expression (or ``*``, in ``modules``)."""
    for key in ("modules", "exclude"):
        patterns = group.get(key, [])
        if not isinstance(patterns, list):
            continue
        for index, pattern in enumerate(patterns):
            place: Path = (*path, key, index)
            if not sound(*place) or (pattern == "*" and key == "modules"):
                continue
            if pattern == "*":
                yield (
                    place,
                    'would leave out every module; found "*"; allowed: a regular expression such as "embeddings"',
                )
            elif (reason := _regex_fault(pattern)) is not None:
                hint = _glob_hint(pattern)
                yield (
                    place,
                    (
                        f"not a regular expression ({reason}); found {show_value(pattern)}; "
                        f'allowed: a regular expression such as "attention.self"{hint}'
                    ),
                )


def _regex_fault(pattern: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        return error.msg
    except (OverflowError, RecursionError, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def _glob_hint(pattern: str) -> str:
    """Shell patterns such as ``*.dense`` are a common slip; ``.*`` is what they mean."""
    guess = re.sub(r"(?<![.\])])\*", ".*", pattern)
    usable = guess != pattern and _regex_fault(guess) is None
    return f"; did you mean {show_value(guess)}?" if usable else ""


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
