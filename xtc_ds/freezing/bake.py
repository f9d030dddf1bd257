"""``bake``: write the compressed weights into the parameters and make the model an ordinary one again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xtc_ds.compression_state import state_of, update_state
from xtc_ds.errors import ExportError
from xtc_ds.freezing.freeze import is_frozen, unwrap, warn_before_freeze
from xtc_ds.freezing.shrinkage import set_attributes
from xtc_ds.freezing.trained_parts import TrainedParts
from xtc_ds.layer_kinds import layer_kind, layer_kind_of
from xtc_ds.layers import CompressedLayer, compressed_layers, restore_class
from xtc_ds.zero import is_partitioned, modifiable

__all__ = ["bake"]


def bake(model: Any) -> None:
    """Turn a compressed model, in place, into a dense one that computes the same, with all schedules at their end.

    model: a compressed model, or the engine that trained it (any ZeRO stage; all ranks have to call this).

    Weights are replaced by their dequantized values, in their own dtype, times the masks; what pruning with related
    modules removes is cut off. Masks and scores are deleted, and modules get their original class back, except those
    with quantized inputs, which keep quantizing them. Parameters stay the same objects unless their shape changes. A
    model without compressed layers is left unchanged.

    Training cannot continue afterwards: an engine's optimizer still holds the unquantized weights, and does not know
    the parameters that were cut.

    Raises ExportError, before anything is changed, for a frozen model, and if a parameter that has to shrink is
    partitioned by ZeRO-3.
    """
    module = unwrap(model)
    if is_frozen(module):
        raise ExportError("the model is frozen: its weights are packed; bake the trained model that it was made from")
    with torch.no_grad():
        parts = TrainedParts(module)
        _check_partitioned(module, parts)
        warn_before_freeze(module)
        _write_tensors(module, parts)
    for name, shrunk in parts.shrinkage.modules.items():
        layer_kind(shrunk.kind).set_sizes(module.get_submodule(name), shrunk.after)
    set_attributes(module, parts.shrinkage.attributes)
    if parts.shrinkage:
        update_state(module, shrinkage=parts.shrinkage.after(state_of(module).shrinkage))
    for _, layer in list(compressed_layers(module)):
        _release(layer)


def _check_partitioned(model: nn.Module, parts: TrainedParts) -> None:
    for name in parts.shrinkage.modules:
        for key, parameter in model.get_submodule(name)._parameters.items():
            if parameter is not None and is_partitioned(parameter):
                raise ExportError(
                    f"{name}.{key} is partitioned by ZeRO-3 and cannot shrink in place; call xtc_ds.freeze, which "
                    "makes a smaller copy, or load the consolidated checkpoint into a model without ZeRO-3 first"
                )


def _write_tensors(model: nn.Module, parts: TrainedParts) -> None:
    written: set[int] = set()
    for name, module in model.named_modules():
        if not isinstance(module, CompressedLayer) and name not in parts.modules:
            continue
        kind = layer_kind_of(module)
        assert kind is not None
        for key in kind.tensors:
            parameter, buffer = module._parameters.get(key), module._buffers.get(key)
            # Write a tied weight once: quantizing already quantized values again may change them.
            if parameter is not None and id(parameter) not in written and _changes(module, key, name, parts):
                written.add(id(parameter))
                _write(parts, name, module, key, parameter)
            if parameter is None and key == "weight" and parts.changes_values(name):
                value = parts.applied(name, key, _weight(parts, name, module, torch.empty(0)))
                module._parameters[key] = nn.Parameter(value.contiguous())
            if buffer is not None:
                module._buffers[key] = parts.applied(name, key, buffer)


def _changes(module: nn.Module, key: str, name: str, parts: TrainedParts) -> bool:
    coded = isinstance(module, CompressedLayer) and module.coded_row is not None
    return (key == "weight" and (coded or parts.changes_values(name))) or name in parts.modules


def _write(parts: TrainedParts, name: str, module: nn.Module, key: str, parameter: nn.Parameter) -> None:
    with modifiable([parameter]):
        trained = _weight(parts, name, module, parameter.detach()) if key == "weight" else parameter.detach()
        value = parts.applied(name, key, trained)
        if value.shape == parameter.shape:
            parameter.data.copy_(value)
            return
    module._parameters[key] = nn.Parameter(value.contiguous(), requires_grad=parameter.requires_grad)


def _weight(parts: TrainedParts, name: str, module: nn.Module, w: Tensor) -> Tensor:
    """The trained weight, dequantized if the layer quantizes it, in the layout in which the module stores it."""
    coded = isinstance(module, CompressedLayer) and module.coded_row is not None
    if not coded and not parts.changes_values(name):
        return w
    assert isinstance(module, CompressedLayer)
    w_OI = parts.final_weight(name) if parts.changes_values(name) else module.layer_kind.outputs_first(w)
    if coded:
        w_OI = module.shipped_encoding(w_OI).decode(w_OI.dtype).reshape(w_OI.shape)
    return module.layer_kind.as_stored(w_OI)


def _release(layer: CompressedLayer) -> None:
    assert isinstance(layer, nn.Module)
    inputs = tuple(each for transform in layer.input_transforms if (each := transform.finished()) is not None)
    if not inputs:
        restore_class(layer)
        return
    for transform in layer.weight_transforms:
        transform.remove(layer)
    layer.weight_transforms, layer.input_transforms = (), inputs
    layer.set_step(0)
