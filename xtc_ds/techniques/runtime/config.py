"""The block's ``runtime``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import key
from xtc_ds.config.pieces import Piece
from xtc_ds.config.plain_sections import SettingsSection
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written

__all__ = ["RUNTIME", "BackwardDtype", "Runtime"]

BackwardDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Runtime(Piece):
    """How the model computes during training."""

    integer_forward: bool = key(
        "Multiply integer codes in the forward where weights have one scale per tensor or row and inputs are quantized "
        "symmetrically; false: multiply the floats that the codes stand for.",
        True,
        examples=(False,),
    )
    backward_dtype: BackwardDtype | None = key(
        "Type of the products of the backward of layers that multiply integer codes; bfloat16: the gradient is "
        "rounded, the codes stay exact, sums are taken in float32. null: the type of the training.",
        None,
        examples=("bfloat16",),
    )

    @classmethod
    def warn(cls, written: Written) -> Iterator[Finding]:
        """Warn about a ``backward_dtype`` without integer products."""
        if written["backward_dtype"] is not None and not written["integer_forward"]:
            what = f"has no effect while integer_forward is false; found {written.shown('backward_dtype')}"
            yield written.place("backward_dtype"), what


RUNTIME = register_section(
    SettingsSection[Runtime](
        name="runtime",
        piece=Runtime,
        title="the runtime",
        description="How the model computes while training; what it learns stays the same up to float rounding.",
        example={"backward_dtype": "bfloat16"},
    )
)
