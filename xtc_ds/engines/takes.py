"""The description of which weights and inputs a container stores as codes."""

from __future__ import annotations

from dataclasses import dataclass

from xtc_ds.engines.base import refuse
from xtc_ds.formats import ActivationFormat
from xtc_ds.runtime.packed import PackedSpec

__all__ = ["OTHER_CONTAINERS", "Takes"]

OTHER_CONTAINERS = "use the container onnx, openvino or dense"


@dataclass(frozen=True)
class Takes:
    """Which packed layers a container stores as codes. Weights without affine codes are decoded, others are refused.

    container: its name in error messages. embeddings: whether embedding tables are stored as codes; else decoded.
    formats: the supported weight formats, any other is refused; None for all affine formats.
    shifted: whether zero offsets, code offsets and masks are supported; else weights must be code times scale.
    one_scale: whether a weight must have a single scale. inputs: the required input quantization; None for any or none.
    """

    container: str
    embeddings: bool = False
    formats: tuple[str, ...] | None = None
    shifted: bool = False
    one_scale: bool = False
    inputs: ActivationFormat | None = None

    def as_codes(self, name: str, spec: PackedSpec) -> bool:
        """Whether the layer is stored as codes, else as floats. Raises ExportError if the container refuses it."""
        if spec.kind == "embedding" and not self.embeddings:
            return False
        if self.formats is None and (spec.coded is None or not spec.coded.format.affine):
            return False
        reason = self._refused(spec)
        if reason is not None:
            raise refuse(self.container, name, reason, OTHER_CONTAINERS)
        return True

    def _refused(self, spec: PackedSpec) -> str | None:
        if self.formats is not None and spec.format not in self.formats:
            return f"its weight is {spec.format or 'float'}, not {' or '.join(self.formats)}"
        if not self.shifted and (not spec.weight_format.scaled_codes or spec.masked):
            return f"its format {spec.format} has no zero at code 0"
        scales = spec.grouping.count(spec.shape)
        if self.one_scale and scales != 1:
            return f"it has {scales} scales, not one"
        if self.inputs is not None and spec.activation != self.inputs:
            return f"its input is not quantized to {self.inputs.bits} bits per token, symmetric"
        return None
