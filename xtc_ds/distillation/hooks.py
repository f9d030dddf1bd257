"""Forward hooks that are dropped when the model is copied or pickled."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

__all__ = ["AfterForward", "BeforeForward", "ForwardListener"]


class ForwardListener(Protocol):
    """The object that the hooks call."""

    def before_forward(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before the forward of ``model`` with its arguments."""

    def after_forward(self, output: Any) -> Any:
        """Called with the result of the forward, None if it failed; a return value other than None replaces it."""


class _UncopiedHook:
    """Holds the listener; a copied or pickled hook has none and is a no-op.

    So ``copy.deepcopy(student)`` and ``torch.save(student)`` do not include the teacher, while the student itself is
    distilled even if nothing else refers to the distiller.
    """

    def __init__(self, listener: ForwardListener | None = None) -> None:
        self.listener = listener

    def __deepcopy__(self, memo: dict[int, Any]) -> _UncopiedHook:
        return type(self)()

    def __reduce__(self) -> tuple[type[_UncopiedHook], tuple[()]]:
        return (type(self), ())


class BeforeForward(_UncopiedHook):
    """A forward pre-hook."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.listener is not None:
            self.listener.before_forward(module, args, kwargs)


class AfterForward(_UncopiedHook):
    """A forward hook that may replace the output; called with ``None`` if the forward failed."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return None if self.listener is None else self.listener.after_forward(output)
