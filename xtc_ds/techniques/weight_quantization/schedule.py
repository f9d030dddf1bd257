"""When a technique starts and how its bits fall, as pure functions of the number of applied optimizer steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["BitSchedule", "bits_at", "steps_since_change"]


def bits_at(steps_since_enabled: int, start: float, target: float, period: int) -> float:
    """Bits at ``steps_since_enabled`` applied steps after the technique started.

    DeepSpeed's rule: the first ``period`` steps keep ``start``; each further bit falls after twice as many
    steps as the one before, ``max(target, start - 1 - floor(log2(steps / period)))``. Period 0 drops one
    bit per step from the first step on.
    """
    if start <= target:
        return target
    if period == 0:
        return max(target, start - steps_since_enabled)
    if steps_since_enabled < period:
        return start
    # The exact floor(log2) of a ratio of integers, without float rounding.
    return max(target, start - (steps_since_enabled // period).bit_length())


def steps_since_change(steps_since_enabled: int, start: float, target: float, period: int) -> int:
    """Applied steps since the bits last fell, or since the technique started if they have not fallen yet."""
    drops = math.ceil(max(start - target, 0))
    if period == 0:
        return steps_since_enabled - min(steps_since_enabled, drops)
    drops = min(drops, (steps_since_enabled // period).bit_length())
    # The k-th drop comes after period * 2**(k - 1) steps.
    return steps_since_enabled - (period * 2 ** (drops - 1) if drops else 0)


@dataclass(frozen=True)
class BitSchedule:
    """Bits as a function of the applied optimizer step; nothing before ``offset``."""

    offset: int
    start_bits: float
    target_bits: float
    period: int

    def at(self, step: int) -> float | None:
        """The bits at ``step``, or None if the technique has not started."""
        if step < self.offset:
            return None
        return bits_at(step - self.offset, self.start_bits, self.target_bits, self.period)

    def float_share_at(self, step: int, change_ratio: float | None) -> float:
        """Share r of the unquantized weight in ``r * w + (1 - r) * w_hat`` at ``step``; 1 before the offset.

        After each change of bits, and at the start, r is 1 and falls by ``change_ratio`` per applied step to 0
        (DeepSpeed's ``fp16_mixed_quantize``). Without a ratio nothing is mixed: r is 0 from the offset on.
        """
        if step < self.offset:
            return 1.0
        if change_ratio is None:
            return 0.0
        since = steps_since_change(step - self.offset, self.start_bits, self.target_bits, self.period)
        return max(0.0, 1.0 - change_ratio * since)

    @property
    def last_change(self) -> int:
        """The first step with the target bits."""
        step = self.offset
        drops = 0
        while (bits := self.at(step)) is not None and bits > self.target_bits:
            step = self.offset + (drops + 1 if self.period == 0 else self.period * 2**drops)
            drops += 1
        return step
