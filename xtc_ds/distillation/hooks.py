"""Forward hooks that do not travel with the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from xtc_ds.distillation.distiller import Distiller

__all__ = ["AfterForward", "BeforeForward"]


class _StayingHook:
    """Holds the distiller; a copied or pickled hook is dead: it holds and does nothing.

    So ``copy.deepcopy(student)`` and ``torch.save(student)`` leave the teacher behind, while the student
    itself keeps learning even if nobody else keeps the distiller.
    """

    def __init__(self, owner: Distiller | None = None) -> None:
        self.owner = owner

    def __deepcopy__(self, memo: dict[int, Any]) -> _StayingHook:
        return type(self)()

    def __reduce__(self) -> tuple[type[_StayingHook], tuple[()]]:
        return (type(self), ())


class BeforeForward(_StayingHook):
    """A forward pre-hook."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.owner is not None:
            self.owner.before_forward(module, args, kwargs)


class AfterForward(_StayingHook):
    """A forward hook that may replace the output; called with ``None`` when the forward failed."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return None if self.owner is None else self.owner.after_forward(output)
