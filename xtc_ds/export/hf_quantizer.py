"""The Hugging Face quantizer that loads packed checkpoints; registered when ``xtc_ds`` is imported."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import safe_open
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
from xtc_ds.export.shrinkage import Shrinkage, check_shrinkage, shrink_empty
from xtc_ds.export.tensors import file_metadata, stored_tensors

__all__ = ["XtcHfQuantizer", "build_frozen", "mark_frozen", "register", "tie_packed_layers"]


class XtcHfQuantizer(HfQuantizer):  # type: ignore[misc]
    """Swaps planned modules for empty packed ones before the weights are read."""

    requires_calibration = True
    quantization_config: XtcQuantizationConfig

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        _check_files(kwargs.get("checkpoint_files"), self.quantization_config)
        build_frozen(model, self.quantization_config)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        tie_packed_layers(model, self.quantization_config)
        mark_frozen(model, self.quantization_config)
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What ``save_pretrained`` writes: the tensors in the dtypes in which they were read."""
        return stored_tensors(model, self.quantization_config.float_dtype), file_metadata(model)

    def is_serializable(self, **kwargs: Any) -> bool:
        """Packed models can be saved again."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Codes are not trained; train the model that was frozen."""
        return False


def build_frozen(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Make a plain model the empty shell of a frozen one: pruned modules shrink, packed ones are replaced.

    Packed modules come on the meta device. Raises ExportError where the model has no such module or its shape
    differs, before anything is changed.
    """
    shrinkage, specs = config.shrinkage(), config.specs()
    check_shrinkage(model, shrinkage)
    _check_shapes(model, specs, shrinkage)
    shrink_empty(model, shrinkage)
    _install_packed_layers(model, specs)


def mark_frozen(model: nn.Module, config: XtcQuantizationConfig) -> None:
    """Let a filled model know that it is frozen, and how it is stored."""
    model.xtc_float_dtype = config.float_dtype  # type: ignore[assignment]
    model.xtc_shrinkage = config.shrinkage()  # type: ignore[assignment]
    model.xtc_frozen = True  # type: ignore[assignment]


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


def _check_files(files: list[str] | None, config: XtcQuantizationConfig) -> None:
    for file in files or []:
        if not str(file).endswith(".safetensors"):
            raise ExportError(f"{file}: packed checkpoints are safetensors files")
        with safe_open(file, framework="pt") as reader:
            version = (reader.metadata() or {}).get("xtc_format_version")
        if version != str(config.format_version):
            raise ExportError(f"{file}: format version {version}; config.json says {config.format_version}")


def register() -> None:
    """Make transformers know the quantization method; repeated calls are harmless."""
    AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault(QUANT_METHOD, XtcQuantizationConfig)
    AUTO_QUANTIZER_MAPPING.setdefault(QUANT_METHOD, XtcHfQuantizer)


# On import, because the import may itself be what brings the table into being.
register()
