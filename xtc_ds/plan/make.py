"""Make a plan from a model and a config. Everything that can be refused is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import PlanError, Problem
from xtc_ds.plan.changes import coded_rows, module_changes
from xtc_ds.plan.merge_problems import merge_problems
from xtc_ds.plan.planner import PlanContext, Planner
from xtc_ds.plan.rows import Row
from xtc_ds.plan.sizes import Sizes, count_sizes
from xtc_ds.plan.stored import storage_problems

__all__ = ["CompressionPlan", "plan_techniques"]


@dataclass(frozen=True)
class CompressionPlan:
    """Everything that will be done to one model.

    rows: technique name to its rows in module order; techniques are in the order in which they are applied. Techniques
    that the config does not use have no rows. empty_report: entries of the JSON plan for techniques without rows.
    """

    config: CompressionConfig
    rows: Mapping[str, tuple[Row, ...]]
    sizes: Sizes
    warnings: tuple[Problem, ...]
    empty_report: Mapping[str, Any]

    def all_rows(self) -> tuple[Row, ...]:
        """The rows of all techniques, in the order of application."""
        return tuple(row for rows in self.rows.values() for row in rows)

    @property
    def reduction(self) -> Any:
        """The row of ``layer_reduction``, or None."""
        return next(iter(self.rows.get("layer_reduction", ())), None)

    @property
    def weights(self) -> tuple[Any, ...]:
        """The rows of ``weight_quantization``."""
        return self.rows.get("weight_quantization", ())

    @property
    def activations(self) -> tuple[Any, ...]:
        """The rows of ``activation_quantization``."""
        return self.rows.get("activation_quantization", ())

    @property
    def sparse(self) -> tuple[Any, ...]:
        """The rows of ``sparse_pruning``."""
        return self.rows.get("sparse_pruning", ())

    @property
    def structured(self) -> tuple[Any, ...]:
        """The rows of ``row_pruning``, ``head_pruning`` and ``channel_pruning``."""
        names = ("row_pruning", "head_pruning", "channel_pruning")
        return tuple(row for name in names for row in self.rows.get(name, ()))


def plan_techniques(
    techniques: Sequence[Planner], model: nn.Module, config: CompressionConfig, teacher: nn.Module | None = None
) -> CompressionPlan:
    """Resolve every pattern of ``config`` against ``model``. Neither is changed; meta and ZeRO-3 models are allowed.

    techniques: in the order in which they are to be applied.

    Raises PlanError with all problems at once: a pattern that matches nothing, a module in two groups, a
    group count that does not divide the rows, a module that must not be compressed, tied weights treated differently.
    """
    before = dict(model.named_modules())
    used = [technique for technique in techniques if technique.section(config)]
    problems = _conflicts(used)
    warnings: list[Problem] = []
    context = PlanContext(model, before, config, None, teacher, {})
    for technique in used:
        planned = technique.plan(replace(context, section=technique.section(config)))
        problems += planned.problems
        warnings += planned.warnings
        rows = {**context.rows, technique.name: tuple(planned.rows)}
        context = replace(context, rows=rows, modules=planned.modules or context.modules)
    for technique in used:
        own = replace(context, section=technique.section(config))
        problems += technique.check(context.rows[technique.name], own)
    all_rows = [row for rows in context.rows.values() for row in rows]
    problems += storage_problems(coded_rows(all_rows), module_changes(all_rows))
    if problems:
        raise PlanError(merge_problems(problems, context.modules))
    sizes = count_sizes(before, context.modules, all_rows, config.export.float_dtype)
    remarks = (*config.warnings, *merge_problems(warnings, context.modules))
    empty_report = {key: value for technique in techniques for key, value in technique.empty_report.items()}
    return CompressionPlan(config, context.rows, sizes, remarks, empty_report)


def _conflicts(used: Sequence[Planner]) -> list[Problem]:
    names = {technique.name for technique in used}
    return [
        Problem(f"compression_training.{technique.name}", f"cannot be used together with {other}; disable one of them")
        for technique in used
        for other in technique.conflicts
        if other in names
    ]
