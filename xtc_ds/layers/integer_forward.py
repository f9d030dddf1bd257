"""Decide which layers multiply integer codes in training, and encode their weights once per optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat
from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends import TRAINING
from xtc_ds.kernels.choose import choose
from xtc_ds.kernels.training import WeightCodes, WeightLayout, plain_layout
from xtc_ds.layers.transforms import Coding
from xtc_ds.zero import is_partitioned

__all__ = ["IntegerForward"]

_DEVICES = ("cpu", "cuda")


class IntegerForward:
    """Mixin that caches the codes of a layer's weight while an engine guarantees that the weight does not change."""

    # Set if quantization is the only transform of the weight that is active.
    coding: Coding | None = None
    # The config's "runtime": {"integer_forward": ...}.
    integer_forward: bool = True
    # The config's "runtime": {"backward_dtype": ...}; None: the dtype of training.
    backward_dtype: torch.dtype | None = None
    # An engine increments it after each change of the weights; None: no engine tracks changes, so nothing is cached.
    weight_epoch: int | None = None
    # Memory layout of the codes, by device type; on devices without an entry, floats are multiplied.
    _layouts: Mapping[str, WeightLayout] = {}
    _layouts_chosen_for: tuple[object, ...] | None = None
    _kept_codes: tuple[object, WeightCodes] | None = None

    def integers_possible(self, activation_format: ActivationFormat | None) -> bool:
        """Whether integers can be multiplied with the active formats on at least one device type."""
        # Decided here because the forward may be traced, and only again if the formats have changed.
        key = (self.integer_forward, self.coding, activation_format)
        if key != self._layouts_chosen_for:
            self._layouts_chosen_for, self._layouts = key, self._chosen_layouts(activation_format)
        return bool(self._layouts)

    def _chosen_layouts(self, activation_format: ActivationFormat | None) -> dict[str, WeightLayout]:
        if not self.integer_forward or self.coding is None:
            return {}
        spec = ProductSpec(self.coding.format, self.coding.grouping, self.coding.shape, activation_format)
        chosen = (
            (device, choose(TRAINING, spec, Inputs(torch.device(device))).backend.bind(spec)) for device in _DEVICES
        )
        return {device: layout for device, layout in chosen if layout is not None}

    def integers_pay(self, x: Tensor) -> bool:
        """Whether this input is multiplied as integer codes."""
        return x.device.type in self._layouts and x.is_floating_point()

    def weight_codes(self, w_OI: Tensor) -> WeightCodes:
        """The codes of the weight; they are cached if an engine tracks changes of the weight."""
        # Caching the codes of a weight that ZeRO-3 partitions would keep the whole weight in memory on every rank.
        if self.weight_epoch is None or is_partitioned(w_OI) or torch.compiler.is_compiling():
            return self._encode(w_OI)
        key = (self.weight_epoch, self.coding, w_OI._version, w_OI.data_ptr(), w_OI.dtype, _sample(w_OI))
        if self._kept_codes is None or self._kept_codes[0] != key:
            self._kept_codes = (key, self._encode(w_OI))
        return self._kept_codes[1]

    def _encode(self, w_OI: Tensor) -> WeightCodes:
        assert self.coding is not None
        encoded = self.coding.format.encode(self.coding.grouping.split(w_OI.detach()))
        codes = encoded.codes.reshape(w_OI.shape)
        scale = encoded.scale.flatten().expand(len(codes)).contiguous()
        # torch.compile can trace only plain torch operations.
        layout = plain_layout if torch.compiler.is_compiling() else self._layouts[codes.device.type]
        return layout(codes, scale, self.coding.format)

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_kept_codes", "_layouts_chosen_for")
        return {key: value for key, value in self.__dict__.items() if key not in dropped}


def _sample(w: Tensor) -> tuple[float, ...]:
    """A few values, to detect weights replaced through ``.data``, which does not increment the tensor's version."""
    if w.device.type != "cpu":
        return ()  # synchronizing with another device would cost more than encoding
    flat = w.detach().flatten() if w.is_contiguous() else w.detach().t().flatten()
    return tuple(flat[:: max(1, flat.numel() // 16)].tolist())
