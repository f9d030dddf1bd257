"""Copy the structure of a model without its data, hooks and engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar

from torch import Tensor, nn

__all__ = ["clone_model"]

M = TypeVar("M", bound=nn.Module)

# Attributes that DeepSpeed's engine sets on modules; a copy must not refer to the engine.
_ENGINE_PREFIXES = ("ds_", "_external_params", "pre_bwd_fn", "post_bwd_fn", "applied_pre_backward")
# Attributes that accelerate sets when it wraps a module's forward; they refer to the original module.
_ACCELERATE = {"_hf_hook", "_old_forward", "forward"}


def clone_model(
    model: M,
    tensor: Callable[[Tensor, bool], Tensor],
    replace: Callable[[str, nn.Module], nn.Module | None] = lambda name, module: None,
    skip: Callable[[str], bool] = lambda name: False,
) -> M:
    """Return a model of the same classes and attributes, whose tensors come from ``tensor(old, stored)``.

    ``stored`` is False for non-persistent buffers. ``replace(name, module)`` returns a module to use instead of a copy,
    or None. Children for which ``skip(name)`` is True are left out. Shared modules and parameters stay shared. Hooks
    are not copied. All ranks visit modules in the same order, so ``tensor`` may gather partitioned parameters.
    """
    cloner = _Cloner(tensor, replace, skip)
    result = cloner.module("", model)
    # Update layers that refer to other modules outside the module tree.
    for module in cloner.modules.values():
        if hasattr(module, "follow_copies"):
            module.follow_copies(cloner.modules)  # type: ignore[operator]
    return result  # type: ignore[return-value]


class _Cloner:
    def __init__(
        self,
        tensor: Callable[[Tensor, bool], Tensor],
        replace: Callable[[str, nn.Module], nn.Module | None],
        skip: Callable[[str], bool],
    ) -> None:
        self.tensor, self.replace, self.skip = tensor, replace, skip
        self.modules: dict[int, nn.Module] = {}
        self.tensors: dict[int, Tensor] = {}

    def module(self, name: str, old: nn.Module) -> nn.Module:
        if id(old) in self.modules:
            return self.modules[id(old)]
        new = self.replace(name, old)
        if new is None:
            new = self._same_class(name, old)
        self.modules[id(old)] = new
        return new

    def _same_class(self, name: str, old: nn.Module) -> nn.Module:
        new = old.__class__.__new__(old.__class__)
        self.modules[id(old)] = new
        left_behind = _ACCELERATE if "_hf_hook" in old.__dict__ else set()
        for key, value in old.__dict__.items():
            if not key.startswith(_ENGINE_PREFIXES) and key not in left_behind:
                new.__dict__[key] = _attribute(key, value, old, new)
        new.__dict__["_parameters"] = {k: self._tensor(p, True) for k, p in old._parameters.items()}
        new.__dict__["_buffers"] = {
            k: self._tensor(b, False, k not in old._non_persistent_buffers_set) for k, b in old._buffers.items()
        }
        new.__dict__["_non_persistent_buffers_set"] = set(old._non_persistent_buffers_set)
        new.__dict__["_modules"] = {
            key: None if child is None else self.module(f"{name}.{key}".lstrip("."), child)
            for key, child in old._modules.items()
            if not self.skip(f"{name}.{key}".lstrip("."))
        }
        return new

    def _tensor(self, old: Tensor | None, is_parameter: bool, stored: bool = True) -> Tensor | None:
        if old is None:
            return None
        if id(old) not in self.tensors:
            new = self.tensor(old, stored)
            if is_parameter and not isinstance(new, nn.Parameter):
                new = nn.Parameter(new, requires_grad=False)
            self.tensors[id(old)] = new
        return self.tensors[id(old)]


def _attribute(key: str, value: Any, old: nn.Module, new: nn.Module) -> Any:
    if "hooks" in key and isinstance(value, dict):
        return OrderedDict()
    if key == "_compiled_call_impl":
        return None  # the compiled call would run the old module
    if isinstance(value, MethodType) and value.__self__ is old:
        return MethodType(value.__func__, new)
    return value
