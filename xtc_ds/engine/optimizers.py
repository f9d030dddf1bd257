"""Keeping optimizers, schedulers and parameter lists that were made before in line with the rewritten model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["dropped_parameters", "follow_optimizer", "follow_parameters"]

# Lists of torch schedulers that have another length than the number of groups, if not by chance.
_NOT_PER_GROUP = {"_milestones", "_schedule_phases"}

Dropped = Mapping[int, nn.Parameter]


def dropped_parameters(before: Iterable[nn.Parameter], model: nn.Module) -> dict[int, nn.Parameter]:
    """Those of ``before`` that are no longer in the model, by id. Parameters that never were in it do not count."""
    alive = {id(parameter) for parameter in model.parameters()}
    return {id(parameter): parameter for parameter in before if id(parameter) not in alive}


def follow_optimizer(optimizer: Any, model: nn.Module, dropped: Dropped, scheduler: Any = None) -> Any:
    """Remove dropped parameters from an optimizer, and groups that held nothing else, also from its scheduler.

    The parameters of the distillation projection, if there is one, join the first group and are trained with
    its options. What is no torch optimizer (None, a callable) is returned as it is.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    for parameter in [key for key in optimizer.state if id(key) in dropped]:
        del optimizer.state[parameter]
    before = list(optimizer.param_groups)
    # The list and the groups stay the same objects: schedulers hold them.
    optimizer.param_groups[:] = _living_groups(before, dropped)
    living = {id(group) for group in optimizer.param_groups}
    kept = [index for index, group in enumerate(before) if id(group) in living]
    if len(kept) < len(before):
        _follow_scheduler(scheduler, len(before), kept)
    _add_projection(optimizer.param_groups, model)
    return optimizer


def follow_parameters(parameters: Any, model: nn.Module, dropped: Dropped) -> Any:
    """The same for the ``model_parameters`` argument, which is not changed; None stays None.

    Parameters, (name, parameter) pairs, or groups of parameters.
    """
    if parameters is None:
        return None
    items = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    if items and isinstance(items[0], dict):
        groups = _living_groups([dict(group) for group in items], dropped)
        _add_projection(groups, model)
        return groups
    group = {"params": [item for item in items if id(_parameter(item)) not in dropped]}
    _add_projection([group], model)
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
    """Take the values of removed groups out of every list that a scheduler keeps per group."""
    if getattr(scheduler, "optimizer", None) is None:
        return
    for name, value in vars(scheduler).items():
        if name == "_schedulers":
            for part in value:
                _follow_scheduler(part, groups, kept)
        elif isinstance(value, list) and len(value) == groups and name not in _NOT_PER_GROUP:
            setattr(scheduler, name, [value[index] for index in kept])


def _add_projection(groups: list[dict[str, Any]], model: nn.Module) -> None:
    projection = getattr(model, "xtc_projection", None)
    if projection is None or not groups:
        return
    known = {id(_parameter(item)) for group in groups for item in group["params"]}
    first = groups[0]
    named = bool(first["params"]) and isinstance(first["params"][0], tuple)
    for name, parameter in projection.named_parameters(prefix="xtc_projection"):
        if id(parameter) not in known:
            first["params"].append((name, parameter) if named else parameter)
            if "param_names" in first:
                first["param_names"].append(name)


def _parameter(item: Any) -> Any:
    return item[1] if isinstance(item, tuple) else item
