"""The Hugging Face quantizer that loads packed checkpoints; registered when ``xtc_ds`` is imported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    AUTO_QUANTIZER_MAPPING,
)
from transformers.quantizers.base import HfQuantizer

from xtc_ds.errors import ExportError
from xtc_ds.export.packed import PackedSpec, share_packed_tensors
from xtc_ds.export.packed_layers import build_packed
from xtc_ds.export.quantization_config import QUANT_METHOD, XtcQuantizationConfig
from xtc_ds.export.saving import make_savable
from xtc_ds.export.shards import check_index
from xtc_ds.export.shrinkage import Shrinkage, check_shrinkage, shrink_empty
from xtc_ds.export.structure import check_tensors
from xtc_ds.export.tensors import file_metadata, stored_tensors
from xtc_ds.export.verify import read_headers, verify_files

__all__ = ["XtcHfQuantizer", "build_frozen", "mark_frozen", "register", "tie_packed_layers"]


class XtcHfQuantizer(HfQuantizer):  # type: ignore[misc]
    """Swaps planned modules for empty packed ones before the weights are read."""

    requires_calibration = True
    quantization_config: XtcQuantizationConfig

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        config = self.quantization_config
        files = [Path(file) for file in kwargs.get("checkpoint_files") or []]
        headers = read_headers(files, config)
        build_frozen(model, config)
        if headers:
            check_tensors(model, headers, config)
            check_index(headers)
            # transformers builds its models under the meta device.
            with torch.device("cpu"):
                verify_files(headers, config)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        tie_packed_layers(model, self.quantization_config)
        mark_frozen(model, self.quantization_config)
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What transformers' own ``save_pretrained`` would write; models that were loaded have another."""
        return stored_tensors(model, self.quantization_config.float_dtype), file_metadata(model)

    def is_serializable(self, **kwargs: Any) -> bool:
        """Packed models can be saved again."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Yes to transformers' Trainer, which would not even predict otherwise; packed layers refuse to be trained."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """As ``is_trainable``."""
        return True


def build_frozen(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Make a plain model the empty shell of a frozen one: pruned modules shrink, packed ones are replaced.

    Packed modules come on the meta device. Raises ExportError where the model has no such module or its shape
    differs, before anything is changed.
    """
    shrinkage, specs = config.shrinkage(), config.specs()
    check_shrinkage(model, shrinkage)
    _check_shapes(model, specs, shrinkage)
    _check_ties(model, specs, config.tied)
    shrink_empty(model, shrinkage)
    _install_packed_layers(model, specs)


def mark_frozen(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Let a filled model know that it is frozen, and how it is stored."""
    model.xtc_float_dtype = config.float_dtype  # type: ignore[assignment]
    model.xtc_shrinkage = config.shrinkage()  # type: ignore[assignment]
    model.xtc_about = config.about  # type: ignore[assignment]
    model.xtc_frozen = True  # type: ignore[assignment]
    make_savable(model)


def _check_shapes(model: nn.Module, specs: dict[str, PackedSpec], shrinkage: Shrinkage) -> None:
    modules = dict(model.named_modules())
    for name, spec in specs.items():
        module = modules.get(name)
        weight = getattr(module, "weight", None)
        if module is None or weight is None:
            raise ExportError(f"the checkpoint packs '{name}', which this model ({type(model).__name__}) lacks")
        shrunk = shrinkage.modules.get(name)
        shape = tuple(weight.shape)[:: -1 if hasattr(module, "nf") else 1] if shrunk is None else shrunk.after
        if shape != spec.shape:
            raise ExportError(f"the checkpoint packs '{name}' of shape {spec.shape}; the model's is {shape}")


def _check_ties(model: nn.Module, specs: dict[str, PackedSpec], tied: dict[str, str]) -> None:
    modules = dict(model.named_modules())
    for name, owner in tied.items():
        pair = [specs.get(each) for each in (name, owner)]
        same = {replace(spec, kind="linear", activation=None) for spec in pair if spec is not None}
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
    # A module may hang in several places; the config names one.
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if id(child) in packed:
                parent._modules[key] = packed[id(child)]


def tie_packed_layers(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Let tied layers share their weights, which the file holds once."""
    for name, owner in config.tied.items():
        share_packed_tensors(model.get_submodule(name), model.get_submodule(owner))


def register() -> None:
    """Make transformers know the quantization method; repeated calls are harmless."""
    AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault(QUANT_METHOD, XtcQuantizationConfig)
    AUTO_QUANTIZER_MAPPING.setdefault(QUANT_METHOD, XtcHfQuantizer)


# On import, because the import may itself be what brings the table into being.
register()
