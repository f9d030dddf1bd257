"""Which layers multiply integer codes while training, and how their weight's codes are made once per step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xtc_ds.formats import ActivationFormat, WeightFormat
from xtc_ds.kernels import product_is_integer
from xtc_ds.kernels.native import CodePlanes, native_library, tile_weight
from xtc_ds.kernels.training import WeightCodes, cpu_multiplies_integers_fast, cuda_multiplies_integers_fast
from xtc_ds.plan.rows import WeightRow
from xtc_ds.zero import is_partitioned

__all__ = ["IntegerForward"]

_LARGEST_STORED_BITS = 8


class IntegerForward:
    """Mixin: the codes of a layer's weight, kept while an engine says that the weight does not change."""

    weight_rule: WeightRow | None
    weight_format: WeightFormat | None
    # The config's "runtime": {"integer_forward": ...}.
    integer_forward: bool = True
    # The config's "runtime": {"backward_dtype": ...}; None: the type of the training.
    backward_dtype: torch.dtype | None = None
    # Counted up by an engine after each change of the weights; None: no engine watches them, nothing is kept.
    weight_epoch: int | None = None
    _cpu_is_fast: bool = False
    _has_kernel: bool = False
    _kept_codes: tuple[object, WeightCodes] | None = None

    def integers_possible(self, activation_format: ActivationFormat | None) -> bool:
        """Whether the formats in force allow an integer product."""
        weight_format, rule = self.weight_format, self.weight_rule
        # Asked here and not in the forward, which may be traced.
        self._cpu_is_fast = cpu_multiplies_integers_fast()
        self._has_kernel = native_library() is not None
        return (
            self.integer_forward
            and weight_format is not None
            and rule is not None
            and weight_format.bits <= _LARGEST_STORED_BITS
            and product_is_integer(weight_format, rule.grouping, activation_format)
        )

    def integers_pay(self, x: Tensor, w_OI: Tensor) -> bool:
        """Whether this product is faster on codes."""
        if x.device.type == "cpu":
            return self._cpu_is_fast and x.is_floating_point()
        outputs, inputs = w_OI.shape
        return x.device.type == "cuda" and x.is_floating_point() and cuda_multiplies_integers_fast(inputs, outputs)

    def weight_codes(self, w_OI: Tensor) -> WeightCodes:
        """The codes of the weight, from memory where an engine vouches for them."""
        # A partitioned weight's codes, kept, would undo the partition.
        if self.weight_epoch is None or is_partitioned(w_OI) or torch.compiler.is_compiling():
            return self._encode(w_OI)
        key = (self.weight_epoch, self.weight_format, w_OI._version, w_OI.data_ptr(), w_OI.dtype, _sample(w_OI))
        if self._kept_codes is None or self._kept_codes[0] != key:
            self._kept_codes = (key, self._encode(w_OI))
        return self._kept_codes[1]

    def _encode(self, w_OI: Tensor) -> WeightCodes:
        assert self.weight_rule is not None
        assert self.weight_format is not None
        encoded = self.weight_format.encode(self.weight_rule.grouping.split(w_OI.detach()))
        codes = encoded.codes.reshape(w_OI.shape)
        scale = encoded.scale.flatten().expand(len(codes)).contiguous()
        tiled = self._has_kernel and codes.device.type == "cpu" and not torch.compiler.is_compiling()
        if not tiled:
            return WeightCodes(codes, scale, None)
        tiles = tile_weight(codes, self.weight_format)
        return WeightCodes(
            codes if tiles.bits == _LARGEST_STORED_BITS else CodePlanes.of(codes, tiles.bits), scale, tiles
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_kept_codes"}


def _sample(w: Tensor) -> tuple[float, ...]:
    """A few values: they tell when averaged weights are put in place through ``.data``, which counts no version."""
    if w.device.type != "cpu":
        return ()  # waiting for another device would cost more than encoding
    flat = w.detach().flatten() if w.is_contiguous() else w.detach().t().flatten()
    return tuple(flat[:: max(1, flat.numel() // 16)].tolist())
