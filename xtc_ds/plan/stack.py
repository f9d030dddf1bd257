"""Find the stack of transformer layers in a model and choose which of them to keep."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from xtc_ds.errors import PlanError, Problem
from xtc_ds.plan.names import nearest
from xtc_ds.zero import full_numel

__all__ = ["LayerStack", "even_layers", "find_layer_stack"]


@dataclass(frozen=True)
class LayerStack:
    """The repeated layers of a model and the dotted name of the list that holds them."""

    name: str
    layers: nn.ModuleList


def find_layer_stack(model: nn.Module, prefix: str | None = None, path: str = "layer_reduction") -> LayerStack:
    """The ModuleList at ``prefix``, or else the list of equal layers that holds the most parameters.

    Raises PlanError if ``prefix`` is not a list of layers, if the model has none, or if another list holds more than
    half as many parameters as the largest (encoder-decoder models); the message lists the candidates.
    """
    stacks = {name: module for name, module in model.named_modules() if _is_stack(module)}
    if prefix is not None:
        if prefix in stacks:
            return LayerStack(prefix, stacks[prefix])
        hint = nearest(prefix, stacks) or "none"
        raise PlanError([Problem(f"{path}.module_name_prefix", f"'{prefix}' is not a list of layers; nearest: {hint}")])
    # A stack inside a layer of another stack (experts, sub-blocks) is not the model's own.
    outer = {n: m for n, m in stacks.items() if not any(n.startswith(f"{other}.") for other in stacks)}
    if not outer:
        raise PlanError([Problem(path, "found no list of equal layers in the model; name it in module_name_prefix")])
    sizes = {name: sum(full_numel(p) for p in module.parameters()) for name, module in outer.items()}
    best = max(sizes, key=lambda name: sizes[name])
    rivals = [name for name in outer if name != best and sizes[name] * 2 > sizes[best]]
    if rivals:
        names = ", ".join([best, *rivals])
        raise PlanError([Problem(path, f"several lists of layers: {names}; name one in module_name_prefix")])
    return LayerStack(best, outer[best])


def even_layers(depth: int, keep: int) -> tuple[int, ...]:
    """``keep`` of ``depth`` layer indices, evenly spaced: the last of each ``depth // keep`` layers, centred.

    6 of 12 gives XTC's (1, 3, 5, 7, 9, 11), 5 of 12 gives (2, 4, 6, 8, 10), 4 of 12 gives TinyBERT's
    (2, 5, 8, 11). If more than half of the layers are kept, the dropped ones are evenly spaced. Raises ValueError
    unless ``1 <= keep <= depth``.
    """
    if not 1 <= keep <= depth:
        raise ValueError(f"cannot keep {keep} of {depth} layers")
    if 2 * keep <= depth:
        stride = depth // keep
        start = stride - 1 + (depth - stride * keep) // 2
        return tuple(start + i * stride for i in range(keep))
    dropped_count = depth - keep
    if not dropped_count:
        return tuple(range(depth))
    stride = depth // dropped_count
    start = (stride - 1) // 2 + (depth - stride * dropped_count) // 2
    dropped = {start + i * stride for i in range(dropped_count)}
    return tuple(i for i in range(depth) if i not in dropped)


def _is_stack(module: nn.Module) -> bool:
    if not isinstance(module, nn.ModuleList) or len(module) == 0:
        return False
    kinds = {type(layer) for layer in module}
    # A layer must be a block of several modules: a list of bare Linears is a head or a set of projections.
    return len(kinds) == 1 and any(True for _ in module[0].children())
