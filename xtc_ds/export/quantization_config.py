"""The ``quantization_config`` of a packed checkpoint: enough to build the empty packed model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from xtc_ds.errors import ExportError, FormatError
from xtc_ds.export.packed import PackedLayer, PackedSpec
from xtc_ds.export.shrinkage import Shrinkage
from xtc_ds.formats import ActivationFormat, Grouping, get_format

__all__ = ["FORMAT_VERSION", "QUANT_METHOD", "XtcQuantizationConfig", "describe_packed"]

QUANT_METHOD = "xtc"
# Version 1 knows linear layers and tables; pruned models and convolutions are written as version 2.
FORMAT_VERSION = 2

# Dimensions of a weight.
_DIMENSIONS = {"linear": 2, "embedding": 2, "conv2d": 4}


class XtcQuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What ``config.json`` says of the packed layers.

    format_version: of the file layout; newer versions are refused.
    float_dtype: how scales and leftover floats are stored.
    layers: a list of ``{"modules": [names], "kind", "format", "grouping", "groups", "shape", "activation"}``.
    tied: module name to the earlier module whose weight it shares.
    pruned: what is smaller than the model's own config says (``Shrinkage.to_json``).

    Raises ExportError where a value is not understood.
    """

    def __init__(
        self,
        format_version: int = 1,
        float_dtype: str = "float32",
        layers: list[dict[str, Any]] | None = None,
        tied: dict[str, str] | None = None,
        pruned: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if format_version not in range(1, FORMAT_VERSION + 1):
            raise ExportError(
                f"quantization_config.format_version: found {format_version}, this xtc_ds reads 1 to {FORMAT_VERSION}; "
                "upgrade xtc_ds"
            )
        self.quant_method = QUANT_METHOD
        self.format_version = format_version
        self.float_dtype = float_dtype
        self.layers = layers or []
        self.tied = tied or {}
        self.pruned = pruned or {}

    def shrinkage(self) -> Shrinkage:
        """What pruning made smaller."""
        if not self.pruned:
            return Shrinkage()
        try:
            return Shrinkage.from_json(self.pruned)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ExportError(f"quantization_config.pruned: not understood: {error!r}") from error

    def to_dict(self) -> dict[str, Any]:
        """As ``config.json`` holds it."""
        content: dict[str, Any] = super().to_dict()
        if not self.pruned:
            del content["pruned"]
        return content

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
            entries.setdefault(module.spec, []).append(name)
        if (weight := module._parameters.get("weight")) is not None:
            owner = first.setdefault(id(weight), name)
            # A float weight may be tied to a module that is not packed.
            if owner != name and (packed or isinstance(modules[owner], PackedLayer)):
                tied[name] = owner
    layers = [{"modules": names, **_write_spec(spec)} for spec, names in entries.items()]
    shrinkage: Shrinkage | None = getattr(model, "xtc_shrinkage", None)
    version = 2 if shrinkage or any(spec.kind == "conv2d" or spec.masked for spec in entries) else 1
    return XtcQuantizationConfig(version, float_dtype, layers, tied, shrinkage.to_json() if shrinkage else None)


def _write_spec(spec: PackedSpec) -> dict[str, Any]:
    activation = spec.activation
    return {
        **({"masked": True} if spec.masked else {}),
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
    if entry["kind"] not in _DIMENSIONS or entry["grouping"] not in ("tensor", "row", "group"):
        raise ValueError(f"kind {entry['kind']!r}, grouping {entry['grouping']!r}")
    shape = tuple(int(size) for size in entry["shape"])
    if len(shape) != _DIMENSIONS[entry["kind"]] or min(shape) < 1:
        raise ValueError(f"shape {shape} of a {entry['kind']}")
    activation = entry["activation"]
    if entry["format"] is not None:
        get_format(entry["format"])
    spec = PackedSpec(
        kind=entry["kind"],
        format=entry["format"],
        grouping=Grouping(entry["grouping"], int(entry["groups"])),
        shape=shape,
        activation=None
        if activation is None
        else ActivationFormat(int(activation["bits"]), bool(activation["symmetric"]), activation["range_calibration"]),
        masked=bool(entry.get("masked", False)),
    )
    spec.grouping.count(spec.shape)
    return spec
