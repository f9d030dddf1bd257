"""``student_initialization``: initialize a shallow student from layers of its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from xtc_ds.config import load_config, read_config
from xtc_ds.config.locate import BLOCK
from xtc_ds.errors import ConfigError, PlanError, Problem
from xtc_ds.freezing.freeze import unwrap
from xtc_ds.layers import CompressedLayer
from xtc_ds.techniques.layer_reduction.apply import copy_from_teacher
from xtc_ds.techniques.layer_reduction.plan import plan_reduction
from xtc_ds.techniques.layer_reduction.rows import ReductionRow

__all__ = ["check_same_tensors", "student_initialization"]


def student_initialization(student_model: Any, teacher_model: Any, deepspeed_config: Any) -> None:
    """Copy the teacher's selected layers and modules into a student that already has the reduced depth, in place.

    deepspeed_config: dict or path; only its ``layer_reduction`` block is read, even if it is disabled. Parameters and
        buffers are copied; those that ZeRO-3 partitions are gathered, so then all ranks have to call this.

    Raises ConfigError or PlanError (depth, shapes, names of tensors) before anything is copied.
    """
    student, teacher = unwrap(student_model), unwrap(teacher_model)
    block = read_config(deepspeed_config).get(BLOCK)
    reduction = block.get("layer_reduction") if isinstance(block, Mapping) else None
    if not isinstance(reduction, Mapping):
        raise ConfigError([Problem(f"{BLOCK}.layer_reduction", "missing; student_initialization needs it")])
    config = load_config({BLOCK: {"layer_reduction": {**reduction, "enabled": True}}})[1].layer_reduction
    assert config is not None
    row = plan_reduction(student, config, teacher)
    if row.cut and len(row.kept) < row.depth:
        what = (
            f"the student has {row.depth} layers, {len(row.kept)} are to be kept; build it with as many, or "
            " let init_compression cut it"
        )
        raise PlanError([Problem(config.path, what)])
    check_same_tensors(student, row, teacher)
    if student is not teacher:
        copy_from_teacher(student, row, teacher)


def check_same_tensors(student: nn.Module, row: ReductionRow, teacher: nn.Module) -> None:
    """Raise PlanError unless the student's layers and ``other_module_name`` modules have the teacher's parameters."""
    depth = range(len(row.kept)) if not row.cut else range(row.depth)
    origins = row.kept if not row.cut else tuple(depth)
    pairs = [(f"{row.stack}.{i}", f"{row.stack}.{origin}") for i, origin in zip(depth, origins, strict=True)]
    pairs += [(name, name) for name in row.other_modules or ()]
    problems = []
    for ours, theirs in pairs:
        # The teacher's stack has another name and was matched by its shape; the copy handles that.
        if not _has(teacher, theirs):
            if ours == theirs:
                problems.append(Problem(ours, "the teacher has no such module"))
            continue
        differing = _parameters(student.get_submodule(ours)) ^ _parameters(teacher.get_submodule(theirs))
        if differing:
            what = f"only one of it and the teacher's {theirs} has '{sorted(differing)[0]}'"
            problems.append(Problem(ours, f"{what}; give models of one architecture"))
    if problems:
        raise PlanError(problems)


def _has(model: nn.Module, name: str) -> bool:
    return any(name == known for known, _ in model.named_modules())


def _parameters(module: nn.Module) -> set[str]:
    """Names of the parameters, without those that compression added (mask scores)."""
    layers = {name for name, layer in module.named_modules() if isinstance(layer, CompressedLayer)}
    names = (name for name, _ in module.named_parameters())
    return {n for n in names if n.rpartition(".")[0] not in layers or n.rpartition(".")[2] in ("weight", "bias")}
