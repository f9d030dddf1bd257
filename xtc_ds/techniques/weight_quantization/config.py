"""The block's ``weight_quantization``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.json_value import Finding
from xtc_ds.config.keys import Old, key, keys_from
from xtc_ds.config.pieces import Group, module_patterns
from xtc_ds.config.section import register_section
from xtc_ds.config.written import Written
from xtc_ds.format_choices import format_choices
from xtc_ds.techniques.common_keys import QuantizationType, no_related_modules, quantization_type, schedule_offset
from xtc_ds.techniques.weight_quantization.checks import check_group, warn_group
from xtc_ds.techniques.weight_quantization.migrate import migrate_weights
from xtc_ds.techniques.weight_quantization.mixed_quantize import MixedQuantize
from xtc_ds.techniques.weight_quantization.moq import OLD_TOP_LEVEL, migrate_moq

__all__ = ["WEIGHT_QUANTIZATION", "Assignment", "Granularity", "Rounding", "WeightGroup"]

Assignment = Literal["fixed", "nearest"]
Granularity = Literal["auto", "tensor", "row"]
Rounding = Literal["nearest", "stochastic"]


def _formats() -> dict[str, str]:
    """Every value of the key ``format``, and its description."""
    return {"auto": "", **{choice.name: choice.text for choice in format_choices()}}


def _keys_of_formats() -> list[type]:
    return [choice.keys for choice in format_choices() if choice.keys is not None]


@dataclass(frozen=True, kw_only=True)
class WeightGroup(Group):
    """One group of ``weight_quantization``; bits are 1, 1.58 (ternary) or whole numbers.

    ``schedule_offset`` and ``quantization_period`` count applied optimizer steps. ``format_keys`` are the additional
    keys of all formats; in the config and as attributes they are on the same level as the other keys.
    """

    modules: tuple[str, ...] = module_patterns("that can be quantized")
    start_bits: float = key(
        "Bits when the technique starts; at least target_bits. Equal to target_bits: no schedule.",
        scope="params",
        examples=(8, 1),
        enum=[1, 1.58, *range(2, 17)],
        allowed="1, 1.58 or an integer from 2 to 16",
        old=Old(),
    )
    target_bits: float = key(
        "Bits at the end of the schedule and in the exported file. 1: binary; 1.58 (or 2, symmetric): ternary; "
        "otherwise integers.",
        scope="params",
        examples=(1, 8),
        enum=[1, 1.58, *range(2, 9)],
        allowed="1, 1.58 or an integer from 2 to 8",
        old=Old(),
        aliases=("bits", "num_bits", "w_bits"),
    )
    quantization_period: int = key(
        "Applied optimizer steps until the first bit is dropped; the period doubles with each bit. 0 drops one bit per "
        "step. No effect if start_bits equals target_bits.",
        1,
        scope="params",
        examples=(0, 50),
        minimum=0,
        old=Old(),
    )
    format: str = key(
        "How a weight is coded. auto follows target_bits: 1 binary, 1.58 ternary, 2 ternary if symmetric and else "
        "integer, 3 to 8 integer.",
        "auto",
        scope="params",
        examples=("integer",),
        choices=_formats,
        value_aliases={"binarization": "binary", "ternarization": "ternary"},
    )
    assignment: Assignment = key(
        "For formats that learn what codes stand for. fixed: weights keep the codes that they get when the technique "
        "starts, and only the codebook is trained. nearest: each forward takes the nearest value, and weights are "
        "trained along.",
        "fixed",
        scope="params",
        examples=("fixed", "nearest"),
    )
    format_keys: tuple[Any, ...] = keys_from(_keys_of_formats)
    schedule_offset: int = schedule_offset(0, examples=(0, 1000))
    quantize_groups: int = key(
        "Number of equal contiguous groups of the row-major flattened weight; each has its own scale. Must divide the "
        "number of weights. An embedding has one scale per row instead, unless granularity says otherwise.",
        1,
        examples=(1, 64),
        minimum=1,
        old=Old(group_ignored=True),
        aliases=("groups", "num_groups"),
    )
    quantization_type: QuantizationType = quantization_type()
    granularity: Granularity = key(
        "What shares a scale. tensor: the flattened weight, cut into quantize_groups. row: each output feature (or "
        "embedding row) by itself. auto: row for embeddings, tensor for the rest.",
        "auto",
        examples=("row",),
        value_aliases={"channel": "row", "per_channel": "row"},
    )
    quantize_weight_in_forward: bool = key(
        "Kept for old configs. Both values train alike here, in every precision and ZeRO stage: the forward uses the "
        "quantized weights, the optimizer holds the latent ones, and the bits fall from start_bits to target_bits. The "
        "old library with true used target_bits at once and left out rounding and fp16_mixed_quantize; with false "
        "(MoQ) it also cut embeddings into quantize_groups, where here an embedding keeps one scale per row unless "
        "granularity says otherwise.",
        False,
        scope="shared",
        examples=(True,),
        old=Old(),
    )
    rounding: Rounding = key(
        "Rounding to the grid while training. stochastic: up or down at random, in proportion to the distance, with "
        "random numbers that follow from the module and the step; no effect on binary and ternary weights. Evaluation "
        "and the exported file round to the nearest.",
        "nearest",
        examples=("nearest", "stochastic"),
        old=Old(group_ignored=True),
    )
    quantizer_kernel: bool = key(
        "Kept for old configs; has no effect.", False, scope="shared", examples=(False,), no_effect=True, old=Old()
    )
    quantize_verbose: bool = key(
        "Kept for old configs; has no effect.", False, scope="shared", examples=(False,), no_effect=True, old=Old()
    )
    fp16_mixed_quantize: MixedQuantize = key(
        "Mixing of real and quantized weights while training: the forward uses r * w + (1 - r) * Q(w), where r starts "
        "at 1 and falls; each change of the bits sets it back to 1. Works in every precision.",
        MixedQuantize(),
        examples=({"enabled": True, "quantize_change_ratio": 0.01},),
        old=Old(group_ignored=True, default={"enabled": False}),
    )
    related_modules: None = no_related_modules()

    @property
    def quantize_change_ratio(self) -> float | None:
        """How fast the share of float weights falls; None without mixing."""
        mixing = self.fp16_mixed_quantize
        return mixing.quantize_change_ratio if mixing.enabled else None

    @classmethod
    def check(cls, written: Written) -> Iterable[Finding]:
        """Report bits that do not fit each other, the format, the type or the granularity."""
        return check_group(written)

    @classmethod
    def warn(cls, written: Written) -> Iterable[Finding]:
        """Warn about keys without effect, and keys that the old library ignored in its forward mode."""
        return warn_group(written)


_PARAMS = {"start_bits": 8, "target_bits": 8}

WEIGHT_QUANTIZATION = register_section(
    GroupedSection[WeightGroup](
        name="weight_quantization",
        piece=WeightGroup,
        title="weight quantization",
        description="Weights of linear and embedding layers in few bits.",
        group_text="One group of modules with its bits.",
        params_text="Bits and format of this group; other keys override shared_parameters.",
        params_example={"start_bits": 1, "target_bits": 1},
        group_example={"params": _PARAMS, "modules": ["*"]},
        example={
            "shared_parameters": {"enabled": True},
            "different_groups": {"g1": {"params": _PARAMS, "modules": ["*"]}},
        },
        block_examples=(
            {
                "weight_quantization": {
                    "shared_parameters": {"enabled": True},
                    "different_groups": {"all": {"params": _PARAMS, "modules": ["*"]}},
                },
                "kd": {"enabled": True},
            },
        ),
        definition="weight_group",
        old=True,
        old_top_level=OLD_TOP_LEVEL,
        migrate=migrate_weights,
        migrate_top_level=migrate_moq,
    )
)
