"""The registry of weight formats, and the rule that converts a number of bits in a config to a format."""

from __future__ import annotations

import importlib

from xtc_ds.errors import FormatError
from xtc_ds.format_choices import format_choices
from xtc_ds.formats.base import WeightFormat

__all__ = ["format_for_bits", "format_names", "get_format", "register_format"]

_FORMATS: dict[str, WeightFormat] = {}
_MODULES: set[str] = set()
# Values of the config's "format" for which DeepSpeed's rule chooses a format by bits. With any other value, the name of
# the format is the value followed by the bits, such as kmeans4.
_BY_BITS = ("auto", "binary", "ternary", "integer")


def register_format(weight_format: WeightFormat) -> None:
    """Register a format under its name. Raises FormatError if the name is taken."""
    if weight_format.name in _FORMATS:
        raise FormatError(f"weight format '{weight_format.name}' is registered already")
    _FORMATS[weight_format.name] = weight_format


def format_names() -> tuple[str, ...]:
    """All registered names."""
    _register_choices()
    return tuple(_FORMATS)


def get_format(name: str) -> WeightFormat:
    """The format called ``name``. Raises FormatError, which lists the known names, if there is none."""
    if name not in _FORMATS:
        _register_choices()
    if name not in _FORMATS:
        raise FormatError(f"unknown weight format '{name}'; known: {', '.join(_FORMATS)}")
    return _FORMATS[name]


def format_for_bits(bits: float, symmetric: bool = True, family: str = "auto") -> WeightFormat:
    """The format that ``bits`` means in a config.

    family: "auto" follows DeepSpeed: 1 is binary, 2 (and 1.58) ternary, 3 and more a uniform grid. "integer" uses the
    uniform grid for 2 bits, too. Any other value is a format's name without its bits. The rule also applies to the
    intermediate bits of a schedule that starts at ``start_bits``.

    Raises FormatError for bits other than 1, fractions between 1 and 2 (ternary), and whole numbers from 2 to 16.
    """
    if not (1 <= bits <= 2 or (2 < bits <= 16 and bits == int(bits))):
        raise FormatError(f"no weight format has {bits} bits; allowed: 1, 1.58, whole numbers from 2 to 16")
    if family not in _BY_BITS:
        return get_format(f"{family}{bits:g}")
    if bits == 1:
        return get_format("binary")
    if bits < 2 or (bits == 2 and symmetric and family != "integer"):
        return get_format("ternary")
    return get_format(f"int{int(bits)}" if symmetric else f"int{int(bits)}_asymmetric")


def _register_choices() -> None:
    """Import the modules of all formats that a config can name and register their ``FORMATS``, in order."""
    for choice in format_choices():
        if choice.module not in _MODULES:
            _MODULES.add(choice.module)
            for weight_format in importlib.import_module(choice.module).FORMATS:
                register_format(weight_format)
