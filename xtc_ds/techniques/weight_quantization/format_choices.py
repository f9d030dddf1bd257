"""The weight formats that a group can ask for by name, as far as a config has to know them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FormatChoice", "format_choices", "formats_for", "register_format_choice"]


@dataclass(frozen=True)
class FormatChoice:
    """A value of the key ``format``.

    target_bits: what it can code. symmetric_only: whether an asymmetric ``quantization_type`` does not fit it.
    text: a sentence about it for the documentation of the key.
    """

    name: str
    target_bits: tuple[float, ...]
    symmetric_only: bool = False
    text: str = ""


_CHOICES: dict[str, FormatChoice] = {}


def register_format_choice(choice: FormatChoice) -> None:
    """Let configs ask for a format."""
    assert choice.name not in _CHOICES, f"format '{choice.name}' is registered twice"
    _CHOICES[choice.name] = choice


def format_choices() -> dict[str, str]:
    """Every value of the key ``format``, with what its documentation adds."""
    return {"auto": "", **{name: choice.text for name, choice in _CHOICES.items()}}


def formats_for(target_bits: float) -> list[FormatChoice]:
    """The formats that can code ``target_bits``."""
    return [choice for choice in _CHOICES.values() if target_bits in choice.target_bits]


register_format_choice(FormatChoice("binary", (1,), symmetric_only=True))
register_format_choice(FormatChoice("ternary", (1.58, 2), symmetric_only=True))
register_format_choice(FormatChoice("integer", tuple(range(2, 9))))
