"""Keeping optimizers and parameter lists that were made before in line with the rewritten model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["follow_optimizer", "follow_parameters"]


def follow_optimizer(optimizer: Any, model: nn.Module) -> Any:
    """Remove the parameters of dropped layers from an optimizer, and groups that held nothing else.

    The parameters of the distillation projection, if there is one, are added with the default options. What
    is no torch optimizer (None, a callable) is returned as it is.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    _forget_state(optimizer, model)
    groups = _living_groups(optimizer.param_groups, model)
    optimizer.param_groups = groups
    added = _projection_missing_in(groups, model)
    if added:
        optimizer.add_param_group({"params": added})
    return optimizer


def follow_parameters(parameters: Any, model: nn.Module) -> Any:
    """The same for the ``model_parameters`` argument: parameters, or groups of them; None stays None."""
    if parameters is None:
        return None
    items = list(parameters)
    if items and isinstance(items[0], dict):
        groups = _living_groups(items, model)
        added = _projection_missing_in(groups, model)
        return [*groups, {"params": added}] if added else groups
    alive = _alive(model)
    kept = [parameter for parameter in items if id(parameter) in alive]
    return kept + _projection_missing_in([{"params": kept}], model)


def _living_groups(groups: Iterable[dict[str, Any]], model: nn.Module) -> list[dict[str, Any]]:
    alive = _alive(model)
    living = []
    for group in groups:
        kept = [parameter for parameter in group["params"] if id(parameter) in alive]
        if kept:
            # An optimizer's own group objects stay: schedulers hold them.
            group["params"] = kept
            living.append(group)
    return living


def _forget_state(optimizer: Optimizer, model: nn.Module) -> None:
    alive = _alive(model)
    for parameter in [key for key in optimizer.state if id(key) not in alive]:
        del optimizer.state[parameter]


def _projection_missing_in(groups: list[dict[str, Any]], model: nn.Module) -> list[nn.Parameter]:
    projection = getattr(model, "xtc_projection", None)
    if projection is None:
        return []
    known = {id(parameter) for group in groups for parameter in group["params"]}
    return [parameter for parameter in projection.parameters() if id(parameter) not in known]


def _alive(model: nn.Module) -> set[int]:
    return {id(parameter) for parameter in model.parameters()}
