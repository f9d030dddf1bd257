"""Capture hidden states and attention of a stack of layers during one forward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xtc_ds.distillation.attention_record import AttentionRecord, add_listener, remove_listener
from xtc_ds.distillation.loss import switched_off
from xtc_ds.errors import DistillationError

__all__ = ["Capture", "StoppedEarly", "Tap"]


@dataclass(slots=True)
class Capture:
    """Hidden states (B, L, D) by index (0: input of the first layer, i + 1: output of layer i); attention by layer."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, AttentionRecord] = field(default_factory=dict)


class StoppedEarly(Exception):
    """Raised inside a forward after everything requested has been captured."""


class Tap:
    """Context manager that captures tensors when ``stack`` runs inside it; ``take`` returns them.

    stack: the layers, in order. hidden: indices of the hidden states to keep, 0 to ``len(stack)``.
    attention: indices of the layers whose attention to keep (the model needs ``enable_attention_tap``).
    values: whether attention records include values besides queries and keys.
    stop_when_complete: end the forward with ``StoppedEarly`` as soon as everything is captured.
    hidden_keys, attention_keys: the config keys that have to be 0 to distil without hidden states, or attention, for
        messages.

    Hooks exist only inside the context. Recomputation in a backward pass is ignored. Raises DistillationError from
    inside the forward if a layer cannot be captured.
    """

    def __init__(
        self,
        stack: nn.ModuleList,
        hidden: Collection[int] = (),
        attention: Collection[int] = (),
        stop_when_complete: bool = False,
        values: bool = True,
        hidden_keys: Sequence[str] = (),
        attention_keys: Sequence[str] = (),
    ) -> None:
        self.stack = stack
        self.values = values
        self.stop_when_complete = stop_when_complete
        self.wanted_hidden = frozenset(hidden)
        self.wanted_attention = frozenset(attention)
        self._without_hidden, self._without_attention = switched_off(hidden_keys), switched_off(attention_keys)
        self._capture = Capture()
        self._handles: list[RemovableHandle] = []
        self._owner: dict[int, int] = {}
        self._with_grad = False

    def __enter__(self) -> Tap:
        self.close()
        self._with_grad = torch.is_grad_enabled()
        if 0 in self.wanted_hidden:
            self._handles.append(self.stack[0].register_forward_pre_hook(self._keep_input, with_kwargs=True))
        for index in self.wanted_hidden - {0}:
            self._handles.append(self.stack[index - 1].register_forward_hook(_OutputHook(self, index)))
        if self.wanted_attention:
            self._owner = {id(m): i for i in self.wanted_attention for m in self.stack[i].modules()}
            add_listener(self._keep_attention)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        if kind is not None and kind is not StoppedEarly:
            self._capture = Capture()

    def close(self) -> None:
        """Remove the hooks and discard what was captured."""
        self._stop_listening()
        self._capture = Capture()

    def take(self) -> Capture:
        """Return the capture and drop it from the tap. Raises DistillationError if something is missing."""
        self._stop_listening()
        capture, self._capture = self._capture, Capture()
        if missing := self.wanted_hidden - capture.hidden.keys():
            raise DistillationError(
                f"hidden states {sorted(missing)} did not pass through the layer stack; "
                f"{self._without_hidden} to distil without hidden states"
            )
        if missing := self.wanted_attention - capture.attention.keys():
            raise DistillationError(
                f"layers {sorted(missing)} did not show their attention; "
                f"{self._without_attention} to distil without attention"
            )
        return capture

    def _stop_listening(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._owner = {}
        remove_listener(self._keep_attention)

    def _keep_input(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        candidates = [*args[:1], kwargs.get("hidden_states"), *kwargs.values()]
        for value in candidates:
            if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 3:
                self.keep_hidden(0, value)
                return
        raise DistillationError(f"{type(layer).__name__} was called without a (batch, length, width) tensor")

    def keep_hidden(self, index: int, state: Any) -> None:
        """Keep one hidden state; called by the hooks."""
        if _in_backward():
            return
        if index in self._capture.hidden:
            raise DistillationError(
                f"hidden state {index} passed twice in one forward; layers that run more than once "
                f"cannot be mapped: {self._without_hidden}"
            )
        if not isinstance(state, Tensor):
            raise DistillationError(f"layer {index - 1} returned {type(state).__name__}, not a tensor")
        self._capture.hidden[index] = state
        self._stop_if_complete()

    def _keep_attention(self, module: nn.Module, record: AttentionRecord) -> None:
        if record.has_sinks:
            kind = type(module).__name__
            raise DistillationError(
                f"the attention of {kind} cannot be observed: it has attention sinks; {self._without_attention} to "
                "distil without attention"
            )
        index = self._owner.get(id(module))
        # Self-attention comes first in a layer; ignore a cross-attention after it.
        if index is None or index in self._capture.attention or _in_backward():
            return
        if self._with_grad and not torch.is_grad_enabled():
            raise DistillationError(
                "attention cannot be distilled through reentrant gradient checkpointing; use "
                f'gradient_checkpointing_kwargs={{"use_reentrant": False}} or {self._without_attention}'
            )
        self._capture.attention[index] = record if self.values else replace(record, value=None)
        self._stop_if_complete()

    def _stop_if_complete(self) -> None:
        captured = len(self._capture.hidden) + len(self._capture.attention)
        if self.stop_when_complete and captured == len(self.wanted_hidden) + len(self.wanted_attention):
            raise StoppedEarly


class _OutputHook:
    def __init__(self, tap: Tap, index: int) -> None:
        self.tap, self.index = tap, index

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> None:
        self.tap.keep_hidden(self.index, output[0] if isinstance(output, (tuple, list)) else output)


def _in_backward() -> bool:
    # True while gradient checkpointing recomputes layers during a backward pass.
    return bool(torch._C._current_graph_task_id() != -1)
