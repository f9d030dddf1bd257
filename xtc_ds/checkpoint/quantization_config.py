"""The ``quantization_config`` of a packed checkpoint: enough to build the empty packed model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from xtc_ds.checkpoint.shrinkage_json import read_shrinkage, write_shrinkage
from xtc_ds.checkpoint.spec_json import read_spec, write_spec
from xtc_ds.compression_state import state_of
from xtc_ds.errors import ExportError, FormatError
from xtc_ds.layer_kinds import packed_class
from xtc_ds.plan.shrinkage import Shrinkage
from xtc_ds.plan.sizes import FLOAT_BYTES
from xtc_ds.runtime.packed import PackedLayer, PackedSpec, weight_identity

__all__ = ["FORMAT_VERSION", "QUANT_METHOD", "XtcQuantizationConfig", "describe_packed"]

QUANT_METHOD = "xtc"
# Version 1 knows linear layers and tables; pruned models and convolutions are written as version 2, and those with
# sparse weights that are stored without their zeros as version 3. Version 4 has formats with other parts than scales
# and zeros, factored weights and shared ones.
FORMAT_VERSION = 4


class XtcQuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What ``config.json`` says of the packed layers.

    format_version: of the file layout; newer versions are refused.
    float_dtype: how scales and leftover floats are stored.
    layers: a list of ``{"modules": [names], "kind", "format", "grouping", "groups", "shape", "activation"}``.
    tied: module name to the earlier module whose weight it shares.
    pruned: what is smaller than the model's own config says (see ``shrinkage_json``).
    about: what the model card tells: ``original_bytes`` of the uncompressed model, ``scores`` by name.

    Raises ExportError where a value is not understood.
    """

    def __init__(
        self,
        format_version: int = 1,
        float_dtype: str = "float32",
        layers: list[dict[str, Any]] | None = None,
        tied: dict[str, str] | None = None,
        pruned: dict[str, Any] | None = None,
        about: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if type(format_version) is not int or format_version not in range(1, FORMAT_VERSION + 1):
            raise ExportError(
                f"quantization_config.format_version: found {format_version}, this xtc_ds reads 1 to {FORMAT_VERSION}; "
                "upgrade xtc_ds"
            )
        if float_dtype not in FLOAT_BYTES:
            raise ExportError(
                f"quantization_config.float_dtype: found {float_dtype!r}; allowed: {', '.join(FLOAT_BYTES)}"
            )
        given = (("layers", layers, list), ("tied", tied, dict), ("pruned", pruned, dict), ("about", about, dict))
        for key, value, kind in given:
            if value is not None and not isinstance(value, kind):
                raise ExportError(f"quantization_config.{key}: found {value!r}; expected a {kind.__name__}")
        self.quant_method = QUANT_METHOD
        self.format_version = format_version
        self.float_dtype = float_dtype
        self.layers = layers or []
        self.tied = tied or {}
        self.pruned = pruned or {}
        self.about = about or {}

    def shrinkage(self) -> Shrinkage:
        """What pruning made smaller."""
        if not self.pruned:
            return Shrinkage()
        try:
            return read_shrinkage(self.pruned)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ExportError(f"quantization_config.pruned: not understood: {error!r}") from error

    def to_dict(self) -> dict[str, Any]:
        """As ``config.json`` holds it."""
        content: dict[str, Any] = super().to_dict()
        for key in ("pruned", "about"):
            if not content[key]:
                del content[key]
        return content

    def specs(self) -> dict[str, PackedSpec]:
        """Module name to spec."""
        result: dict[str, PackedSpec] = {}
        for index, entry in enumerate(self.layers):
            try:
                spec, names = read_spec(entry), entry["modules"]
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise ValueError(f"modules {names!r}")
                if repeated := result.keys() & set(names):
                    raise ValueError(f"{min(repeated)} is in another entry, too")
                result.update(dict.fromkeys(names, spec))
            except (KeyError, TypeError, ValueError, AttributeError, FormatError) as error:
                raise ExportError(f"quantization_config.layers[{index}]: not understood: {error!r}") from error
        return result

    def shared_tensors(self) -> dict[str, str]:
        """Tensors that a file leaves out, to the tensor that it holds in their place.

        Those of tied modules, and the parts of a bank but for the first module of ``specs`` that has them.
        """
        specs, result = self.specs(), {}
        for name, owner in self.tied.items():
            keys = [
                "weight",
                *(part.name for each in (name, owner) if each in specs for part in specs[each].weight.parts()),
            ]
            result.update({f"{name}.{key}": f"{owner}.{key}" for key in keys})
        first: dict[str, str] = {}
        for name, spec in specs.items():
            for part in spec.weight.parts():
                tensor = f"{name}.{part.name}"
                if part.bank is not None and (owner := first.setdefault(part.bank, tensor)) != tensor:
                    result[tensor] = owner
        return result


def describe_packed(model: nn.Module, float_dtype: str) -> XtcQuantizationConfig:
    """The config of a frozen model; layers of the same kind share an entry."""
    entries: dict[PackedSpec, list[str]] = {}
    first: dict[tuple[int, ...], str] = {}
    tied: dict[str, str] = {}
    modules = dict(model.named_modules())
    for name, module in modules.items():
        packed = isinstance(module, PackedLayer)
        if packed:
            entries.setdefault(module.spec, []).append(name)
        # What modules share by a bank is no tie.
        if (identity := weight_identity(module)) and not _has_bank(module):
            owner = first.setdefault(identity, name)
            # A float weight may be tied to a module that is not packed.
            if owner != name and (packed or isinstance(modules[owner], PackedLayer)):
                tied[name] = owner
    layers = [{"modules": names, **write_spec(spec)} for spec, names in entries.items()]
    state = state_of(model)
    shrinkage = state.shrinkage
    versions = [max(spec.weight.version, packed_class(spec.kind).version) for spec in entries]
    version = max(versions, default=1)
    if shrinkage:
        version = max(version, 2)
    pruned = write_shrinkage(shrinkage) if shrinkage else None
    return XtcQuantizationConfig(version, float_dtype, layers, tied, pruned, dict(state.about))


def _has_bank(module: nn.Module) -> bool:
    parts = module.spec.weight.parts() if isinstance(module, PackedLayer) else ()
    return any(part.bank is not None for part in parts)
