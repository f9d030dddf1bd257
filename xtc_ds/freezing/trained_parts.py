"""The final tensors of a model after all techniques, as they would be shipped now: values, masks and cuts.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xtc_ds.layer_kinds import layer_kind
from xtc_ds.layers import compressed_layers
from xtc_ds.plan.changes import cut_dims, cut_shape, module_changes
from xtc_ds.plan.rows import Row
from xtc_ds.plan.shrinkage import Shrinkage, ShrunkModule
from xtc_ds.zero import gathered, is_partitioned

__all__ = ["TrainedParts"]


class TrainedParts:
    """Values, masks and cuts of all modules of ``model``. With ZeRO-3 all ranks have to use it.

    modules: module name to its ``plan.changes.ModuleChange`` (cuts and zeros); unchanged modules are left out.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = {name: layer for name, layer in compressed_layers(model) if layer.weight_transforms}
        self.modules = module_changes(each.row for layer in self.layers.values() for each in layer.weight_transforms)
        self.kept: dict[Row, Tensor] = {}
        self._weight_masks: dict[str, Tensor] = {}
        self._bias_masks: dict[str, Tensor] = {}
        attributes: dict[str, dict[str, int]] = {}
        for name, layer in self.layers.items():
            for each in layer.weight_transforms:
                if (kept := each.kept_units(layer)) is not None:
                    self.kept[each.row] = kept.cpu()
                _add_mask(self._weight_masks, name, each.weight_mask(layer))
                _add_mask(self._bias_masks, name, each.bias_mask(layer))
                attributes |= {module: dict(values) for module, values in each.module_attributes(model).items()}
        self.shrinkage = Shrinkage(_shrunk_modules(model, self), attributes)

    def changes_values(self, name: str) -> bool:
        """Whether the final weight differs from the parameter ``weight``, apart from quantization and masks."""
        layer = self.layers.get(name)
        return layer is not None and any(each.changes_values for each in layer.weight_transforms)

    def final_weight(self, name: str) -> Tensor:
        """The trained float weight of a compressed layer, outputs first, before quantization, masks and cuts."""
        layer = self.layers[name]
        assert isinstance(layer, nn.Module)
        weight = layer._parameters.get("weight")
        partitioned = weight is not None and is_partitioned(weight)
        with gathered([] if weight is None else [weight]):
            # A technique that replaced the parameter ignores this value.
            w = torch.empty(0) if weight is None else layer.layer_kind.outputs_first(weight.detach())
            for each in layer.weight_transforms:
                w = each.final_weight(layer, w)
            return w.clone() if partitioned else w

    def weight_mask(self, name: str) -> Tensor | None:
        """Mask of the weights to keep, if pruned ones become zeros: bool, (O, I) or (O, I, kH, kW); else None."""
        return self._weight_masks.get(name)

    def bias_mask(self, name: str) -> Tensor | None:
        """Mask of the bias values to keep, if pruned ones become zeros: bool, (O,); else None."""
        return self._bias_masks.get(name)

    def cut(self, name: str, key: str, value: Tensor, output_first: bool = False) -> Tensor:
        """The remaining part of the whole tensor ``key`` of a module; ``value`` itself if nothing is cut.

        output_first: ``value`` is a weight in layout (O, I), independent of the layout in which the module stores it.
        """
        for dim, index in self.kept_indices(name, key, tuple(value.shape), output_first):
            value = value.index_select(dim, index.to(value.device))
        return value

    def kept_indices(
        self, name: str, key: str, shape: tuple[int, ...], output_first: bool = False
    ) -> list[tuple[int, Tensor]]:
        """(dimension, kept indices) for each dimension along which a module's tensor ``key`` of ``shape`` is cut."""
        if name not in self.modules:
            return []
        cuts = [(dim, self.kept[cut.row]) for dim, cut in cut_dims(self.modules[name], key, output_first)]
        return [(dim, kept.repeat_interleave(shape[dim] // len(kept)).nonzero().flatten()) for dim, kept in cuts]

    def applied(self, name: str, key: str, value: Tensor) -> Tensor:
        """A float tensor of a module after pruning: masked values set to zero, and cut parts removed."""
        mask = self.weight_mask(name) if key == "weight" else self.bias_mask(name) if key == "bias" else None
        if mask is not None:
            mask = mask.to(value.device)
            if key == "weight":
                mask = layer_kind(self.modules[name].kind).as_stored(mask)
            value = value.masked_fill(~mask, 0)
        return self.cut(name, key, value)


def _add_mask(masks: dict[str, Tensor], name: str, mask: Tensor | None) -> None:
    if mask is not None:
        masks[name] = masks[name] & mask.cpu() if name in masks else mask.cpu()


def _shrunk_modules(model: nn.Module, parts: TrainedParts) -> dict[str, ShrunkModule]:
    modules = {}
    for name, change in parts.modules.items():
        if not change.cuts:
            continue
        before = layer_kind(change.kind).shape_of(model.get_submodule(name))
        dims = cut_dims(change, "weight", output_first=True)
        modules[name] = ShrunkModule(change.kind, before, cut_shape(before, dims))
    return modules
