"""The rows of activation quantization."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xtc_ds.formats import ActivationFormat
from xtc_ds.plan.rows import CodedInputRow, Kind

__all__ = ["ActivationRow"]


@dataclass(frozen=True)
class ActivationRow(CodedInputRow):
    """Quantization of one module's input."""

    module: str
    kind: Kind
    group: str
    format: ActivationFormat
    offset: int

    def added_tensors(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """The buffer for the observed range of a static format."""
        if self.format.calibration == "static":
            yield f"{self.module}.activation_quantizer.x_min_max", (2,)

    def add_to_report(self, report: dict[str, Any], technique: str, packed_bytes: Mapping[str, int]) -> None:
        """Added to the module's entry in "modules"."""
        entry = next((entry for entry in report["modules"] if entry["module"] == self.module), None)
        if entry is None:
            entry = {"module": self.module, "kind": self.kind}
            report["modules"].append(entry)
        entry["activation"] = {
            "group": self.group,
            "bits": self.format.bits,
            "symmetric": self.format.symmetric,
            "range_calibration": self.format.calibration,
            "schedule_offset": self.offset,
        }

    def treatment(self) -> Hashable:
        """Format and offset."""
        return self.format, self.offset

    def main_cells(self) -> Mapping[str, str]:
        """Bits and offset."""
        return {"activations": f"int{self.format.bits} {self.format.calibration}", "from step": str(self.offset)}
