"""Update optimizers, schedulers and parameter lists that were made before the model was compressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from xtc_ds.techniques.registry import techniques

__all__ = ["dropped_parameters", "follow_optimizer", "follow_parameters"]

# Lists in torch schedulers that do not hold one value per group, even if their length happens to be the same.
_NOT_PER_GROUP = {"_milestones", "_schedule_phases"}

Dropped = Mapping[int, nn.Parameter]


def dropped_parameters(before: Iterable[nn.Parameter], model: nn.Module) -> dict[int, nn.Parameter]:
    """The parameters of ``before`` that are not in the model any more, by id. ``before``: its parameters until then."""
    alive = {id(parameter) for parameter in model.parameters()}
    return {id(parameter): parameter for parameter in before if id(parameter) not in alive}


def follow_optimizer(optimizer: Any, model: nn.Module, dropped: Dropped, scheduler: Any = None) -> Any:
    """Remove dropped parameters from an optimizer, and groups left empty by that also from its scheduler, in place.

    A parameter that a technique added joins the group of the parameter it belongs to, or else the first group. Anything
    but a torch optimizer (None, a callable) is returned unchanged.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    for parameter in [key for key in optimizer.state if id(key) in dropped]:
        del optimizer.state[parameter]
    before = list(optimizer.param_groups)
    # Change the list and the groups in place, because schedulers hold references to them.
    optimizer.param_groups[:] = _living_groups(before, dropped)
    living = {id(group) for group in optimizer.param_groups}
    kept = [index for index, group in enumerate(before) if id(group) in living]
    if len(kept) < len(before):
        _follow_scheduler(scheduler, len(before), kept)
    _add_new_parameters(optimizer.param_groups, model)
    return optimizer


def follow_parameters(parameters: Any, model: nn.Module, dropped: Dropped) -> Any:
    """Like ``follow_optimizer`` for the ``model_parameters`` argument: returns a new list; None stays None.

    parameters: parameters, (name, parameter) pairs, or groups of parameters.
    """
    if parameters is None:
        return None
    items = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    if items and isinstance(items[0], dict):
        groups = _living_groups([dict(group) for group in items], dropped)
        _add_new_parameters(groups, model)
        return groups
    group = {"params": [item for item in items if id(_parameter(item)) not in dropped]}
    _add_new_parameters([group], model)
    return group["params"]


def _living_groups(groups: Iterable[dict[str, Any]], dropped: Dropped) -> list[dict[str, Any]]:
    living = []
    for group in groups:
        members = group["params"]
        items = [members] if isinstance(members, torch.Tensor) else list(members)
        kept = [index for index, item in enumerate(items) if id(_parameter(item)) not in dropped]
        group["params"] = [items[index] for index in kept]
        if "param_names" in group:
            group["param_names"] = [group["param_names"][index] for index in kept]
        if kept or not items:
            living.append(group)
    return living


def _follow_scheduler(scheduler: Any, groups: int, kept: list[int]) -> None:
    """Remove the values of removed groups from every list that a scheduler keeps per group."""
    if getattr(scheduler, "optimizer", None) is None:
        return
    for name, value in vars(scheduler).items():
        if name == "_schedulers":
            for part in value:
                _follow_scheduler(part, groups, kept)
        elif isinstance(value, list) and len(value) == groups and name not in _NOT_PER_GROUP:
            setattr(scheduler, name, [value[index] for index in kept])


def _add_new_parameters(groups: list[dict[str, Any]], model: nn.Module) -> None:
    """Add the parameters that techniques added to the model to existing groups, in place."""
    if not groups:
        return
    home = {id(_parameter(item)): group for group in groups for item in group["params"]}
    for name, parameter, neighbour in _added_parameters(model):
        if id(parameter) in home:
            continue
        group = home.get(id(neighbour), groups[0])
        named = bool(group["params"]) and isinstance(group["params"][0], tuple)
        group["params"].append((name, parameter) if named else parameter)
        if "param_names" in group:
            group["param_names"].append(name)


def _added_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Parameter | None]]:
    """(name, parameter, the parameter whose group it joins) for each parameter that techniques added."""
    for technique in techniques():
        yield from technique.added_parameters(model)


def _parameter(item: Any) -> Any:
    return item[1] if isinstance(item, tuple) else item
