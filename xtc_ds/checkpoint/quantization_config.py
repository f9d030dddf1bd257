"""The ``quantization_config`` of a packed checkpoint: all that is needed to build the empty packed model."""

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
# Version 1: linear and embedding layers. Version 2: also pruned models and convolutions. Version 3: also sparse
# weights stored without their zeros. Version 4: also formats with parts other than scales and zero points, factored
# weights and shared weights.
FORMAT_VERSION = 4


class XtcQuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The ``quantization_config`` block of ``config.json``, which describes the packed layers.

    format_version: version of the file layout; newer versions than FORMAT_VERSION are refused.
    float_dtype: dtype in which scales and the remaining float tensors are stored.
    layers: a list of ``{"modules": [names], "kind", "format", "grouping", "groups", "shape", "activation"}``.
    tied: module name to the name of the earlier module whose weight it shares.
    pruned: which modules are smaller than in the unpruned model (see ``shrinkage_json``).
    about: facts for the model card: ``original_bytes`` of the uncompressed model, ``scores`` by name, and those of
        ``about.check_about``.

    Raises ExportError if a value is invalid.
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
        """Which modules pruning made smaller. Raises ExportError if ``pruned`` is invalid."""
        if not self.pruned:
            return Shrinkage()
        try:
            return read_shrinkage(self.pruned)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ExportError(f"quantization_config.pruned: not understood: {error!r}") from error

    def to_dict(self) -> dict[str, Any]:
        """As plain data for ``config.json``; an empty ``pruned`` or ``about`` is left out."""
        content: dict[str, Any] = super().to_dict()
        for key in ("pruned", "about"):
            if not content[key]:
                del content[key]
        return content

    def specs(self) -> dict[str, PackedSpec]:
        """Map each packed module's name to its spec. Raises ExportError if an entry of ``layers`` is invalid."""
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
        """Map each tensor that is left out of the file to the stored tensor that is used instead.

        These are the tensors of tied modules, and the parts of a bank in all modules of ``specs`` but the first with
        that bank.
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
    """Build the config of a frozen model; layers with equal specs share an entry."""
    entries: dict[PackedSpec, list[str]] = {}
    first: dict[tuple[int, ...], str] = {}
    tied: dict[str, str] = {}
    modules = dict(model.named_modules())
    for name, module in modules.items():
        packed = isinstance(module, PackedLayer)
        if packed:
            entries.setdefault(module.spec, []).append(name)
        # Modules that share parts of a bank are not tied.
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
