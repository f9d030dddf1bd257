"""Pure resolution of a config against a model: ``make_plan(model, config) -> CompressionPlan``."""

from __future__ import annotations

from xtc_ds.plan.make import CompressionPlan, make_plan
from xtc_ds.plan.report import plan_table, plan_to_dict
from xtc_ds.plan.rows import ActivationRow, ReductionRow, RelatedRow, SparseRow, StructuredRow, WeightRow
from xtc_ds.plan.schedule import BitSchedule, bits_at
from xtc_ds.plan.stack import LayerStack, even_layers, find_layer_stack

__all__ = [
    "ActivationRow",
    "BitSchedule",
    "CompressionPlan",
    "LayerStack",
    "ReductionRow",
    "RelatedRow",
    "SparseRow",
    "StructuredRow",
    "WeightRow",
    "bits_at",
    "even_layers",
    "find_layer_stack",
    "make_plan",
    "plan_table",
    "plan_to_dict",
]
