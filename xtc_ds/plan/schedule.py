"""When a technique starts and how the bits fall, as pure functions of the applied optimizer steps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BitSchedule", "bits_at"]


def bits_at(steps_since_enabled: int, start: float, target: float, period: int) -> float:
    """Bits in force ``steps_since_enabled`` applied steps after the technique started.

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
    # The exact floor of log2 of a ratio of integers, free of float rounding.
    return max(target, start - (steps_since_enabled // period).bit_length())


@dataclass(frozen=True)
class BitSchedule:
    """Bits as a function of the applied optimizer step; nothing before ``offset``."""

    offset: int
    start_bits: float
    target_bits: float
    period: int

    def at(self, step: int) -> float | None:
        """Bits in force at ``step``, or None while the technique has not started."""
        if step < self.offset:
            return None
        return bits_at(step - self.offset, self.start_bits, self.target_bits, self.period)

    @property
    def last_change(self) -> int:
        """The first step at which the target bits are in force."""
        step = self.offset
        drops = 0
        while (bits := self.at(step)) is not None and bits > self.target_bits:
            step = self.offset + (drops + 1 if self.period == 0 else self.period * 2**drops)
            drops += 1
        return step
