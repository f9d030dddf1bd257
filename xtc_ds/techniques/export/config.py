"""The block's ``export``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xtc_ds.config.keys import key
from xtc_ds.config.pieces import Piece
from xtc_ds.config.plain_sections import SettingsSection
from xtc_ds.config.section import register_section

__all__ = ["EXPORT", "Export", "FloatDtype"]

FloatDtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Export(Piece):
    """How the packed checkpoint stores tensors that are not quantized (biases, norms) and scales."""

    float_dtype: FloatDtype = key(
        "Type of everything that stays a float: biases, norms, scales, unmatched weights.",
        "float32",
        examples=("float16",),
    )


EXPORT = register_section(
    SettingsSection[Export](
        name="export",
        piece=Export,
        title="the export",
        description="How the packed checkpoint is written.",
        example={"float_dtype": "float16"},
    )
)
