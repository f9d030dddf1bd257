"""``make_plan`` and ``compress``: make a plan, then rewrite the model in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from xtc_ds.compression_state import update_state
from xtc_ds.config import CompressionConfig, load_config
from xtc_ds.layers import compressed_layers, set_step
from xtc_ds.origins import origins
from xtc_ds.plan import CompressionPlan, plan_techniques
from xtc_ds.techniques.registry import techniques

__all__ = ["apply_plan", "compress", "make_plan"]


def make_plan(model: nn.Module, config: CompressionConfig, teacher: nn.Module | None = None) -> CompressionPlan:
    """Resolve every pattern of ``config`` against ``model``. Neither is changed; meta and ZeRO-3 models are allowed.

    Raises PlanError with all problems at once: a pattern that matches nothing, a module in two groups, a
    group count that does not divide the rows, a module that must not be compressed, tied weights treated differently.
    """
    return plan_techniques(techniques(), model, config, teacher)


def compress(
    model: nn.Module,
    config: CompressionConfig | Mapping[str, Any] | str | os.PathLike[str],
    teacher: nn.Module | None = None,
) -> CompressionPlan:
    """Compress ``model`` in place as configured and return the plan that was carried out.

    config: a DeepSpeed config with a ``compression_training`` block (dict, JSON or HJSON file), or the
        parsed block.
    teacher: the model from which layer reduction copies weights; by default the model itself.

    Raises ConfigError or PlanError, listing every problem, before anything is changed.
    """
    parsed = config if isinstance(config, CompressionConfig) else load_config(config)[1]
    plan = make_plan(model, parsed, teacher)
    apply_plan(model, plan, teacher)
    return plan


def apply_plan(model: nn.Module, plan: CompressionPlan, teacher: nn.Module | None = None) -> None:
    """Carry out a plan made for this model, in place; its schedules are at step 0 afterwards."""
    for technique in techniques():
        if rows := plan.rows.get(technique.name):
            technique.apply(model, rows, teacher)
    runtime = plan.config.runtime
    for _, layer in compressed_layers(model):
        layer.integer_forward = runtime.integer_forward
        layer.backward_dtype = getattr(torch, runtime.backward_dtype) if runtime.backward_dtype else None
    set_step(model, 0)
    about = {"original_bytes": plan.sizes.original, **origins(model, teacher)}
    update_state(model, float_dtype=plan.config.export.float_dtype, about=about)
