"""What pruning leaves of a model's tensors, by the masks as they would be shipped now.

Shape legend: O and I = output and input features or channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from xtc_ds.freezing.heads import head_attributes
from xtc_ds.layer_kinds import layer_kind
from xtc_ds.layers import CompressedLayer, compressed_layers
from xtc_ds.plan.changes import cut_dims, cut_shape, module_changes
from xtc_ds.plan.rows import Row, StructuredRow
from xtc_ds.plan.shrinkage import Shrinkage, ShrunkModule

__all__ = ["PrunedParts"]


class PrunedParts:
    """Masks and cuts of all modules of ``model``. With ZeRO-3 a call for all ranks.

    modules: name to what happens to it (``plan.changes.ModuleChange``); all others stay as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = {name: layer for name, layer in compressed_layers(model) if layer.pruning_rules}
        rules = [rule for layer in self.layers.values() for rule in layer.pruning_rules]
        structured = [rule for rule in rules if isinstance(rule, StructuredRow)]
        self.modules = module_changes(rules)
        self.kept: dict[Row, Tensor] = {}
        self.sparse: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            for rule in layer.pruning_rules:
                if isinstance(rule, StructuredRow):
                    self.kept[rule] = kept = layer.kept_units(rule).cpu()
                    assert (len(kept), int(kept.sum())) == (rule.units, rule.kept), rule.module
                elif (mask := layer.sparse_mask()) is not None:
                    self.sparse[name] = mask.cpu()
        self.shrinkage = _shrinkage(model, self, structured)

    def weight_mask(self, name: str) -> Tensor | None:
        """Which weights of a module stay where pruned ones become zeros, bool, (O, I) or (O, I, kH, kW)."""
        mask = self.sparse.get(name)
        for rule in self._zeroing(name):
            kept = self.kept[rule]
            if rule.technique == "head":
                part = kept.repeat_interleave(rule.shape[1] // rule.units).expand(rule.shape)
            else:
                part = kept.view(-1, *[1] * (len(rule.shape) - 1)).expand(rule.shape)
            mask = part if mask is None else mask & part
        return mask

    def bias_mask(self, name: str) -> Tensor | None:
        """Which values of a module's bias stay where pruned ones become zeros, bool, (O,)."""
        mask = None
        for rule in self._zeroing(name):
            if rule.technique != "head":
                mask = self.kept[rule] if mask is None else mask & self.kept[rule]
        return mask

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

    def _zeroing(self, name: str) -> list[StructuredRow]:
        layer = self.layers.get(name)
        rules = layer.pruning_rules if isinstance(layer, CompressedLayer) else ()
        return [rule for rule in rules if isinstance(rule, StructuredRow) and not rule.related]


def _shrinkage(model: nn.Module, parts: PrunedParts, structured: list[StructuredRow]) -> Shrinkage:
    modules = {}
    for name, pruned in parts.modules.items():
        if not pruned.cuts:
            continue
        before = layer_kind(pruned.kind).shape_of(model.get_submodule(name))
        dims = cut_dims(pruned, "weight", output_first=True)
        modules[name] = ShrunkModule(pruned.kind, before, cut_shape(before, dims))
    attributes: dict[str, dict[str, int]] = {}
    for rule in structured:
        if rule.technique == "head" and rule.related:
            attributes |= head_attributes(model, rule)
    return Shrinkage(modules, attributes)
