"""The ``quantization_config`` of a packed checkpoint: enough to build the empty packed model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from xtc_ds.errors import ExportError, FormatError
from xtc_ds.export.packed import PackedLayer, PackedSpec
from xtc_ds.formats import ActivationFormat, Grouping, get_format

__all__ = ["FORMAT_VERSION", "QUANT_METHOD", "XtcQuantizationConfig", "describe_packed"]

QUANT_METHOD = "xtc"
FORMAT_VERSION = 1


class XtcQuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What ``config.json`` says of the packed layers.

    format_version: of the file layout; newer versions are refused.
    float_dtype: how scales and leftover floats are stored.
    layers: a list of ``{"modules": [names], "kind", "format", "grouping", "groups", "shape", "activation"}``.
    tied: module name to the earlier module whose weight it shares.

    Raises ExportError where a value is not understood.
    """

    def __init__(
        self,
        format_version: int = FORMAT_VERSION,
        float_dtype: str = "float32",
        layers: list[dict[str, Any]] | None = None,
        tied: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if format_version != FORMAT_VERSION:
            raise ExportError(
                f"quantization_config.format_version: found {format_version}, this xtc_ds reads {FORMAT_VERSION}; "
                "upgrade xtc_ds"
            )
        self.quant_method = QUANT_METHOD
        self.format_version = format_version
        self.float_dtype = float_dtype
        self.layers = layers or []
        self.tied = tied or {}

    def specs(self) -> dict[str, PackedSpec]:
        """Module name to spec."""
        result = {}
        for index, entry in enumerate(self.layers):
            try:
                spec = _read_spec(entry)
                result.update(dict.fromkeys(entry["modules"], spec))
            except (KeyError, TypeError, ValueError, FormatError) as error:
                raise ExportError(f"quantization_config.layers[{index}]: not understood: {error!r}") from error
        return result


def describe_packed(model: nn.Module, float_dtype: str) -> XtcQuantizationConfig:
    """The config of a frozen model; layers of the same kind share an entry."""
    entries: dict[PackedSpec, list[str]] = {}
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    modules = dict(model.named_modules())
    for name, module in modules.items():
        packed = isinstance(module, PackedLayer)
        if packed:
            entries.setdefault(module.spec, []).append(name)  # type: ignore[arg-type]
        if (weight := module._parameters.get("weight")) is not None:
            owner = first.setdefault(id(weight), name)
            # A float weight may be tied to a module that is not packed.
            if owner != name and (packed or isinstance(modules[owner], PackedLayer)):
                tied[name] = owner
    layers = [{"modules": names, **_write_spec(spec)} for spec, names in entries.items()]
    return XtcQuantizationConfig(FORMAT_VERSION, float_dtype, layers, tied)


def _write_spec(spec: PackedSpec) -> dict[str, Any]:
    activation = spec.activation
    return {
        "kind": spec.kind,
        "format": spec.format,
        "grouping": spec.grouping.kind,
        "groups": spec.grouping.groups,
        "shape": list(spec.shape),
        "activation": None
        if activation is None
        else {
            "bits": activation.bits,
            "symmetric": activation.symmetric,
            "range_calibration": activation.calibration,
        },
    }


def _read_spec(entry: dict[str, Any]) -> PackedSpec:
    if entry["kind"] not in ("linear", "embedding") or entry["grouping"] not in ("tensor", "row", "group"):
        raise ValueError(f"kind {entry['kind']!r}, grouping {entry['grouping']!r}")
    rows, columns = (int(size) for size in entry["shape"])
    activation = entry["activation"]
    if entry["format"] is not None:
        get_format(entry["format"])
    spec = PackedSpec(
        kind=entry["kind"],
        format=entry["format"],
        grouping=Grouping(entry["grouping"], int(entry["groups"])),
        shape=(rows, columns),
        activation=None
        if activation is None
        else ActivationFormat(int(activation["bits"]), bool(activation["symmetric"]), activation["range_calibration"]),
    )
    spec.grouping.count(spec.shape)
    return spec
