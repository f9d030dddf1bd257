"""Trainable parts of a weight format, such as a codebook, stored beside their weight.

Shape legend: O and I = output and input features or channels, G = groups of weights with parts of their own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.formats import Encoded, Grouping, WeightFormat, fake_quantize_weight

__all__ = ["LEARNED_PARTS", "LearnedParts", "learned_parts_of"]

# Name of the layer's submodule that holds them.
LEARNED_PARTS = "weight_quantizer"


class LearnedParts(nn.Module):
    """The learned parts of one weight: initial values (buffers ``<part>_start``) plus trained changes.

    The parameters ``<part>`` are the changes and start at zero. Therefore an optimizer built before the weights are
    first quantized always holds correct values, although its master copies cannot be written from outside.

    shape: shape of the weight, outputs first. fixed: weights keep the codes assigned at the start (buffer ``codes``);
        otherwise they are assigned again in every forward. like: the weight, for dtype and device.
    """

    def __init__(
        self, weight_format: WeightFormat, grouping: Grouping, shape: tuple[int, ...], fixed: bool, like: Tensor
    ) -> None:
        super().__init__()
        self.format, self.grouping, self.fixed = weight_format, grouping, fixed
        self.learned = tuple(part for part in weight_format.parts if part.learned)
        groups = grouping.count(shape)
        for part in self.learned:
            size, nothing = part.shape(groups), math.nan
            change = torch.zeros(size, dtype=like.dtype, device=like.device)
            self.register_parameter(part.name, nn.Parameter(change))
            self.register_buffer(f"{part.name}_start", torch.full(size, nothing, device=like.device))
        if fixed:
            self.register_buffer("codes", torch.zeros(shape, dtype=torch.int8, device=like.device))
        self._started = False

    @property
    def started(self) -> bool:
        """Whether the initial values have been set, here or by a loaded checkpoint."""
        if not self._started:
            self._started = not any(bool(buffer.isnan().any()) for buffer in self._starts())
        return self._started

    def start(self, w_OI: Tensor) -> None:
        """Set initial parts and codes from the current weights."""
        with torch.no_grad():
            encoded = self.format.encode(self.grouping.split(w_OI.detach()))
            for part, buffer in zip(self.learned, self._starts(), strict=True):
                buffer.copy_(encoded.parts[part.name].reshape(buffer.shape))
            if self.fixed:
                self.codes.copy_(encoded.codes.reshape(w_OI.shape))  # type: ignore[operator]
        self._started = True

    def parts(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        """The current parts by name, float32 (G, 1) or (G, size); only those of ``rows`` if each row has its own."""
        result = {}
        for part, start in zip(self.learned, self._starts(), strict=True):
            change: Tensor = getattr(self, part.name)
            if rows is not None and self.grouping.kind == "row":
                start, change = start[rows], change[rows]
            result[part.name] = part.per_group(start.float() + change.float())
        return result

    def forward(self, w_OI: Tensor, rows: Tensor | None, noise: Tensor | None, float_share: float) -> Tensor:
        """The quantized and dequantized weight; ``rows``: indices of the rows that ``w_OI`` holds, None: all."""
        if not self.started:
            assert rows is None, "a schedule starts the parts before rows are looked up"
            self.start(w_OI)
        codes: Tensor | None = self.codes if self.fixed else None  # type: ignore[assignment]
        if codes is not None and rows is not None:
            codes = codes[rows]
        return fake_quantize_weight(w_OI, self.format, self.grouping, noise, float_share, self.parts(rows), codes)

    def encoded(self, w_OI: Tensor) -> Encoded:
        """The codes of the weight to ship now, groups in dim 0. The parameters must be gathered."""
        with torch.no_grad():
            if not self.started:
                return self.format.encode(self.grouping.split(w_OI))
            if not self.fixed:
                return self.format.encode_with(self.grouping.split(w_OI), self.parts())
            return Encoded(self.grouping.split(self.codes), self.parts(), self.format)  # type: ignore[arg-type]

    def _starts(self) -> list[Tensor]:
        return [self.get_buffer(f"{part.name}_start") for part in self.learned]

    def _apply(self, fn: Any, recurse: bool = True) -> LearnedParts:
        # Keep the initial values in float32 when the model is converted to 16 bits.
        exact = {f"{part.name}_start": self.get_buffer(f"{part.name}_start") for part in self.learned}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in exact.items():
            moved = self.get_buffer(name)
            self._buffers[name] = moved.float() if old.is_meta else old.to(moved.device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._started = False  # read it from the loaded values

    def extra_repr(self) -> str:
        return f"{self.format.name}, {'fixed' if self.fixed else 'nearest'}"


def learned_parts_of(layer: Any) -> LearnedParts | None:
    """The learned parts of a layer's weight; None if there are none."""
    # Called in every forward: getattr for a missing submodule costs microseconds.
    found = layer._modules.get(LEARNED_PARTS)
    assert found is None or isinstance(found, LearnedParts)
    return found
