"""Plan which layer inputs are quantized, and how."""

from __future__ import annotations

from xtc_ds.formats import ActivationFormat
from xtc_ds.layer_kinds import kind_of, kinds_with
from xtc_ds.plan.matcher import match_groups
from xtc_ds.plan.planner import PlanContext, Planned
from xtc_ds.techniques.activation_quantization.config import ActivationGroup
from xtc_ds.techniques.activation_quantization.rows import ActivationRow

__all__ = ["plan_activations"]


def plan_activations(context: PlanContext) -> Planned:
    """A row for each module that a group matches."""
    groups: tuple[ActivationGroup, ...] = context.section
    owner, problems, warnings = match_groups(groups, context.modules, kinds_with("linear", "convolution"))
    result = Planned([], problems, warnings)
    for name, group in owner.items():
        if (kind := kind_of(context.modules[name])) is None:
            continue  # reported by the matcher
        symmetric = group.quantization_type == "symmetric"
        activation_format = ActivationFormat(group.bits, symmetric, group.range_calibration)
        result.rows.append(ActivationRow(name, kind, group.name, activation_format, group.schedule_offset))
    return result
