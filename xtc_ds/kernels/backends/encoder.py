"""Whole layers of BERT-like encoders.

Shape legend: D = width of the model, I = inner width of the attention, F = inner width of the feed-forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xtc_ds.kernels.backend import Inputs, ProductSpec
from xtc_ds.kernels.backends.native import Native, NativeLinear
from xtc_ds.kernels.native import EncoderLayer, native_library

__all__ = ["EncoderSpec", "ModuleByModule", "NativeEncoder"]


@dataclass(frozen=True)
class EncoderSpec:
    """linears: query, key, value (I, D), attention output (D, I), and the two feed-forward layers (F, D), (D, F)."""

    linears: tuple[ProductSpec, ...]
    heads: int


class NativeEncoder(Native):
    """Attention, feed-forward and both residual sums with layer normalization in one call."""

    def refuses(self, spec: EncoderSpec, inputs: Inputs) -> str | None:
        """See ``Backend``."""
        for linear in spec.linears:
            reason = NativeLinear().refuses(linear, inputs)
            if reason is not None:
                return reason
        library = native_library()
        if library is None or not library.has_encoder:
            return "it needs a processor with AVX-512 VNNI" + ("" if library is None else f", not {library.path_name}")
        if inputs.dtype != torch.float32:
            return f"it computes in float32, not {inputs.dtype}"
        return _sizes_refused(spec)

    def bind(self, spec: EncoderSpec) -> type[EncoderLayer]:
        """See ``Backend``."""
        return EncoderLayer


class ModuleByModule:
    """Runs each module of the layer separately."""

    name = "module by module"

    def refuses(self, spec: EncoderSpec, inputs: Inputs) -> str | None:
        """Always None: nothing is refused."""
        return None

    def bind(self, spec: EncoderSpec) -> None:
        """Returns None: there is nothing to bind."""

    def instructions(self) -> str | None:
        """See ``Backend``."""
        return None


def _sizes_refused(spec: EncoderSpec) -> str | None:
    query, key, value, after, up, down = (linear.shape for linear in spec.linears)
    inner, width = query
    if inner % (32 * spec.heads):
        return f"heads of {inner / spec.heads:g} features are no multiples of 32"
    if key != query or value != query or after != (width, inner) or up[1] != width or down != (width, up[0]):
        return "its linear layers have other sizes than those of a layer of BERT"
    if len({linear.activation for linear in spec.linears[:3]}) > 1:
        return "query, key and value quantize their input differently"
    return None
