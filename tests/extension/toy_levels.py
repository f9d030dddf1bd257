"""A weight format of a user's own package: two learned levels per group (a flexible binarizer).

``w_hat`` is the lower level where ``w`` is below the middle of both, else the higher one. Only the levels learn.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xtc_ds.format_choices import FormatChoice, register_format_choice
from xtc_ds.formats import BitCodes, Encoded, Grouping, Part

__all__ = ["FORMATS", "TwoLevels", "register"]


class TwoLevels(BitCodes):
    """Codes -1 and 0 stand for the lower and the higher of the levels, which start at the means of both sides."""

    parts = (Part("levels", 2, learned=True),)

    def __init__(self) -> None:
        self.set_bits(1, "two_levels1")

    def encode(self, w_GN: Tensor) -> Encoded:
        w_GN = w_GN.float()
        above_GN = w_GN >= w_GN.mean(dim=1, keepdim=True)
        means = [(w_GN * side).sum(1) / side.sum(1).clamp(min=1) for side in (~above_GN, above_GN)]
        return self.encode_with(w_GN, {"levels": torch.stack(means, dim=1)})

    def encode_with(self, w_GN: Tensor, learned: Mapping[str, Tensor]) -> Encoded:
        above_GN = w_GN >= learned["levels"].detach().mean(dim=1, keepdim=True)
        return Encoded(above_GN.to(torch.int8) - 1, learned, self)

    def decode(self, codes_GN: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        low_G1, high_G1 = parts["levels"].amin(1, keepdim=True), parts["levels"].amax(1, keepdim=True)
        return torch.where(codes_GN < 0, low_G1, high_G1)

    def fake_quantize(
        self,
        w: Tensor,
        grouping: Grouping,
        noise: Tensor | None = None,
        float_share: float = 0.0,
        learned: Mapping[str, Tensor] | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        if not learned:
            return super().fake_quantize(w, grouping, noise, float_share)
        w_GN = grouping.split(w)
        codes_GN = self.encode_with(w_GN, learned).codes if codes is None else grouping.split(codes)
        # Autograd knows the gradient of the levels; the weights get zeros.
        w_hat = (self.decode(codes_GN, learned) + 0 * w_GN).to(w.dtype).reshape(w.shape)
        return w_hat if float_share == 0 else float_share * w + (1 - float_share) * w_hat


FORMATS = (TwoLevels(),)


def register() -> None:
    """Let configs ask for the format; what a user's package names as its entry point."""
    register_format_choice(
        FormatChoice("two_levels", (1,), __name__, symmetric_only=True, learned=True, text="two_levels: both learned.")
    )
