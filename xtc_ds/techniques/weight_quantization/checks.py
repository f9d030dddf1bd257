"""Check one group of ``weight_quantization``: bits that fit format, type, granularity and mode."""

from __future__ import annotations

from collections.abc import Iterator

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import keys_of
from xtc_ds.config.locate import show_value
from xtc_ds.config.written import Written
from xtc_ds.format_choices import format_choice, format_choices

__all__ = ["check_group", "warn_group"]

# Binary and ternary have no zero point.
_SYMMETRIC_BITS = (1, 1.58)


def check_group(written: Written) -> Iterator[Finding]:
    """Report bits that contradict each other, or the group's effective format, type or granularity."""
    start, target = written.shown("start_bits"), written.shown("target_bits")
    group = f"group {show_value(written.name)}"
    if written["start_bits"] < written["target_bits"]:
        message = f"below target_bits; found {start}; allowed: {target} (target_bits) or more"
        yield written.place("start_bits"), message
    if written["target_bits"] in _SYMMETRIC_BITS and written["quantization_type"] == "asymmetric":
        what = f"{group} has {target} target_bits, which needs symmetric"
        yield written.place("quantization_type"), f'{what}; found "asymmetric"; allowed: "symmetric"'
    yield from _check_format(written)
    yield from _check_learned(written)
    if written["granularity"] == "row" and written["quantize_groups"] != 1:
        what = f'granularity "row" ({group}) has one scale per row already'
        allowed = 'allowed: 1, or granularity "tensor"'
        yield written.place("quantize_groups"), f"{what}; found {written.shown('quantize_groups')}; {allowed}"


def _check_format(written: Written) -> Iterator[Finding]:
    fitting = {choice.name: choice for choice in format_choices() if written["target_bits"] in choice.target_bits}
    asked = written["format"]
    if asked == "auto":
        return
    if asked not in fitting:
        what = f"does not fit target_bits {written.shown('target_bits')}"
    elif (
        fitting[asked].symmetric_only
        and written["quantization_type"] == "asymmetric"
        and written["target_bits"] not in _SYMMETRIC_BITS  # for these the type is wrong, which is reported already
    ):
        what = 'does not fit quantization_type "asymmetric"'
        fitting = {name: choice for name, choice in fitting.items() if not choice.symmetric_only}
    else:
        return
    allowed = ", ".join(show_value(name) for name in ("auto", *fitting))
    yield written.place("format"), f"{what}; found {show_value(asked)}; allowed: {allowed}"


def _check_learned(written: Written) -> Iterator[Finding]:
    """Report keys that only formats with learned parts support, and keys that such a format does not support."""
    choice = format_choice(written["format"])
    learned = choice is not None and choice.learned
    if not learned and "assignment" in written:
        what = f"has no effect on format {show_value(written['format'])}, which learns nothing"
        yield written.place("assignment"), f"{what}; leave it out"
    if learned and written["start_bits"] != written["target_bits"]:
        what = f"format {show_value(written['format'])} has one codebook from the start"
        found, allowed = written.shown("start_bits"), written.shown("target_bits")
        yield written.place("start_bits"), f"{what}; found {found}; allowed: {allowed} (target_bits)"


def warn_group(written: Written) -> Iterator[Finding]:
    """Warn about keys without effect on the group, and keys that the old library ignored in its forward mode."""
    for choice in format_choices():
        for key in keys_of(choice.keys) if choice.keys is not None and choice.name != written["format"] else ():
            if key.name in written:
                what = f"has no effect with format {written.shown('format')}; found {written.shown(key.name)}"
                yield written.place(key.name), f'{what}; leave it out, or use "{choice.name}"'
    stochastic, mixing = written["rounding"] == "stochastic", written["fp16_mixed_quantize"]
    if written["quantize_weight_in_forward"]:
        yield from _left_out(written)
    elif stochastic and (gridless := _gridless(written)):
        what = f"has no effect on group {show_value(written.name)}, which is {gridless}"
        yield written.place("rounding"), f'{what}; found "stochastic"'
    if mixing.enabled and mixing.quantize_change_ratio == 0:
        message = "the share of real weights never falls; found 0; allowed: more than 0"
        yield written.place("fp16_mixed_quantize", "quantize_change_ratio"), message


def _left_out(written: Written) -> Iterator[Finding]:
    """Warn about keys that the old library treated differently in forward mode."""
    old = "the old library left this out while quantize_weight_in_forward is true"
    same = "for the same training as there, write"
    if written["start_bits"] != written["target_bits"]:
        start, target = written.shown("start_bits"), written.shown("target_bits")
        what = f"found {start}, which falls to {target} here; the old library used target_bits at once while"
        yield written.place("start_bits"), f"{what} quantize_weight_in_forward is true; for that, write {target}"
    if written["rounding"] == "stochastic":
        yield written.place("rounding"), f'{old}; found "stochastic"; {same} "nearest"'
    if written["fp16_mixed_quantize"].enabled:
        yield written.place("fp16_mixed_quantize", "enabled"), f"{old}; found true; {same} false"


def _gridless(written: Written) -> str | None:
    """The initial format of the group if it has no grid for stochastic rounding; None if it has one."""
    choice = format_choice(written["format"])
    if choice is not None and choice.learned:
        return choice.name
    start, symmetric = written["start_bits"], written["quantization_type"] == "symmetric"
    gridless = start in (1, 1.58) or (start == 2 and symmetric and written["format"] != "integer")
    return "binary or ternary" if gridless else None
