"""The key ``fp16_mixed_quantize``."""

from __future__ import annotations

from dataclasses import dataclass

from xtc_ds.config.keys import key

__all__ = ["MixedQuantize"]


@dataclass(frozen=True, kw_only=True)
class MixedQuantize:
    """Mixing of float and quantized weights during training."""

    enabled: bool = key("Switches the mixing on.", False, examples=(True,))
    quantize_change_ratio: float = key(
        "How much the share of real weights falls per applied optimizer step. No effect while enabled is false.",
        0.001,
        examples=(0.1,),
        minimum=0,
        maximum=1,
    )
