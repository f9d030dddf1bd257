"""Which layers of the stack stay."""

from __future__ import annotations

from torch import nn

from xtc_ds.config import LayerReduction
from xtc_ds.errors import PlanError, Problem
from xtc_ds.plan.names import nearest
from xtc_ds.plan.rows import ReductionRow
from xtc_ds.plan.stack import even_layers, find_layer_stack

__all__ = ["plan_reduction"]


def plan_reduction(model: nn.Module, config: LayerReduction, teacher: nn.Module | None) -> ReductionRow:
    """Resolve the ``layer_reduction`` block against the model and, if there is one, its teacher.

    A model as deep as the block asks for, beside a deeper teacher, is a student built already: it takes
    the teacher's layers. A deeper model is cut in place. Raises PlanError.
    """
    stack = find_layer_stack(model, config.module_name_prefix, config.path)
    depth = len(stack.layers)
    teacher_depth = depth
    if teacher is not None:
        teacher_depth = len(find_layer_stack(teacher, config.module_name_prefix, config.path).layers)
    source = max(depth, teacher_depth)
    kept = _kept_layers(config, source)
    if len(kept) == depth and source > depth:
        cut = False
    elif depth == source:
        cut = True
    else:
        what = (
            f"the model has {depth} layers, the teacher {teacher_depth}, and {len(kept)} are to be kept; "
            f"give a model of {len(kept)} layers or one as deep as the teacher"
        )
        raise PlanError([Problem(config.path, what)])
    _check_other_modules(config, model)
    return ReductionRow(stack.name, source, kept, cut, config.other_module_name)


def _kept_layers(config: LayerReduction, depth: int) -> tuple[int, ...]:
    if config.teacher_layer is not None:
        if config.teacher_layer[-1] >= depth:
            what = f"layer {config.teacher_layer[-1]} does not exist; the model has layers 0 to {depth - 1}"
            raise PlanError([Problem(f"{config.path}.teacher_layer", what)])
        return config.teacher_layer
    if config.keep_number_layer is not None:
        keep, key = config.keep_number_layer, "keep_number_layer"
    else:
        assert config.keep_ratio is not None
        keep, key = max(1, round(depth * config.keep_ratio)), "keep_ratio"
    if keep > depth:
        raise PlanError([Problem(f"{config.path}.{key}", f"cannot keep {keep} of the model's {depth} layers")])
    return even_layers(depth, keep)


def _check_other_modules(config: LayerReduction, model: nn.Module) -> None:
    names = {name for name, _ in model.named_modules()}
    problems = [
        Problem(
            f"{config.path}.other_module_name[{i}]",
            f"the model has no module '{name}'; nearest: {nearest(name, names) or 'none'}",
        )
        for i, name in enumerate(config.other_module_name or ())
        if name not in names
    ]
    if problems:
        raise PlanError(problems)
