"""Build the empty shell of a frozen model from a plain model; its tensors are read from the file later."""

from __future__ import annotations

import torch
from torch import nn

from xtc_ds.checkpoint.quantization_config import XtcQuantizationConfig
from xtc_ds.checkpoint.saving import make_savable
from xtc_ds.compression_state import update_state
from xtc_ds.errors import ExportError
from xtc_ds.freezing.shrinkage import check_shrinkage, shrink_empty
from xtc_ds.layer_kinds import weight_shape
from xtc_ds.plan.shrinkage import Shrinkage
from xtc_ds.runtime.packed import PackedSpec, share_packed_tensors, share_tensor
from xtc_ds.runtime.packed_layers import build_packed

__all__ = ["build_frozen", "mark_frozen", "tie_packed_layers"]


def build_frozen(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Turn a plain model into the empty shell of a frozen one: shrink pruned modules, replace packed ones, in place.

    Packed layers are on the meta device. Raises ExportError, before anything is changed, if the model lacks a module or
    its shape differs.
    """
    shrinkage, specs = config.shrinkage(), config.specs()
    check_shrinkage(model, shrinkage)
    _check_shapes(model, specs, shrinkage)
    _check_ties(model, specs, config.tied)
    shrink_empty(model, shrinkage)
    _install_packed_layers(model, specs)


def mark_frozen(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Record on a loaded model that it is frozen and how it is stored, and give it the packed ``save_pretrained``."""
    shrinkage = config.shrinkage()
    update_state(model, float_dtype=config.float_dtype, shrinkage=shrinkage, about=config.about, frozen=True)
    make_savable(model)


def _check_shapes(model: nn.Module, specs: dict[str, PackedSpec], shrinkage: Shrinkage) -> None:
    modules = dict(model.named_modules())
    for name, spec in specs.items():
        module = modules.get(name)
        weight = getattr(module, "weight", None)
        if module is None or weight is None:
            raise ExportError(f"the checkpoint packs '{name}', which this model ({type(model).__name__}) lacks")
        shrunk = shrinkage.modules.get(name)
        shape = weight_shape(module) if shrunk is None else shrunk.after
        if shape != spec.shape:
            raise ExportError(f"the checkpoint packs '{name}' of shape {spec.shape}; the model's is {shape}")


def _check_ties(model: nn.Module, specs: dict[str, PackedSpec], tied: dict[str, str]) -> None:
    modules = dict(model.named_modules())
    for name, owner in tied.items():
        pair = [specs.get(each) for each in (name, owner)]
        same = {spec.weight for spec in pair if spec is not None}
        floats = len({spec is None or spec.format is None for spec in pair}) == 1
        if name not in modules or owner not in modules or name == owner or owner in tied or len(same) > 1 or not floats:
            raise ExportError(f"quantization_config.tied: '{name}' cannot share the weight of '{owner}'")


def _install_packed_layers(model: nn.Module, specs: dict[str, PackedSpec]) -> None:
    packed: dict[int, nn.Module] = {}
    for name, spec in specs.items():
        module = model.get_submodule(name)
        with torch.device("meta"):
            layer = build_packed(spec, module, module.weight.dtype, "meta")  # type: ignore[arg-type]
        packed[id(module)] = layer.train(module.training)
    # The same module object may have several parents; the config names it once.
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if id(child) in packed:
                parent._modules[key] = packed[id(child)]


def tie_packed_layers(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Make tied layers share their weights, and layers with a common bank its parts, which the file holds once."""
    for name, owner in config.tied.items():
        share_packed_tensors(model.get_submodule(name), model.get_submodule(owner))
    for tensor, owner in config.shared_tensors().items():
        (layer, _, key), (other, _, other_key) = tensor.rpartition("."), owner.rpartition(".")
        if layer not in config.tied:
            share_tensor(model.get_submodule(layer), key, model.get_submodule(other), other_key)
