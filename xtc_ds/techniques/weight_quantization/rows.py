"""The rows of weight quantization."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from xtc_ds.formats import Grouping, WeightFormat, format_for_bits
from xtc_ds.plan.rows import CodedRow, Kind
from xtc_ds.techniques.weight_quantization.config import Rounding
from xtc_ds.techniques.weight_quantization.schedule import BitSchedule

__all__ = ["WeightRow"]


@dataclass(frozen=True)
class WeightRow(CodedRow):
    """Weight quantization of one module.

    shape: (O, I), output features first even for Conv1D, whose stored weight is (I, O); for a Conv2d
        (O, I / groups, kH, kW).
    rounding: "stochastic" rounds at random in training; shipped weights are always rounded to nearest.
    change_ratio: by how much the share of the float weight falls per step after each change of bits; None: no mixing.
    assignment: whether a learned format assigns codes to weights once ("fixed") or in every forward ("nearest").
    """

    module: str
    kind: Kind
    group: str
    shape: tuple[int, ...]
    schedule: BitSchedule
    grouping: Grouping
    symmetric: bool
    family: str
    rounding: Rounding = "nearest"
    change_ratio: float | None = None
    assignment: Literal["fixed", "nearest"] = "fixed"

    def format_at(self, step: int) -> WeightFormat | None:
        """The format used after ``step`` applied optimizer steps; None before the offset."""
        bits = self.schedule.at(step)
        return None if bits is None else format_for_bits(bits, self.symmetric, self.family)

    @property
    def target_format(self) -> WeightFormat:
        """The format at the end of the schedule, in which the weight is stored."""
        return format_for_bits(self.schedule.target_bits, self.symmetric, self.family)

    @property
    def grouping_place(self) -> str:
        """The key in the group, even if the shared parameters set the value."""
        return f"compression_training.weight_quantization.different_groups.{self.group}.params.quantize_groups"

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Added as an entry of "modules"."""
        report["modules"].append(
            {
                "module": self.module,
                "kind": self.kind,
                "group": self.group,
                "shape": list(self.shape),
                "format": self.target_format.name,
                "bits": self.target_format.bits,
                "start_bits": self.schedule.start_bits,
                "target_bits": self.schedule.target_bits,
                "schedule_offset": self.schedule.offset,
                "quantization_period": self.schedule.period,
                "scale_groups": self.grouping.count(self.shape),
                "rounding": self.rounding,
                "quantize_change_ratio": self.change_ratio,
                **({"assignment": self.assignment} if self.target_format.learned else {}),
                "bytes_before": 4 * math.prod(self.shape),
                "bytes_after": packed_bytes[self.module],
            }
        )

    def treatment(self) -> Hashable:
        """All fields but the names of module and group."""
        return replace(self, module="", group="")

    def main_cells(self) -> Mapping[str, str]:
        """Shape, format and offset."""
        schedule = self.schedule
        falls = schedule.start_bits > schedule.target_bits
        groups = self.grouping.kind if self.grouping.kind != "group" else f"{self.grouping.groups} groups"
        target = (f"{schedule.start_bits:g} bit -> " if falls else "") + f"{self.target_format.name} / {groups}"
        target += ", stochastic" if self.rounding == "stochastic" else ""
        target += f", {self.assignment} codes" if self.target_format.learned else ""
        target += "" if self.change_ratio is None else f", mixed by {self.change_ratio:g} a step"
        start = str(schedule.offset) + (f", full at {schedule.last_change}" if falls else "")
        return {"shape": " x ".join(map(str, self.shape)), "weights": target, "from step": start}
