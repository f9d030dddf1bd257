"""What techniques leave of a model's tensors, as it would be shipped now: values, masks and cuts.

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
    """Values, masks and cuts of all modules of ``model``. With ZeRO-3 a call for all ranks.

    modules: name to what happens to its shape and zeros (``plan.changes.ModuleChange``); others keep theirs.
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
        """Whether a module's weight gets other values than its parameter ``weight`` has, codes and masks aside."""
        layer = self.layers.get(name)
        return layer is not None and any(each.changes_values for each in layer.weight_transforms)

    def final_weight(self, name: str) -> Tensor:
        """The trained float weight of a compressed layer, outputs first, before codes, masks and cuts."""
        layer = self.layers[name]
        assert isinstance(layer, nn.Module)
        weight = layer._parameters.get("weight")
        partitioned = weight is not None and is_partitioned(weight)
        with gathered([] if weight is None else [weight]):
            # A technique that replaced the parameter does not look at it.
            w = torch.empty(0) if weight is None else layer.layer_kind.outputs_first(weight.detach())
            for each in layer.weight_transforms:
                w = each.final_weight(layer, w)
            return w.clone() if partitioned else w

    def weight_mask(self, name: str) -> Tensor | None:
        """Which weights of a module stay where pruned ones become zeros, bool, (O, I) or (O, I, kH, kW)."""
        return self._weight_masks.get(name)

    def bias_mask(self, name: str) -> Tensor | None:
        """Which values of a module's bias stay where pruned ones become zeros, bool, (O,)."""
        return self._bias_masks.get(name)

    def cut(self, name: str, key: str, value: Tensor, output_first: bool = False) -> Tensor:
        """What stays of the whole tensor ``key`` of a module; ``value`` itself where nothing goes.

        output_first: ``value`` is a weight turned to (O, I), whichever way the module stores it.
        """
        for dim, index in self.kept_indices(name, key, tuple(value.shape), output_first):
            value = value.index_select(dim, index.to(value.device))
        return value

    def kept_indices(
        self, name: str, key: str, shape: tuple[int, ...], output_first: bool = False
    ) -> list[tuple[int, Tensor]]:
        """(dimension, indices that stay) for each dimension that shrinks of a module's tensor ``key`` of ``shape``."""
        if name not in self.modules:
            return []
        cuts = [(dim, self.kept[cut.row]) for dim, cut in cut_dims(self.modules[name], key, output_first)]
        return [(dim, kept.repeat_interleave(shape[dim] // len(kept)).nonzero().flatten()) for dim, kept in cuts]

    def applied(self, name: str, key: str, value: Tensor) -> Tensor:
        """A float tensor of a module with zeros where pruned parts stay, and without those that go."""
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
