"""From a model and a config to a plan: everything that can be refused is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import FormatError, PlanError, Problem
from xtc_ds.formats import ActivationFormat, Grouping
from xtc_ds.layer_kinds import kind_of, kinds_with, weight_shape
from xtc_ds.plan.alike import merge_alike
from xtc_ds.plan.matcher import match_groups
from xtc_ds.plan.pruning import plan_prunings
from xtc_ds.plan.reduction import plan_reduction
from xtc_ds.plan.rows import ActivationRow, ReductionRow, SparseRow, StructuredRow, WeightRow
from xtc_ds.plan.schedule import BitSchedule
from xtc_ds.plan.shrink import pruned_modules
from xtc_ds.plan.sizes import Sizes, count_sizes
from xtc_ds.plan.stored import storage_problems
from xtc_ds.plan.view import named_modules_after
from xtc_ds.techniques.activation_quantization.config import ActivationGroup
from xtc_ds.techniques.weight_quantization.config import WeightGroup

__all__ = ["CompressionPlan", "make_plan"]


@dataclass(frozen=True)
class CompressionPlan:
    """All that will be done to one model. ``weights`` and ``activations`` are in module order."""

    config: CompressionConfig
    reduction: ReductionRow | None
    weights: tuple[WeightRow, ...]
    activations: tuple[ActivationRow, ...]
    sizes: Sizes
    warnings: tuple[Problem, ...]
    sparse: tuple[SparseRow, ...] = ()
    structured: tuple[StructuredRow, ...] = ()


def make_plan(model: nn.Module, config: CompressionConfig, teacher: nn.Module | None = None) -> CompressionPlan:
    """Resolve every pattern of ``config`` against ``model``. Neither is touched; meta and ZeRO-3 models will do.

    Raises PlanError with all problems at once: a pattern that matches nothing, a module in two groups, a
    group count that does not divide, a module that must not be compressed, tied weights treated unequally.
    """
    reduction = plan_reduction(model, config.layer_reduction, teacher) if config.layer_reduction else None
    modules = named_modules_after(model, reduction)
    problems: list[Problem] = []
    warnings = list(config.warnings)
    weights, found, remarks = _weight_rows(config.weight_quantization, modules)
    problems += found + _check_ties(weights, modules)
    warnings += remarks
    activations, found, remarks = _activation_rows(config.activation_quantization, modules)
    problems += found
    warnings += remarks
    prunings = plan_prunings(config, modules)
    problems += prunings.problems
    warnings += merge_alike(prunings.warnings, modules)
    sparse, structured = tuple(prunings.sparse), tuple(prunings.structured)
    pruned = pruned_modules(sparse, structured)
    problems += storage_problems(weights, pruned)
    if problems:
        raise PlanError(merge_alike(problems, modules))
    before = dict(model.named_modules())
    ranges = tuple(row.module for row in activations if row.format.calibration == "static")
    sizes = count_sizes(before, modules, tuple(weights), config.export.float_dtype, ranges, pruned)
    return CompressionPlan(
        config, reduction, tuple(weights), tuple(activations), sizes, tuple(warnings), sparse, structured
    )


def _weight_rows(
    groups: tuple[WeightGroup, ...], modules: dict[str, nn.Module]
) -> tuple[list[WeightRow], list[Problem], list[Problem]]:
    owner, problems, warnings = match_groups(groups, modules, kinds_with("linear", "embedding", "convolution"))
    rows = []
    for name, group in owner.items():
        assert isinstance(group, WeightGroup)
        if (kind := kind_of(modules[name])) is None:
            continue  # reported by the matcher
        shape = weight_shape(modules[name])
        schedule = BitSchedule(group.schedule_offset, group.start_bits, group.target_bits, group.quantization_period)
        symmetric = group.quantization_type == "symmetric"
        grouping = _grouping(group, kind in kinds_with("embedding"))
        try:
            grouping.count(shape)
        except FormatError as error:
            problems.append(Problem(f"{group.path}.params.quantize_groups", f"'{name}': {error}"))
            continue
        row = WeightRow(
            name, kind, group.name, shape, schedule, grouping, symmetric, group.format, group.rounding,
            group.quantize_change_ratio,
        )  # fmt: skip
        rows.append(row)
    return rows, problems, warnings


def _grouping(group: WeightGroup, is_table: bool) -> Grouping:
    # DeepSpeed ignores quantize_groups on embeddings: a token's row always has a scale of its own.
    if group.granularity == "row" or (is_table and group.granularity == "auto"):
        return Grouping("row")
    if group.quantize_groups == 1:
        return Grouping("tensor")
    return Grouping("group", group.quantize_groups)


def _activation_rows(
    groups: tuple[ActivationGroup, ...], modules: dict[str, nn.Module]
) -> tuple[list[ActivationRow], list[Problem], list[Problem]]:
    owner, problems, warnings = match_groups(groups, modules, kinds_with("linear", "convolution"))
    rows = []
    for name, group in owner.items():
        assert isinstance(group, ActivationGroup)
        if (kind := kind_of(modules[name])) is None:
            continue
        activation_format = ActivationFormat(
            group.bits, group.quantization_type == "symmetric", group.range_calibration
        )
        rows.append(ActivationRow(name, kind, group.name, activation_format, group.schedule_offset))
    return rows, problems, warnings


def _check_ties(rows: Sequence[WeightRow], modules: dict[str, nn.Module]) -> list[Problem]:
    """A parameter used by several modules can be stored once only if all of them read it the same way."""
    by_name = {row.module: row for row in rows}
    users: dict[int, list[str]] = {}
    for name, module in modules.items():
        weight = module._parameters.get("weight")
        if weight is not None and kind_of(module):
            users.setdefault(id(weight), []).append(name)
    problems = []
    for names in users.values():
        treatments = {_treatment(by_name.get(name)) for name in names}
        if len(treatments) > 1:
            what = f"{' and '.join(names)} share one weight but are not quantized alike; "
            remedy = "put both into one group with granularity 'row', or exclude both"
            problems.append(Problem("compression_training.weight_quantization", what + remedy))
    return problems


def _treatment(row: WeightRow | None) -> object:
    if row is None:
        return None
    return (row.schedule, row.grouping, row.symmetric, row.family, row.rounding, row.change_ratio)
