"""The weight formats that a config can select by name: the facts that are needed without torch.

A new built-in format is a file in ``formats/`` and a line here. Another distribution registers its choices in a
function that it declares in the entry-point group ``xtc_ds.formats``.
"""

from __future__ import annotations

from dataclasses import dataclass

from xtc_ds.extensions import register_entry_points

__all__ = ["FORMAT_ENTRY_POINTS", "FormatChoice", "format_choice", "format_choices", "register_format_choice"]

FORMAT_ENTRY_POINTS = "xtc_ds.formats"


@dataclass(frozen=True)
class FormatChoice:
    """An allowed value of the config key ``format``.

    target_bits: the values of ``target_bits`` that it supports.
    module: the module with its ``FORMATS``, a tuple of weight formats; imported when a format is looked up by name.
    learned: whether the values of the codes are trained; then there is no grid for stochastic rounding.
    symmetric_only: whether asymmetric ``quantization_type`` is not supported.
    text: a sentence about it for the documentation of the key.
    keys: a frozen dataclass of additional keys of ``params``, made by ``xtc_ds.config.keys.key`` with scope "params".
    """

    name: str
    target_bits: tuple[float, ...]
    module: str
    symmetric_only: bool = False
    learned: bool = False
    text: str = ""
    keys: type | None = None


_CHOICES: dict[str, FormatChoice] = {}


def register_format_choice(choice: FormatChoice) -> None:
    """Add a format that configs can select."""
    assert choice.name not in _CHOICES, f"format '{choice.name}' is registered twice"
    _CHOICES[choice.name] = choice


def format_choice(name: str) -> FormatChoice | None:
    """The choice called ``name``; None for "auto" and unknown names."""
    return next((choice for choice in format_choices() if choice.name == name), None)


def format_choices() -> tuple[FormatChoice, ...]:
    """All choices; "auto", which selects one by ``target_bits``, is not among them."""
    register_entry_points(FORMAT_ENTRY_POINTS)
    return tuple(_CHOICES.values())


register_format_choice(FormatChoice("binary", (1,), "xtc_ds.formats.binary", symmetric_only=True))
register_format_choice(FormatChoice("ternary", (1.58, 2), "xtc_ds.formats.ternary", symmetric_only=True))
register_format_choice(FormatChoice("integer", tuple(range(2, 9)), "xtc_ds.formats.integer"))
register_format_choice(
    FormatChoice(
        "kmeans", tuple(range(1, 9)), "xtc_ds.formats.kmeans", symmetric_only=True, learned=True,
        text="kmeans, of 1 to 8 bits: a learned codebook that starts at the centroids of the weights.",
    )
)  # fmt: skip
