"""The implementation of ``freeze``: copies a compressed model with packed, masked and smaller tensors.

Shape legend: O and I = output and input features or channels, G = scale groups.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from xtc_ds.clone import clone_model
from xtc_ds.compression_state import state_of, update_state
from xtc_ds.errors import ExportError
from xtc_ds.freezing.pack_weight import pack_weight
from xtc_ds.freezing.shrinkage import set_attributes
from xtc_ds.freezing.trained_parts import TrainedParts
from xtc_ds.layer_kinds import layer_kind, weight_shape
from xtc_ds.layers import CompressedLayer, restore_class
from xtc_ds.plan.kept import found_kept
from xtc_ds.plan.stored import float_weight, stored_weight
from xtc_ds.runtime.packed import PackedLayer, PackedSpec, share_packed_tensors
from xtc_ds.runtime.packed_layers import build_packed
from xtc_ds.storage import Dense, Elementwise, Masked, Sparse, StoredWeight
from xtc_ds.techniques.registry import techniques
from xtc_ds.zero import gathered

__all__ = ["FLOATS", "Freezer"]

FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Freezer:
    """Freezes one model. With ZeRO-3 all ranks have to use it."""

    def __init__(self, model: nn.Module, float_dtype: str) -> None:
        self.model, self.dtype_name = model, float_dtype
        self.float_dtype = FLOATS[float_dtype]
        self.packed: dict[tuple[int, StoredWeight], PackedLayer] = {}
        self.uses = Counter(id(m._parameters.get("weight")) for m in model.modules())
        self.names = {id(p): name for name, p in [*model.named_parameters(), *model.named_buffers()]}
        # Finished copies by the id of the original.
        self.copies: dict[int, Tensor] = {}
        self.techniques = techniques()
        with torch.no_grad():
            self.parts = TrainedParts(model)

    def run(self) -> nn.Module:
        """Build and return the frozen copy."""
        with torch.no_grad():
            for name in self.parts.modules:
                self._copy_pruned(name, self.model.get_submodule(name))
            frozen = clone_model(self.model, self.tensor, self.replace, self._is_for_training)
            self._write_final_weights(frozen)
        for module in list(frozen.modules()):
            restore_class(module)
        self._shrink(frozen)
        update_state(frozen, float_dtype=self.dtype_name, frozen=True)
        return frozen

    def tensor(self, old: Tensor, stored: bool) -> Tensor:
        """The CPU copy of ``old`` in its dtype; if ``stored``, rounded to the file's dtype. One copy per original."""
        if id(old) not in self.copies:
            copy = self._whole(old)
            self._keep(old, self.rounded(copy, self.names.get(id(old), "")) if stored else copy)
        return self.copies[id(old)]

    def rounded(self, value: Tensor, name: str) -> Tensor:
        """Floats rounded to ``float_dtype``, in their own dtype. Raises ExportError if a value overflows."""
        if not value.is_floating_point():
            return value
        stored = value.to(self.float_dtype)
        if bool((stored.isinf() & ~value.isinf()).any()):
            raise ExportError(
                f"{name}: values up to {float(value.abs().max()):.4g} do not fit {self.float_dtype}; "
                'set "export": {"float_dtype": "bfloat16"} or "float32"'
            )
        return stored.to(value.dtype)

    def replace(self, name: str, module: nn.Module) -> nn.Module | None:
        """A packed layer for a module whose weight or input is quantized, or whose weight is sparse; else None."""
        if not isinstance(module, CompressedLayer):
            return None
        assert isinstance(module, nn.Module)
        stored = self._stored(name, module)
        input_row = module.coded_input_row
        if isinstance(stored, Dense) and input_row is None:
            return None
        kind = module.layer_kind.packed
        assert kind is not None
        spec = PackedSpec(kind, stored, input_row.format if input_row else None)
        layer = build_packed(spec, module, self._weight_dtype(module))
        self._fill_weight(layer, stored, name, module)
        for key in module.layer_kind.tensors.keys() - {"weight"}:
            if (old := module._parameters.get(key)) is not None:
                layer._parameters[key] = self.tensor(old, True)  # type: ignore[assignment]
        for each in module.input_transforms:
            if (range_ := each.stored_range(module, name)) is not None:
                layer.activation_quantizer.x_min_max.copy_(self.tensor(range_, True))  # type: ignore[union-attr, operator, arg-type]
        return layer

    def _stored(self, name: str, module: CompressedLayer) -> Elementwise | Masked | Sparse:
        """How the weight is stored; for a pruned weight according to its current masks."""
        weight = module._parameters.get("weight")  # type: ignore[attr-defined]
        mask, change = self.parts.weight_mask(name), self.parts.modules.get(name)
        found = None if change is None or mask is None else found_kept(change, mask)
        if module.coded_row is not None:
            return stored_weight(module.coded_row, change, found)
        shape = tuple(self.parts.final_weight(name).shape) if weight is None else weight_shape(module)  # type: ignore[arg-type]
        if found is not None and self.uses[id(weight)] == 1:
            return float_weight(shape, change, self.float_dtype.itemsize, found)
        shrunk = self.parts.shrinkage.modules.get(name)
        return Dense(shrunk.after if shrunk else shape)

    def _fill_weight(
        self, layer: PackedLayer, stored: Elementwise | Masked | Sparse, name: str, module: CompressedLayer
    ) -> None:
        weight = module._parameters.get("weight")  # type: ignore[attr-defined]
        # If weights are tied, the second layer shares the tensors of the first.
        twin = self.packed.setdefault((id(module if weight is None else weight), stored), layer)
        if twin is not layer:
            share_packed_tensors(layer, twin)
            return
        row = module.coded_row
        if row is None:
            whole = self._weight_copy(name, module)
            if module.layer_kind.stored_order is not None:
                whole = nn.Parameter(module.layer_kind.outputs_first(whole).contiguous(), False)
            if isinstance(stored, Dense):
                layer._parameters["weight"] = whole  # type: ignore[assignment]
                return
            tensors = stored.pack(whole.detach(), {}, self.parts.weight_mask(name))
        else:
            encoded = module.shipped_encoding(self.parts.final_weight(name))
            if not all(bool(part.isfinite().all()) for part in encoded.parts.values()):
                raise ExportError(f"{name}.weight holds NaN or infinite values; it cannot be packed")
            tensors = pack_weight(encoded, row, stored, self.parts, name)
        for part, value in tensors.items():
            getattr(layer, part).copy_(self.rounded(value.cpu(), f"{name}.{part}"))

    def _copy_pruned(self, name: str, module: nn.Module) -> None:
        """Copy a module's float tensors in advance, masked and cut."""
        packed = isinstance(module, CompressedLayer) and module.coded_row is not None
        shipped = layer_kind(self.parts.modules[name].kind).tensors
        for key, old in [*module._parameters.items(), *module._buffers.items()]:
            if old is not None and key not in shipped:  # a mask, or scores
                self._keep(old, torch.empty(0))
            elif old is not None and not (packed and key == "weight"):
                value = self.parts.applied(name, key, self._whole(old))
                self._keep(old, self.rounded(value, f"{name}.{key}"))

    def _weight_copy(self, name: str, module: CompressedLayer) -> Tensor:
        """The trained float weight in the module's own layout: masked, cut and rounded."""
        assert isinstance(module, nn.Module)
        if not self.parts.changes_values(name):
            return self.tensor(module._parameters["weight"], True)  # type: ignore[arg-type]
        value = module.layer_kind.as_stored(self.parts.final_weight(name)).cpu().contiguous()
        return nn.Parameter(self.rounded(self.parts.applied(name, "weight", value), f"{name}.weight"), False)

    def _write_final_weights(self, frozen: nn.Module) -> None:
        for name, layer in self.parts.layers.items():
            copy = frozen.get_submodule(name)
            if self.parts.changes_values(name) and not isinstance(copy, PackedLayer):
                copy._parameters["weight"] = self._weight_copy(name, layer)  # type: ignore[assignment]

    def _weight_dtype(self, module: nn.Module) -> torch.dtype:
        parameters = (p for p in (module._parameters.get("weight"), *module.parameters()) if p is not None)
        return next(parameters).dtype

    def _is_for_training(self, name: str) -> bool:
        return any(each.training_only(name) for each in self.techniques)

    def _whole(self, old: Tensor) -> Tensor:
        with gathered([old]):
            return old.detach().cpu().clone()

    def _keep(self, old: Tensor, copy: Tensor) -> None:
        # Modules that share the original also share the copy.
        self.copies[id(old)] = nn.Parameter(copy, requires_grad=False) if isinstance(old, nn.Parameter) else copy

    def _shrink(self, frozen: nn.Module) -> None:
        """Update sizes and attributes of the copy, and record the shrinkage on top of that of an earlier ``bake``."""
        shrinkage = self.parts.shrinkage
        if not shrinkage:
            return
        for name, shrunk in shrinkage.modules.items():
            module = frozen.get_submodule(name)
            if not isinstance(module, PackedLayer):
                layer_kind(shrunk.kind).set_sizes(module, shrunk.after)
        set_attributes(frozen, shrinkage.attributes)
        update_state(frozen, shrinkage=shrinkage.after(state_of(self.model).shrinkage))
