"""Resolution of the pruning groups against a model: which weights are pruned, and what shrinks along with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from xtc_ds.config import CompressionConfig
from xtc_ds.errors import Problem
from xtc_ds.layer_kinds import Operation, kind_of, kinds_with, weight_shape
from xtc_ds.plan.matcher import match_groups
from xtc_ds.plan.pruning_ties import check_pruning_ties
from xtc_ds.plan.related import Related, resolve_related
from xtc_ds.plan.rows import SparseRow, StructuredRow
from xtc_ds.pruning import kept_count, parse_pattern
from xtc_ds.techniques.head_pruning.config import HeadGroup
from xtc_ds.techniques.pruning.structured_config import StructuredGroup
from xtc_ds.techniques.sparse_pruning.config import SparseGroup

__all__ = ["PlannedPrunings", "plan_prunings"]

Technique = Literal["row", "head", "channel"]

# Which layers each takes.
_SPARSE_OPERATIONS: tuple[Operation, ...] = ("linear", "convolution")
_OPERATIONS: dict[Technique, Operation] = {"row": "linear", "head": "linear", "channel": "convolution"}


@dataclass
class PlannedPrunings:
    """Rows in module order by technique, what went wrong and what is remarkable."""

    sparse: list[SparseRow] = field(default_factory=list)
    structured: list[StructuredRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def plan_prunings(config: CompressionConfig, modules: dict[str, nn.Module]) -> PlannedPrunings:
    """All pruning of ``config``; ``modules`` are those of the model by name, after layers are dropped."""
    result = PlannedPrunings()
    _plan_sparse(config, modules, result)
    _plan_structured("row", config.row_pruning, config, modules, result)
    _plan_structured("head", config.head_pruning, config, modules, result)
    _plan_structured("channel", config.channel_pruning, config, modules, result)
    result.problems += check_pruning_ties(result.sparse, result.structured, modules)
    return result


def _plan_sparse(config: CompressionConfig, modules: dict[str, nn.Module], result: PlannedPrunings) -> None:
    kinds = kinds_with(*_SPARSE_OPERATIONS)
    owner, problems, warnings = match_groups(config.sparse_pruning, modules, kinds)
    result.problems += problems
    result.warnings += warnings
    for name, group in owner.items():
        assert isinstance(group, SparseGroup)
        kind = kind_of(modules[name])
        if kind is None or kind not in kinds:
            continue  # reported by the matcher
        shape = weight_shape(modules[name])
        if reason := parse_pattern(group.block_pattern).misfit(shape):
            what = f"'{group.block_pattern}' does not fit '{name}' of shape {shape}: {reason}; "
            remedy = "choose another block_pattern for it, or exclude it"
            place = _key_path(config, "sparse_pruning", group, "block_pattern")
            result.problems.append(Problem(place, what + remedy))
            continue
        gradual = group.method == "snip_momentum" and group.schedule_offset_end is not None
        end = group.schedule_offset_end if gradual else group.schedule_offset
        assert end is not None
        row = SparseRow(
            name, kind, group.name, shape, group.method, group.dense_ratio, group.block_pattern,
            group.schedule_offset, end, group.schedule_offset_stride,
        )  # fmt: skip
        result.sparse.append(row)


def _plan_structured(
    technique: Technique,
    groups: tuple[StructuredGroup, ...],
    config: CompressionConfig,
    modules: dict[str, nn.Module],
    result: PlannedPrunings,
) -> None:
    kinds = kinds_with(_OPERATIONS[technique])
    owner, problems, warnings = match_groups(groups, modules, kinds)
    result.problems += problems
    result.warnings += warnings
    for group in groups:
        names = [n for n, of in owner.items() if of is group and kind_of(modules[n]) in kinds]
        related = resolve_related(technique, group, names, modules)
        result.problems += related.problems
        for name in names:
            _plan_module(technique, name, group, related, config, modules, result)


def _plan_module(
    technique: Technique,
    name: str,
    group: StructuredGroup,
    related: Related,
    config: CompressionConfig,
    modules: dict[str, nn.Module],
    result: PlannedPrunings,
) -> None:
    kind = kind_of(modules[name])
    assert kind is not None
    shape = weight_shape(modules[name])
    units = shape[0]
    if technique == "head":
        assert isinstance(group, HeadGroup)
        units = group.num_heads
        if shape[1] % units:
            place = _key_path(config, "head_pruning", group, "num_heads")
            divisors = _divisors(shape[1])
            what = f"{units} heads do not divide the {shape[1]} inputs of '{name}'; "
            result.problems.append(Problem(place, f"{what}allowed: the model's number of heads, one of {divisors}"))
            return
    kept = kept_count(group.dense_ratio, units)
    if kept == units and group.dense_ratio < 1:
        part = f"{group.dense_ratio} of {units} {technique}s of '{name}' rounds up to all of them; nothing is pruned"
        result.warnings.append(Problem(f"{group.path}.params.dense_ratio", part))
    rows = related.by_module.get(name, ())
    result.structured.append(
        StructuredRow(name, kind, group.name, technique, shape, group.method, units, kept, group.schedule_offset, rows)
    )


def _key_path(config: CompressionConfig, technique: str, group: SparseGroup | StructuredGroup, key: str) -> str:
    """Where the value in force stands: in the group, or in the shared parameters."""
    block = config.raw.get(technique, {})
    params = block.get("different_groups", {}).get(group.name, {}).get("params", {})
    shared = block.get("shared_parameters", {})
    # The group that snip_momentum makes of the shared keys has no params.
    if key not in params and (key in shared or group.path.endswith(".shared_parameters")):
        return f"compression_training.{technique}.shared_parameters.{key}"
    return f"{group.path}.params.{key}"


def _divisors(size: int) -> str:
    found: Sequence[int] = [n for n in range(1, size + 1) if size % n == 0]
    return ", ".join(map(str, found[:12])) + (", ..." if len(found) > 12 else "")
