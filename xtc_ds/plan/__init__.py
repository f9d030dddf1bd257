"""Resolve a config against a model, technique by technique, into a ``CompressionPlan``, without side effects."""

from __future__ import annotations

from xtc_ds.plan.make import CompressionPlan, plan_techniques
from xtc_ds.plan.planner import PlanContext, Planned, Planner
from xtc_ds.plan.report import plan_table, plan_to_dict
from xtc_ds.plan.rows import Row
from xtc_ds.plan.stack import LayerStack, even_layers, find_layer_stack

__all__ = [
    "CompressionPlan",
    "LayerStack",
    "PlanContext",
    "Planned",
    "Planner",
    "Row",
    "even_layers",
    "find_layer_stack",
    "plan_table",
    "plan_techniques",
    "plan_to_dict",
]
