"""Record ``init_compression`` on the model, until an engine is built around it."""

from __future__ import annotations

from torch import nn

from xtc_ds.compression_state import InitCompression, state_of, update_state

__all__ = ["forget_calls", "init_compression_was_called", "recall", "remember"]

_calls = 0


def remember(model: nn.Module, call: InitCompression) -> None:
    """Record on ``model`` that it went through ``init_compression``."""
    global _calls
    _calls += 1
    update_state(model, init_compression=call)


def recall(model: nn.Module) -> InitCompression | None:
    """The ``init_compression`` call that compressed the model or one of its submodules; None if there was none."""
    return next((call for module in model.modules() if (call := state_of(module).init_compression)), None)


def init_compression_was_called() -> bool:
    """Whether this process called ``init_compression`` for any model."""
    return _calls > 0


def forget_calls() -> None:
    """Reset the count, as if ``init_compression`` had not been called."""
    global _calls
    _calls = 0
