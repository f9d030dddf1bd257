"""Keeping optimizers, schedulers and parameter lists that were made before in line with the rewritten model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from xtc_ds.techniques.registry import techniques

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

    A parameter that a technique added joins the group of the parameter it belongs to, or else the first group. What
    is no torch optimizer (None, a callable) is returned as it is.
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
    _add_new_parameters(optimizer.param_groups, model)
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
    """Take the values of removed groups out of every list that a scheduler keeps per group."""
    if getattr(scheduler, "optimizer", None) is None:
        return
    for name, value in vars(scheduler).items():
        if name == "_schedulers":
            for part in value:
                _follow_scheduler(part, groups, kept)
        elif isinstance(value, list) and len(value) == groups and name not in _NOT_PER_GROUP:
            setattr(scheduler, name, [value[index] for index in kept])


def _add_new_parameters(groups: list[dict[str, Any]], model: nn.Module) -> None:
    """Let groups made before take in the parameters that the rewrite added."""
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
    """(name, parameter, the parameter whose options it gets) of what techniques added."""
    for technique in techniques():
        yield from technique.added_parameters(model)


def _parameter(item: Any) -> Any:
    return item[1] if isinstance(item, tuple) else item
