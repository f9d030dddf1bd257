"""Running the teacher: without gradients, in a type of its own, and no further than the losses ask."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.distillation.inputs import check_output, teacher_inputs
from xtc_ds.distillation.logits_cache import LogitsCache, example_keys
from xtc_ds.distillation.taps import Capture, StoppedEarly, Tap
from xtc_ds.errors import DistillationError
from xtc_ds.techniques.kd.config import Distillation
from xtc_ds.zero import is_partitioned

__all__ = ["Teaching"]


class Teaching:
    """Gives what the losses compare the student with.

    hidden, attention: indices of the teacher's hidden states and layers that a loss looks at, as in ``Tap``.
    """

    def __init__(
        self,
        teacher: nn.Module,
        config: Distillation,
        stack: nn.ModuleList,
        hidden: Collection[int],
        attention: Collection[int],
    ) -> None:
        self.teacher = teacher.requires_grad_(False).eval()
        self.config = config
        # Ranks that keep parts of a teacher need each other until its last layer.
        whole = not any(is_partitioned(parameter) for parameter in teacher.parameters())
        stop, values = whole and config.logits_weight == 0, config.attention_type == "relations"
        self._tap = Tap(stack, hidden, attention, stop_when_complete=stop, values=values)
        self._needed = bool(config.logits_weight > 0 or hidden or attention)
        self._cache = LogitsCache(config.cache_folder) if config.cache == "logits" and config.cache_folder else None
        self._checked = False

    def run(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Capture]:
        """The teacher's output (without what nothing asks for) and its layers' tensors for the student's inputs."""
        if not self._needed:
            return {}, Capture()
        given = teacher_inputs(self.teacher, inputs)
        if self._cache is None:
            return self._forward(given)
        keys, device = example_keys(given), next(self.teacher.parameters()).device
        known = self._cache.get(keys, self.teacher)
        if known is not None:
            return {"logits": known.to(device)}, Capture()
        taught, capture = self._forward(given)
        self._cache.put(keys, _one_row_each(taught.get("logits"), len(keys)))
        return taught, capture

    def _forward(self, given: dict[str, Any]) -> tuple[Any, Capture]:
        if self.teacher.training:
            self.teacher.eval()
        device = next(self.teacher.parameters()).device.type
        own_type = self.config.teacher_dtype is not None
        outer = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device) and not own_type
        taught: Any = {}
        # Not inference_mode: autograd saves the teacher's tensors for the student's backward.
        with torch.no_grad(), torch.autocast(device, outer[0], enabled=outer[1]), self._tap:
            try:
                taught = self.teacher(**given)
            except StoppedEarly:
                self._checked = True  # its logits are not looked at
        capture = self._tap.take()
        if not self._checked:
            check_output(taught, "teacher")
            logits = taught.get("logits")
            if logits is not None and not bool(torch.isfinite(logits).all()):
                raise DistillationError("the teacher's logits are not finite; its weights are broken or overflow")
            self._checked = True
        return taught, capture


def _one_row_each(logits: Any, examples: int) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != examples:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DistillationError(
            f'"cache": "logits" keeps one row of logits for each of the {examples} examples; the teacher gave {found}; '
            'set "cache": "none"'
        )
    return logits
