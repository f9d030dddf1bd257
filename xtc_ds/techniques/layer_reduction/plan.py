"""Plan which layers of the stack are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from xtc_ds.errors import PlanError, Problem
from xtc_ds.plan.names import nearest
from xtc_ds.plan.stack import LayerStack, even_layers, find_layer_stack
from xtc_ds.techniques.layer_reduction.config import LayerReduction
from xtc_ds.techniques.layer_reduction.rows import ReductionRow
from xtc_ds.zero import full_shape

__all__ = ["modules_after", "plan_reduction", "taken_over"]


def plan_reduction(model: nn.Module, config: LayerReduction, teacher: nn.Module | None) -> ReductionRow:
    """Resolve the ``layer_reduction`` block against the model and, if there is one, its teacher.

    A model of the requested depth, given with a deeper teacher, is an already shallow student: the teacher's layers are
    copied into it. A model as deep as the teacher is cut in place. Raises PlanError.
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
    elif depth == teacher_depth:
        cut = True
    else:
        what = (
            f"the model has {depth} layers, the teacher {teacher_depth}, and {len(kept)} are to be kept; "
            f"give a model of {len(kept)} layers or one as deep as the teacher"
        )
        raise PlanError([Problem(config.path, what)])
    _check_other_modules(config, model)
    row = ReductionRow(stack.name, source, kept, cut, config.other_module_name)
    if cut:
        _check_like_layers(stack, kept, config.path)
    if teacher is not None and teacher is not model:
        _check_fits(model, row, teacher, config.path)
    return row


def modules_after(modules: dict[str, nn.Module], row: ReductionRow) -> dict[str, nn.Module]:
    """Name to module, in module order, without dropped layers and with kept ones renumbered."""
    if not row.cut:
        return modules
    prefix = f"{row.stack}."
    position = {old: new for new, old in enumerate(row.kept)}
    result: dict[str, nn.Module] = {}
    for name, module in modules.items():
        if not name.startswith(prefix):
            result[name] = module
            continue
        index, dot, rest = name[len(prefix) :].partition(".")
        if int(index) in position:
            result[f"{prefix}{position[int(index)]}{dot}{rest}"] = module
    return result


def taken_over(model: nn.Module, row: ReductionRow, teacher: nn.Module) -> Iterator[tuple[str, Tensor, str, Tensor]]:
    """(name, tensor, teacher's name, teacher's tensor) for all tensors that the student copies from the teacher.

    Names are those of the student after layers are dropped. Tensors that the teacher lacks are left out.
    """
    source = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    prefix = find_layer_stack(teacher, row.stack if _is_module(teacher, row.stack) else None).name
    persistent = set(model.state_dict(keep_vars=True))
    for name, target in [*model.named_parameters(), *model.named_buffers()]:
        origin = _origin(name, row, prefix)
        if name in persistent and origin is not None and origin in source:
            yield name, target, origin, source[origin]


def _origin(name: str, row: ReductionRow, teacher_stack: str) -> str | None:
    """The teacher's name for the student's tensor ``name``; None if it is not copied."""
    if name.startswith(f"{row.stack}."):
        index, _, rest = name[len(row.stack) + 1 :].partition(".")
        if int(index) >= len(row.kept):
            return None
        return f"{teacher_stack}.{row.kept[int(index)]}.{rest}"
    if row.other_modules is None or any(name.startswith(f"{other}.") for other in row.other_modules):
        return name
    return None


def _is_module(model: nn.Module, name: str) -> bool:
    return any(name == known for known, _ in model.named_modules())


def _check_like_layers(stack: LayerStack, kept: tuple[int, ...], path: str) -> None:
    """Raise PlanError unless each kept layer has the tensors of the one it replaces: T5's first layer has one more."""
    names = [{name for name, _ in layer.named_parameters()} for layer in stack.layers]
    for place, index in enumerate(kept):
        if differing := sorted(names[place] ^ names[index]):
            what = (
                f"layer {index} cannot take the place of layer {place} of {stack.name}: only one of them has "
                f"'{differing[0]}'; name the layers to keep in teacher_layer, layer {place} as number {place} of them"
            )
            raise PlanError([Problem(path, what)])


def _check_fits(model: nn.Module, row: ReductionRow, teacher: nn.Module, path: str) -> None:
    # A model that has not been cut yet has the teacher's layers under the same numbers.
    whole = replace(row, kept=tuple(range(row.depth))) if row.cut else row
    for name, target, origin, tensor in taken_over(model, whole, teacher):
        if full_shape(target) != full_shape(tensor):
            what = (
                f"'{name}' of the model has shape {full_shape(target)}, the teacher's '{origin}' {full_shape(tensor)}, "
                "so it cannot start from the teacher; give models of equal sizes, or name the modules beside the "
                "layers that fit in other_module_name"
            )
            raise PlanError([Problem(path, what)])


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
