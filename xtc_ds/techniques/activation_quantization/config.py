"""The block's ``activation_quantization``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xtc_ds.config.grouped_section import GroupedSection
from xtc_ds.config.keys import Old, key
from xtc_ds.config.pieces import Group, module_patterns
from xtc_ds.config.section import register_section
from xtc_ds.techniques.common_keys import QuantizationType, no_related_modules, quantization_type, schedule_offset

__all__ = ["ACTIVATION_QUANTIZATION", "ActivationGroup", "RangeCalibration"]

RangeCalibration = Literal["dynamic", "static"]


@dataclass(frozen=True, kw_only=True)
class ActivationGroup(Group):
    """One group of ``activation_quantization``: the inputs of the matched layers are quantized to ``bits`` bits."""

    modules: tuple[str, ...] = module_patterns("that can be quantized")
    bits: int = key(
        "Bits of the layer inputs.",
        scope="params",
        examples=(8,),
        enum=[4, 8],
        old=Old(),
        aliases=("num_bits", "a_bits"),
    )
    schedule_offset: int = schedule_offset(1000, examples=(0, 1000))
    quantization_type: QuantizationType = quantization_type()
    range_calibration: RangeCalibration = key(
        "dynamic: a range per token, measured in each forward. static: one range per layer, a moving average seen in "
        "training and stored in the checkpoint.",
        "dynamic",
        examples=("dynamic",),
        old=Old(group_ignored=True, documented="static"),
        aliases=("calibration",),
    )
    related_modules: None = no_related_modules()


_GROUP = {"params": {"bits": 8}, "modules": ["*"]}

ACTIVATION_QUANTIZATION = register_section(
    GroupedSection[ActivationGroup](
        name="activation_quantization",
        piece=ActivationGroup,
        title="activation quantization",
        description="Inputs of linear layers in few bits.",
        group_text="One group of modules with its bits.",
        params_text="Bits of this group; other keys override shared_parameters.",
        params_example={"bits": 8},
        group_example=_GROUP,
        example={"shared_parameters": {"enabled": True}, "different_groups": {"g1": _GROUP}},
        definition="activation_group",
        old=True,
    )
)
